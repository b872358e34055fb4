// A platform whose address spaces are tables: what the host would have mapped, which a test can read and write the way
// a guest would.
#ifndef TESTS_UNIT_SENTRY_MM_FAKE_HOST_H_
#define TESTS_UNIT_SENTRY_MM_FAKE_HOST_H_

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/interval_map.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::testing {

struct HostMapping {
  int fd;
  uint64_t offset;
  uint8_t prot;
};
struct HostTraits {
  static HostMapping Split(HostMapping& left, base::Range whole, uint64_t at) {
    HostMapping right = left;
    right.offset += at - whole.start;
    return right;
  }
  static bool Merge(HostMapping& l, base::Range lr, const HostMapping& r, base::Range) {
    return l.fd == r.fd && l.prot == r.prot && l.offset + lr.length() == r.offset;
  }
};

class FakeAddressSpace final : public platform::AddressSpace {
 public:
  base::Result<void> Apply(std::span<const platform::MapOp> ops) override {
    ++applies;
    for (const auto& op : ops) {
      if (fail_after == 0 || std::exchange(fail_once, false)) return base::Errno(ENOMEM);
      if (fail_after > 0) --fail_after;
      all_ops.push_back(op);
      CHECK(op.length > 0 && ((op.start | op.length | op.offset) & 4095) == 0);
      base::Range r{op.start, op.start + op.length};
      if (op.kind == platform::MapOp::Kind::kProtect) {
        uint64_t covered = 0;
        map.SplitAt(r.end);
        for (auto it = map.SplitAt(r.start); it != map.end() && it->first < r.end; ++it) {
          covered += it->second.end - it->first;
          it->second.value.prot = op.prot;
        }
        if (covered != r.length()) return base::Errno(ENOMEM);  // as mprotect over a hole
        for (auto it = map.LowerBound(r.start); it != map.end() && it->first <= r.end;)
          it = std::next(map.MergeAround(it));
        continue;
      }
      map.Remove(r, [](base::Range, HostMapping&&) {});
      if (op.kind == platform::MapOp::Kind::kMap) map.Insert(r, {op.fd, op.offset, op.prot});
    }
    return {};
  }
  void Release() override {
    map.clear();
    released = true;
  }
  base::IntervalMap<HostMapping, HostTraits> map;
  std::vector<platform::MapOp> all_ops;
  int applies = 0;
  int fail_after = -1;  // operations that still succeed; −1: all
  bool fail_once = false;
  bool released = false;
};

class FakePlatform final : public platform::Platform {
 public:
  std::string_view name() const override { return "table"; }
  base::Range GuestRange() const override { return {0x10000, 0x7ffffff00000}; }
  base::Result<base::RefPtr<platform::AddressSpace>> NewAddressSpace() override {
    auto as = base::MakeRef<FakeAddressSpace>();
    return base::RefPtr<platform::AddressSpace>(as);
  }
  base::Result<std::unique_ptr<platform::Context>> NewContext() override { return base::Errno(ENOSYS); }
  int RunningContexts() const override { return 0; }
  platform::TextPatcher* text_patcher() override { return patcher; }
  platform::TextPatcher* patcher = nullptr;
};

inline FakeAddressSpace& HostOf(MemoryManager& mm) { return static_cast<FakeAddressSpace&>(mm.address_space()); }

// An access by guest code: through the table, with faults served. The signal it would get, or none. `faults` counts.
inline std::optional<FaultSignal> GuestAccess(MemoryManager& mm, Addr addr, bool write, uint8_t* byte,
                                              const MmLimits& limits = {}, int* faults = nullptr) {
  for (int i = 0; i < 10; ++i) {
    auto& map = HostOf(mm).map;
    auto it = map.Find(addr);
    if (it != map.end() && (it->second.value.prot & (write ? 2 : 1))) {
      const HostMapping& m = it->second.value;
      uint64_t at = m.offset + (addr - it->first);
      struct stat st;
      CHECK(fstat(m.fd, &st) == 0);
      // What the host does beyond the last page of a file.
      if (at >= static_cast<uint64_t>((st.st_size + 4095) & ~4095ll)) return FaultSignal{SIGBUS, BUS_ADRERR};
      if (write) {
        CHECK(pwrite(m.fd, byte, 1, static_cast<off_t>(at)) == 1);
      } else {
        *byte = 0;
        CHECK(pread(m.fd, byte, 1, static_cast<off_t>(at)) >= 0);
      }
      return std::nullopt;
    }
    if (faults) ++*faults;
    auto signal = mm.HandleFault(addr, write ? platform::AccessType::kWrite : platform::AccessType::kRead, limits);
    if (signal) return signal;
  }
  return FaultSignal{-1, -1};  // does not converge
}
inline std::optional<FaultSignal> GuestWrite(MemoryManager& mm, Addr addr, uint8_t value) {
  return GuestAccess(mm, addr, true, &value);
}
// The byte, or −signal.
inline int GuestRead(MemoryManager& mm, Addr addr) {
  uint8_t value = 0;
  auto signal = GuestAccess(mm, addr, false, &value);
  return signal ? -signal->signo : value;
}

// A file of the host, as the gofer donates one.
class DonatedFile final : public Mappable {
 public:
  explicit DonatedFile(const std::string& contents) {
    fd_ = memfd_create("donated", MFD_CLOEXEC);
    CHECK(fd_ >= 0 && write(fd_, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size()));
  }
  ~DonatedFile() override { close(fd_); }
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override {
    ++translations;
    struct stat st;
    CHECK(fstat(fd_, &st) == 0);
    uint64_t end = PageRoundUp(st.st_size);
    if (offset >= end) return Errno(EINVAL);
    return HostPages{.fd = fd_, .offset = offset, .length = end - offset};
  }
  Identity MappedIdentity() const override { return {"/donated", 8, 42}; }
  void Resize(off_t size) {
    CHECK(ftruncate(fd_, size) == 0);
    InvalidateMappings(PageRoundUp(size), UINT64_MAX & ~kPageMask);
  }
  int fd() const { return fd_; }
  int translations = 0;

 private:
  int fd_;
};

}  // namespace sentry::testing

#endif  // TESTS_UNIT_SENTRY_MM_FAKE_HOST_H_
