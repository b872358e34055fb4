#include "sentry/fs/dev/mem_device.h"

#include <linux/random.h>

#include <algorithm>
#include <map>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

Result<size_t> ReadRandom(IoBuffer& to) {
  size_t total = 0;
  std::byte buffer[4096];
  while (to.remaining() != 0) {
    size_t wanted = std::min(sizeof(buffer), to.remaining());
    long got = TRY(base::HostRetry(SYS_getrandom, buffer, wanted, 0));
    auto copied = to.CopyOut(std::span<const std::byte>(buffer, static_cast<size_t>(got)));
    if (!copied.ok()) {
      if (total != 0) break;
      return copied.error();
    }
    total += *copied;
    if (*copied < wanted) break;
  }
  return total;
}

// A mapping of /dev/zero: pages of zeros that the mappings of this one description share. Differs from Linux: there
// every mmap has pages of its own; here two shared mappings of one open of /dev/zero at one offset see each other.
class ZeroMappable final : public Mappable {
 public:
  static constexpr uint64_t kChunk = 2 << 20;
  explicit ZeroMappable(platform::MemoryFile& memory) : memory_(memory) {}
  ~ZeroMappable() override {
    for (auto& [offset, range] : chunks_) memory_.DecRef(range);
  }
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override {
    uint64_t start = offset & ~(kChunk - 1);
    platform::FileRange range;
    {
      base::MutexLock lock(mu_);
      auto it = chunks_.find(start);
      if (it != chunks_.end()) range = it->second;
    }
    if (range.empty()) {
      platform::FileRange fresh = TRY(memory_.Allocate(kChunk, start));
      base::MutexLock lock(mu_);
      auto [it, inserted] = chunks_.emplace(start, fresh);
      range = it->second;
      if (!inserted) memory_.DecRef(fresh);
    }
    HostPages pages;
    pages.fd = memory_.fd();
    pages.offset = range.start + (offset - start);
    pages.length = range.end - pages.offset;
    pages.memory_file = true;
    return pages;
  }
  Identity MappedIdentity() const override { return {"/dev/zero", 0, 0}; }

 private:
  platform::MemoryFile& memory_;
  base::Mutex mu_;
  std::map<uint64_t, platform::FileRange> chunks_ GUARDED_BY(mu_);
};

}  // namespace

Result<size_t> MemDeviceFile::Read(IoBuffer& to, const IoFlags& flags) {
  switch (device_) {
    case MemDevice::kNull:
      return 0;
    case MemDevice::kZero:
    case MemDevice::kFull:
      return to.ZeroOut(to.remaining());
    case MemDevice::kRandom:
    case MemDevice::kUrandom:
      return ReadRandom(to);
  }
  return Errno(EINVAL);
}

Result<size_t> MemDeviceFile::Write(IoBuffer& from, const IoFlags& flags) {
  if (device_ == MemDevice::kFull) return Errno(ENOSPC);
  // Not even looked at by null and zero; entropy from a guest is of no use to the host.
  return from.remaining();
}

Result<int64_t> MemDeviceFile::Ioctl(const IoctlArgs& args) {
  if ((device_ == MemDevice::kRandom || device_ == MemDevice::kUrandom) && args.command == RNDGETENTCNT) {
    TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, 256));
    return 0;
  }
  return Errno(ENOTTY);
}

Result<RefPtr<Mappable>> MemDeviceFile::GetMappable(uint8_t prot, bool shared) {
  if (device_ != MemDevice::kZero) return Errno(ENODEV);
  return RefPtr<Mappable>(base::MakeRef<ZeroMappable>(memory_));
}

}  // namespace sentry
