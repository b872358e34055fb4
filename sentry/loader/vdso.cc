#include "sentry/loader/vdso.h"

#include <sys/mman.h>

#include "base/safe_copy_unsafe.h"

extern "C" {
extern const std::byte runsc_vdso_image[] __attribute__((visibility("hidden")));
extern const std::byte runsc_vdso_image_end[] __attribute__((visibility("hidden")));
}

namespace sentry::loader {

using base::Result;

namespace {

// The parameter page and the image, in the memory file.
class VdsoPages final : public Mappable {
 public:
  VdsoPages(platform::MemoryFile& file, platform::FileRange pages) : file_(file), pages_(pages) {}
  ~VdsoPages() override { file_.DecRef(pages_); }
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override {
    if (offset >= pages_.length()) return Errno(EINVAL);
    return HostPages{
        .fd = file_.fd(), .offset = pages_.start + offset, .length = pages_.length() - offset, .memory_file = true};
  }
  Identity MappedIdentity() const override { return {}; }
  platform::FileRange pages() const { return pages_; }

 private:
  platform::MemoryFile& file_;
  const platform::FileRange pages_;
};

}  // namespace

std::span<const std::byte> Vdso::Image() {
  return {runsc_vdso_image, static_cast<size_t>(runsc_vdso_image_end - runsc_vdso_image)};
}

Result<base::RefPtr<Vdso>> Vdso::Create(platform::MemoryFile& memory_file, TimeKeeper& time) {
  platform::FileRange range = TRY(memory_file.Allocate(kPageSize + PageRoundUp(Image().size())));
  auto pages = base::MakeRef<VdsoPages>(memory_file, range);
  if (auto written = memory_file.Write(range.start + kPageSize, Image()); !written.ok()) return written.error();
  // The page lives as long as the writer may be called: it holds the pages.
  std::byte* page = memory_file.Map({range.start, range.start + kPageSize}).data();
  time.AddPageWriter([page, pages](uint64_t offset, std::span<const std::byte> bytes) {
    // A page that the host cannot give makes guests ask by system call.
    (void)base::SafeCopy(page + offset, bytes.data(), bytes.size());
  });
  return base::MakeRef<Vdso>(std::move(pages));
}

Result<Addr> Vdso::MapInto(MemoryManager& mm, const MmLimits& limits) {
  // The parameters first, over the whole length, to find room; then the code over its part.
  MMapOptions vvar;
  vvar.length = kPageSize + PageRoundUp(Image().size());
  vvar.prot = PROT_READ;
  vvar.max_prot = PROT_READ;
  vvar.special = true;
  vvar.mappable = pages_;
  vvar.name = "[vvar]";
  Addr at = TRY(mm.MMap(vvar, limits));
  MMapOptions code;
  code.addr = at + kPageSize;
  code.fixed = true;
  code.length = PageRoundUp(Image().size());
  code.prot = PROT_READ | PROT_EXEC;
  code.mappable = pages_;
  code.offset = kPageSize;
  code.special = true;
  code.name = "[vdso]";
  return mm.MMap(code, limits);
}

}  // namespace sentry::loader
