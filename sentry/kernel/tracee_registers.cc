// The registers of a stopped tracee. (arch/x86/kernel/ptrace.c, arch/x86/kernel/fpu/regset.c)
#include <sys/user.h>

#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/tracee.h"

namespace sentry {

namespace {

constexpr uint64_t kAddressLimit = (uint64_t{1} << 47) - kPageSize;  // TASK_SIZE_MAX
constexpr uint64_t kStructUser = 928;               // the kernel's struct user: two words more than libc's
constexpr uint64_t kDebugEnable = 0xff;             // DR7: the local and global enable bits of the four addresses
constexpr uint64_t kDebugStatusFixed = 0xffff0ff0;  // DR6 with nothing in it

// putreg: what no register can be.
bool Possible(const platform::Registers& r) {
  const auto bad_selector = [](uint64_t s) { return (s & 0xffff) != 0 && (s & 3) != 3; };
  for (uint64_t s : {r.cs, r.ss, r.ds, r.es, r.fs, r.gs}) {
    if (bad_selector(s)) return false;
  }
  if ((r.cs & 0xffff) == 0 || (r.ss & 0xffff) == 0) return false;
  return r.fs_base < kAddressLimit && r.gs_base < kAddressLimit;
}

}  // namespace

Result<platform::Registers> Tracee::GetRegisters() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  return task_.registers();
}

Result<void> Tracee::SetRegisters(const platform::Registers& regs) {
  if (!Possible(regs)) return Errno(EIO);
  platform::Registers safe = regs;
  platform::SanitizeRegisters(safe);
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  task_.registers() = safe;
  return {};
}

Result<uint64_t> Tracee::PeekUser(uint64_t offset) {
  if (offset % sizeof(uint64_t) != 0 || offset >= kStructUser) return Errno(EIO);
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  if (offset < sizeof(platform::Registers)) {
    uint64_t value;
    std::memcpy(&value, reinterpret_cast<const std::byte*>(&task_.registers()) + offset, sizeof(value));
    return value;
  }
  constexpr uint64_t kStatus = offsetof(struct user, u_debugreg) + 6 * sizeof(uint64_t);
  if (offset == kStatus) return task_.ptrace_.debug_status ^ kDebugStatusFixed;
  return uint64_t{0};
}

Result<void> Tracee::PokeUser(uint64_t offset, uint64_t value) {
  if (offset % sizeof(uint64_t) != 0 || offset >= kStructUser) return Errno(EIO);
  if (offset < sizeof(platform::Registers)) {
    platform::Registers regs = TRY(GetRegisters());
    std::memcpy(reinterpret_cast<std::byte*>(&regs) + offset, &value, sizeof(value));
    return SetRegisters(regs);
  }
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  constexpr uint64_t kDebug = offsetof(struct user, u_debugreg);
  if (offset < kDebug || offset >= kDebug + 8 * sizeof(uint64_t)) return Errno(EIO);
  switch ((offset - kDebug) / sizeof(uint64_t)) {
    case 0:
    case 1:
    case 2:
    case 3:
      if (value >= kAddressLimit) return Errno(EINVAL);
      // Linux fails so when every slot is in use; here there is none.
      return value == 0 ? Result<void>() : Errno(ENOSPC);
    case 6:
      task_.ptrace_.debug_status = value ^ kDebugStatusFixed;
      return {};
    case 7:
      return (value & kDebugEnable) == 0 ? Result<void>() : Errno(ENOSPC);
    default:
      return Errno(EIO);
  }
}

Result<std::vector<std::byte>> Tracee::GetXState() {
  std::vector<std::byte> area;
  TRY(Send([&](Task& task) {
    std::span<const std::byte> state = task.context().XState();
    area.assign(state.begin(), state.end());
  }));
  // The bytes for software say which components there may be (arch/x86/kernel/fpu/regset.c; debuggers read them).
  constexpr size_t kSoftwareBytes = 464, kSoftwareSize = 48;
  if (area.size() >= kSoftwareBytes + kSoftwareSize) {
    std::memset(area.data() + kSoftwareBytes, 0, kSoftwareSize);
    const uint64_t features = platform::XStateFeatures();
    std::memcpy(area.data() + kSoftwareBytes, &features, sizeof(features));
  }
  return area;
}

Result<void> Tracee::SetXState(std::vector<std::byte> area) {
  // The software's bytes are not state.
  std::memset(area.data() + 464, 0, 48);
  if (!platform::SanitizeXState(area.data(), static_cast<uint32_t>(area.size()))) return Errno(EINVAL);
  return Send([&](Task& task) { task.context().SetXState(area); });
}

Result<RefPtr<MemoryManager>> Tracee::Memory() {
  {
    base::MutexLock tree(tracer_.kernel().tasks().mu);
    TRY(CheckLocked());
  }
  RefPtr<MemoryManager> mm = task_.SnapshotMm();
  if (!mm) return Errno(EIO);
  return mm;
}

}  // namespace sentry
