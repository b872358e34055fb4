#include "sentry/syscalls/sys_ptrace.h"

#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/tracee.h"

namespace sentry {

namespace {

// include/uapi/linux/ptrace.h, arch/x86/include/uapi/asm/ptrace-abi.h
enum Request : int64_t {
  kTraceMe = 0,
  kPeekText = 1,
  kPeekData = 2,
  kPeekUser = 3,
  kPokeText = 4,
  kPokeData = 5,
  kPokeUser = 6,
  kCont = 7,
  kKill = 8,
  kSingleStep = 9,
  kGetRegs = 12,
  kSetRegs = 13,
  kGetFpRegs = 14,
  kSetFpRegs = 15,
  kAttach = 16,
  kDetach = 17,
  kOldSetOptions = 21,
  kSyscall = 24,
  kArchPrctl = 30,
  kSysemu = 31,
  kSysemuSingleStep = 32,
  kSetOptions = 0x4200,
  kGetEventMsg = 0x4201,
  kGetSigInfo = 0x4202,
  kSetSigInfo = 0x4203,
  kGetRegSet = 0x4204,
  kSetRegSet = 0x4205,
  kSeize = 0x4206,
  kInterrupt = 0x4207,
  kListen = 0x4208,
  kPeekSigInfo = 0x4209,
  kGetSigMask = 0x420a,
  kSetSigMask = 0x420b,
  kGetSyscallInfo = 0x420e,
};

constexpr uint64_t kNtPrStatus = 1, kNtPrFpReg = 2, kNtXState = 0x202;
constexpr size_t kFxsaveBytes = 512, kSoftwareBytes = 464, kMxcsr = 24, kHeader = 512;

Result<void> Peek(Task& task, Tracee& tracee, uint64_t addr, uint64_t data) {
  RefPtr<MemoryManager> mm = TRY(tracee.Memory());
  uint64_t word;
  Result<size_t> n = mm->ForceCopyIn(std::as_writable_bytes(std::span(&word, 1)), addr);
  if (!n.ok() || *n != sizeof(word)) return Errno(EIO);
  return task.mm().Write(UserPtr<uint64_t>{data}, word);
}

Result<void> Poke(Tracee& tracee, uint64_t addr, uint64_t data) {
  RefPtr<MemoryManager> mm = TRY(tracee.Memory());
  Result<size_t> n = mm->ForceCopyOut(addr, std::as_bytes(std::span(&data, 1)));
  return n.ok() && *n == sizeof(data) ? Result<void>() : Errno(EIO);
}

// The FXSAVE image: user_fpregs_struct.
Result<std::vector<std::byte>> GetFpRegisters(Tracee& tracee) {
  std::vector<std::byte> area = TRY(tracee.GetXState());
  area.resize(kFxsaveBytes);
  std::memset(area.data() + kSoftwareBytes, 0, kFxsaveBytes - kSoftwareBytes);
  return area;
}

Result<void> SetFpRegisters(Tracee& tracee, std::span<const std::byte> fx) {
  uint32_t mxcsr;
  std::memcpy(&mxcsr, fx.data() + kMxcsr, sizeof(mxcsr));
  if (mxcsr & 0xffff0000) return Errno(EINVAL);  // bits that no processor has
  std::vector<std::byte> area = TRY(tracee.GetXState());
  std::memcpy(area.data(), fx.data(), std::min(fx.size(), kSoftwareBytes));
  uint64_t present;
  std::memcpy(&present, area.data() + kHeader, sizeof(present));
  present |= 3;  // x87 and SSE
  std::memcpy(area.data() + kHeader, &present, sizeof(present));
  return tracee.SetXState(std::move(area));
}

// The vector that iov_base points at; its length becomes what was transferred.
Result<void> RegSet(Task& task, Tracee& tracee, uint64_t type, uint64_t vector, bool set) {
  UserPtr<abi::Iovec> at{vector};
  abi::Iovec iov = TRY(task.mm().Read(at));
  size_t whole;
  switch (type) {
    case kNtPrStatus:
      whole = sizeof(platform::Registers);
      break;
    case kNtPrFpReg:
      whole = kFxsaveBytes;
      break;
    case kNtXState:
      whole = platform::XStateSize();
      break;
    default:
      return Errno(EINVAL);
  }
  if (iov.iov_len % sizeof(uint64_t) != 0) return Errno(EINVAL);
  const size_t bytes = std::min<uint64_t>(iov.iov_len, whole);
  const Addr base = iov.iov_base;
  if (set) {
    std::vector<std::byte> in = TRY(task.mm().ReadArray(UserPtr<std::byte>{base}, bytes));
    if (type == kNtPrStatus) {
      platform::Registers regs = TRY(tracee.GetRegisters());
      std::memcpy(&regs, in.data(), bytes);
      TRY(tracee.SetRegisters(regs));
    } else if (type == kNtPrFpReg) {
      std::vector<std::byte> fx = TRY(GetFpRegisters(tracee));
      std::memcpy(fx.data(), in.data(), bytes);
      TRY(SetFpRegisters(tracee, fx));
    } else {
      if (bytes != whole) return Errno(EFAULT);  // kernel: xstateregs_set
      TRY(tracee.SetXState(std::move(in)));
    }
  } else {
    std::vector<std::byte> out;
    if (type == kNtPrStatus) {
      platform::Registers regs = TRY(tracee.GetRegisters());
      out.resize(sizeof(regs));
      std::memcpy(out.data(), &regs, sizeof(regs));
    } else {
      out = TRY(type == kNtPrFpReg ? GetFpRegisters(tracee) : tracee.GetXState());
    }
    TRY(task.mm().WriteArray(UserPtr<std::byte>{base}, std::span<const std::byte>(out).first(bytes)));
  }
  return task.mm().Write(UserPtr<uint64_t>{vector + offsetof(abi::Iovec, iov_len)}, bytes);
}

Result<int64_t> PeekSignals(Task& task, Tracee& tracee, uint64_t addr, uint64_t data) {
  struct Args {
    uint64_t offset;
    uint32_t flags;
    int32_t count;
  };
  Args args = TRY(task.mm().Read(UserPtr<Args>{addr}));
  constexpr uint32_t kShared = 1;
  if ((args.flags & ~kShared) || args.count < 0) return Errno(EINVAL);
  constexpr size_t kBatch = 64;
  int64_t done = 0;
  while (done < args.count) {
    const size_t want = std::min<size_t>(kBatch, static_cast<size_t>(args.count - done));
    std::vector<SignalInfo> found =
        TRY(tracee.PeekSignals(args.offset + static_cast<uint64_t>(done), want, args.flags & kShared));
    for (const SignalInfo& info : found) {
      Result<void> written = task.mm().Write(UserPtr<abi::Siginfo>{data} + static_cast<uint64_t>(done), info);
      if (!written.ok()) return done != 0 ? Result<int64_t>(done) : Result<int64_t>(written.error());
      ++done;
    }
    if (found.size() < want || task.SignalPending()) break;
  }
  return done;
}

Result<void> ArchPrctl(Task& task, Tracee& tracee, uint64_t addr, uint64_t code) {
  constexpr uint64_t kSetGs = 0x1001, kSetFs = 0x1002, kGetFs = 0x1003, kGetGs = 0x1004;
  platform::Registers regs = TRY(tracee.GetRegisters());
  switch (code) {
    case kGetFs:
      return task.mm().Write(UserPtr<uint64_t>{addr}, regs.fs_base);
    case kGetGs:
      return task.mm().Write(UserPtr<uint64_t>{addr}, regs.gs_base);
    case kSetFs:
    case kSetGs: {
      (code == kSetFs ? regs.fs_base : regs.gs_base) = addr;
      Result<void> done = tracee.SetRegisters(regs);
      return done.failed_with(EIO) ? Result<void>(Errno(EPERM)) : done;
    }
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> Do(Task& task, Tracee& tracee, int64_t request, uint64_t addr, uint64_t data) {
  using Resume = Tracee::Resume;
  UserMemory& mm = task.mm();
  switch (request) {
    case kPeekText:
    case kPeekData:
      TRY(Peek(task, tracee, addr, data));
      break;
    case kPokeText:
    case kPokeData:
      TRY(Poke(tracee, addr, data));
      break;
    case kPeekUser:
      TRY(mm.Write(UserPtr<uint64_t>{data}, TRY(tracee.PeekUser(addr))));
      break;
    case kPokeUser:
      TRY(tracee.PokeUser(addr, data));
      break;
    case kCont:
      TRY(tracee.Go(Resume::kContinue, false, data));
      break;
    case kSingleStep:
      TRY(tracee.Go(Resume::kContinue, true, data));
      break;
    case kSyscall:
      TRY(tracee.Go(Resume::kSystemCalls, false, data));
      break;
    case kSysemu:
      TRY(tracee.Go(Resume::kEmulateCalls, false, data));
      break;
    case kSysemuSingleStep:
      TRY(tracee.Go(Resume::kEmulateCalls, true, data));
      break;
    case kKill:
      TRY(tracee.Kill());
      break;
    case kDetach:
      TRY(tracee.Detach(data));
      break;
    case kInterrupt:
      TRY(tracee.Interrupt());
      break;
    case kListen:
      TRY(tracee.Listen());
      break;
    case kGetRegs:
      TRY(mm.Write(UserPtr<platform::Registers>{data}, TRY(tracee.GetRegisters())));
      break;
    case kSetRegs:
      TRY(tracee.SetRegisters(TRY(mm.Read(UserPtr<platform::Registers>{data}))));
      break;
    case kGetFpRegs: {
      std::vector<std::byte> fx = TRY(GetFpRegisters(tracee));
      TRY(mm.WriteArray(UserPtr<std::byte>{data}, std::span<const std::byte>(fx)));
      break;
    }
    case kSetFpRegs:
      TRY(SetFpRegisters(tracee, TRY(mm.ReadArray(UserPtr<std::byte>{data}, kFxsaveBytes))));
      break;
    case kGetRegSet:
    case kSetRegSet:
      TRY(RegSet(task, tracee, addr, data, request == kSetRegSet));
      break;
    case kOldSetOptions:
    case kSetOptions:
      TRY(tracee.SetOptions(data));
      break;
    case kGetEventMsg:
      TRY(mm.Write(UserPtr<uint64_t>{data}, TRY(tracee.EventMessage())));
      break;
    case kGetSigInfo:
      TRY(mm.Write(UserPtr<abi::Siginfo>{data}, TRY(tracee.GetSignalInfo())));
      break;
    case kSetSigInfo:
      TRY(tracee.SetSignalInfo(TRY(mm.Read(UserPtr<abi::Siginfo>{data}))));
      break;
    case kPeekSigInfo:
      return PeekSignals(task, tracee, addr, data);
    case kGetSigMask:
      if (addr != sizeof(uint64_t)) return Errno(EINVAL);
      TRY(mm.Write(UserPtr<uint64_t>{data}, TRY(tracee.GetSignalMask()).bits()));
      break;
    case kSetSigMask:
      if (addr != sizeof(uint64_t)) return Errno(EINVAL);
      TRY(tracee.SetSignalMask(SignalSet(TRY(mm.Read(UserPtr<uint64_t>{data})))));
      break;
    case kGetSyscallInfo: {
      PtraceSyscallInfo info;
      const size_t actual = TRY(tracee.GetSyscallInfo(info));
      const size_t bytes = std::min<uint64_t>(actual, addr);
      TRY(mm.WriteArray(UserPtr<std::byte>{data}, std::as_bytes(std::span(&info, 1)).first(bytes)));
      return static_cast<int64_t>(actual);
    }
    case kArchPrctl:
      TRY(ArchPrctl(task, tracee, addr, data));
      break;
    default:
      return Errno(EIO);
  }
  return 0;
}

}  // namespace

Result<int64_t> SysPtrace(Task& task, int64_t request, int64_t pid, uint64_t addr, uint64_t data) {
  if (request == kTraceMe) {
    TRY(task.PtraceTraceMe());
    return 0;
  }
  RefPtr<Task> target = pid > 0 && pid <= INT32_MAX
                            ? task.kernel().FindTask(static_cast<int>(pid), task.pid_namespace())
                            : RefPtr<Task>();
  if (!target) return Errno(ESRCH);
  if (request == kAttach) {
    TRY(task.PtraceAttach(*target, /*seize=*/false, 0));
    return 0;
  }
  if (request == kSeize) {
    if (addr != 0 || (data & ~uint64_t{kPtraceOptions})) return Errno(EIO);
    TRY(CheckPtraceOptions(task, data));
    TRY(task.PtraceAttach(*target, /*seize=*/true, static_cast<uint32_t>(data)));
    return 0;
  }
  Tracee tracee(task, *target);
  return Do(task, tracee, request, addr, data);
}

}  // namespace sentry
