// The program loader, from #! lines to mapped segments: the bytes are the program, its interpreter, and whatever that
// names.
#include <fcntl.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>

#include "base/safe_copy_unsafe.h"
#include "sentry/loader/elf.h"
#include "sentry/loader/loader.h"
#include "sentry/loader/script.h"
#include "tests/unit/sentry_mm/fake_host.h"

namespace sentry {
namespace {

class Bytes final : public FileDescription {
 public:
  explicit Bytes(std::string contents)
      : FileDescription(NewAnonymousPath("fuzz", S_IFREG | 0755), O_RDONLY), contents_(std::move(contents)) {}
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    if (offset >= static_cast<int64_t>(contents_.size())) return size_t{0};
    return to.CopyOut(std::as_bytes(std::span(contents_)).subspan(static_cast<size_t>(offset)));
  }
  Result<RefPtr<Mappable>> GetMappable(uint8_t, bool) override {
    if (!mappable_) mappable_ = base::MakeRef<testing::DonatedFile>(contents_);
    return RefPtr<Mappable>(mappable_);
  }

 private:
  std::string contents_;
  RefPtr<testing::DonatedFile> mappable_;
};

struct Host {
  testing::FakePlatform platform;
  std::unique_ptr<platform::MemoryFile> memory_file;
  MmEnvironment env;
  TimeKeeper time;
  RefPtr<loader::Vdso> vdso;
  Host() {
    base::InstallSafeCopyHandlers();
    memory_file = *platform::MemoryFile::Create({});
    env = {&platform, memory_file.get()};
    vdso = *loader::Vdso::Create(*memory_file, time);
  }
};

}  // namespace
}  // namespace sentry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sentry;
  static Host* host = new Host;  // made once; never destroyed, as the process ends in the middle
  std::string contents(reinterpret_cast<const char*>(data), size);
  auto file = base::MakeRef<Bytes>(contents);
  loader::LoadArgs args;
  args.env = &host->env;
  args.vdso = host->vdso.get();
  args.file = file;
  args.filename = "/fuzz";
  args.open = [&](const std::string&) -> Result<RefPtr<FileDescription>> { return RefPtr<FileDescription>(file); };
  args.argv = {"fuzz"};
  auto loaded = loader::Load(std::move(args));
  if (loaded.ok()) {
    // What was loaded can be read, run into and left.
    uint8_t byte;
    (void)testing::GuestAccess(*loaded->mm, loaded->entry, false, &byte);
    CHECK(loaded->mm->Read(UserPtr<uint64_t>{loaded->stack}).ok());
    loaded->mm->DropUser();
  }
  return 0;
}
