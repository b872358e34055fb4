// What ptrace(2) keeps for a task, as tracee and as tracer. (man 2 ptrace; include/linux/ptrace.h, include/linux/sched/
// jobctl.h)
#ifndef SENTRY_KERNEL_PTRACE_STATE_H_
#define SENTRY_KERNEL_PTRACE_STATE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>

#include "base/fiber.h"
#include "sentry/kernel/signal.h"
#include "sentry/vfs/credentials.h"

namespace sentry {

class Task;

// PTRACE_EVENT_*: the upper half of a stop's code.
enum class PtraceEvent : int {
  kFork = 1,
  kVfork = 2,
  kClone = 3,
  kExec = 4,
  kVforkDone = 5,
  kExit = 6,
  kSeccomp = 7,
  kStop = 128,
};

// PTRACE_O_*; bit n of the low byte is event n's, but for bit 0.
inline constexpr uint32_t kPtraceSysGood = 1, kPtraceExitKill = 1u << 20, kPtraceSuspendSeccomp = 1u << 21;
inline constexpr uint32_t kPtraceOptions = 0xff | kPtraceExitKill | kPtraceSuspendSeccomp;

// PTRACE_EVENTMSG_SYSCALL_*
inline constexpr uint64_t kPtraceSyscallEntry = 1, kPtraceSyscallExit = 2;

// si_code of the SIGCHLD that tells of a stop.
inline constexpr int kCldTrapped = 4, kCldStopped = 5, kCldContinued = 6;

// Something that a tracer has its stopped tracee's own fiber do, because only that one may (Context::XState). On the
// tracer's stack; both sides touch it with TaskSet::mu held, but for `run`.
struct PtraceErrand {
  std::function<void(Task& tracee)> run;
  base::RefPtr<base::Fiber> waiter;
  bool taken = false;  // the tracee is at it
  bool done = false;
  bool failed = false;  // the tracee was killed before
};

// Guarded by TaskSet::mu where nothing else is said.
struct PtraceState {
  // --- As tracer. A tracer is a thread, not a process.
  std::list<Task*> tracees;

  // --- As tracee.
  Task* tracer = nullptr;       // it lets go of its tracees before it exits
  CredentialsRef tracer_creds;  // the tracer's when it attached: what a set-user-ID program is allowed to become
  bool seized = false;
  uint32_t options = 0;
  bool exited = false;  // a thread that has exited and waits for its tracer to reap it

  // A stop: from `stopped` on until the tracer resumes it, the registers are the tracer's to read and write.
  bool stopped = false;
  bool listening = false;  // PTRACE_LISTEN: still stopped, but not for the tracer
  int code = 0;            // what wait reports (signal | event << 8); 0: was waited for
  uint64_t message = 0;    // PTRACE_GETEVENTMSG
  bool has_info = false;   // a group-stop without PTRACE_SEIZE has none
  SignalInfo info{};
  int resume_signal = 0;
  PtraceErrand* errand = nullptr;

  // How it was resumed. Written with TaskSet::mu held, read by the tracee's fiber at every call without.
  std::atomic<bool> trace_calls{false};    // PTRACE_SYSCALL
  std::atomic<bool> emulate_calls{false};  // PTRACE_SYSEMU
  std::atomic<bool> step{false};           // PTRACE_SINGLESTEP

  uint64_t debug_status = 0;  // DR6 as the tracer has written it
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_PTRACE_STATE_H_
