// Tracee: what a tracer may do to one of its tracees. (kernel/ptrace.c, arch/x86/kernel/ptrace.c; man 2 ptrace)
#ifndef SENTRY_KERNEL_TRACEE_H_
#define SENTRY_KERNEL_TRACEE_H_

#include <functional>
#include <vector>

#include "sentry/kernel/task.h"

namespace sentry {

// struct ptrace_syscall_info (include/uapi/linux/ptrace.h).
struct PtraceSyscallInfo {
  uint8_t op = 0, pad[3] = {};
  uint32_t arch = 0;
  uint64_t instruction_pointer = 0, stack_pointer = 0;
  union {
    struct {
      uint64_t nr, args[6];
    } entry;
    struct {
      int64_t rval;
      uint8_t is_error;
    } exit;
    uint64_t words[8];  // the size of the largest, PTRACE_SYSCALL_INFO_SECCOMP
  };
  PtraceSyscallInfo() : words{} {}
};
static_assert(sizeof(PtraceSyscallInfo) == 88);

// EINVAL, EPERM.
Result<void> CheckPtraceOptions(const Task& tracer, uint64_t options);

// Used on the fiber of the tracer; every call checks anew that the tie exists and that the tracee is stopped: ESRCH
// otherwise. No lock is held by the caller. What parks says so.
class Tracee {
 public:
  Tracee(Task& tracer, Task& task) : tracer_(tracer), task_(task) {}

  enum class Resume { kContinue, kSystemCalls, kEmulateCalls };
  // `signo`: what it goes on with, after a signal-delivery-stop; EIO for none that exists.
  Result<void> Go(Resume how, bool step, uint64_t signo);
  Result<void> Detach(uint64_t signo);
  Result<void> Kill();                        // also one that runs
  Result<void> Interrupt();                   // also one that runs; EIO if it was not seized
  Result<void> Listen();                      // EIO if it was not seized, or is not in PTRACE_EVENT_STOP
  Result<void> SetOptions(uint64_t options);  // EINVAL, EPERM
  Result<uint64_t> EventMessage();

  Result<platform::Registers> GetRegisters();
  // EIO for values that no register can have; what is unsafe otherwise is made safe (platform::SanitizeRegisters).
  // Differs from Linux: CS and SS cannot be changed, there are no segments but the flat ones.
  Result<void> SetRegisters(const platform::Registers& regs);
  // A word of struct user. There is no hardware to break on an address: debug registers read as unused, and only values
  // that enable nothing can be written. EIO for other offsets, ENOSPC for a breakpoint.
  Result<uint64_t> PeekUser(uint64_t offset);
  Result<void> PokeUser(uint64_t offset, uint64_t value);
  // The XSAVE area in the standard format (platform::XStateSize bytes). Parks.
  Result<std::vector<std::byte>> GetXState();
  Result<void> SetXState(std::vector<std::byte> area);
  // Its memory, to be read and written without regard to protection; one that is stopped keeps it.
  Result<RefPtr<MemoryManager>> Memory();

  Result<SignalInfo> GetSignalInfo();  // EINVAL: the stop has none
  Result<void> SetSignalInfo(const SignalInfo& info);
  Result<SignalSet> GetSignalMask();
  Result<void> SetSignalMask(SignalSet mask);
  // At most `count` from number `offset` of what is queued for the thread, or its process.
  Result<std::vector<SignalInfo>> PeekSignals(uint64_t offset, size_t count, bool shared);
  // Valid bytes of the answer.
  Result<size_t> GetSyscallInfo(PtraceSyscallInfo& info);

 private:
  // TaskSet::mu held. ESRCH.
  Result<void> CheckLocked(bool stopped = true) const;
  // Has the tracee's own fiber do it. Parks.
  Result<void> Send(std::function<void(Task&)> errand);

  Task& tracer_;
  Task& task_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_TRACEE_H_
