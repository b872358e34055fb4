// Scheduling policies and affinity: kept and shown, for the host schedules guest threads. (kernel/sched/syscalls.c)
#ifndef SENTRY_SYSCALLS_SYS_SCHED_H_
#define SENTRY_SYSCALLS_SYS_SCHED_H_

#include "sentry/syscalls/table.h"

namespace sentry {

struct SchedAttr {
  uint32_t size, sched_policy;
  uint64_t sched_flags;
  int32_t sched_nice;
  uint32_t sched_priority;
  uint64_t sched_runtime, sched_deadline, sched_period;
};

// The thread that a call names: 0 is the caller. EINVAL, ESRCH.
Result<RefPtr<Task>> SchedulingTarget(Task& task, int pid);
// Same user, or CAP_SYS_NICE (check_same_owner).
bool MayChangeScheduling(Task& task, Task& target);

Result<void> SysGetcpu(Task& task, UserPtr<uint32_t> cpu, UserPtr<uint32_t> node);
Result<void> SysSchedYield(Task& task);
Result<int> SysSchedGetaffinity(Task& task, int pid, uint32_t size, UserPtr<uint8_t> mask);
Result<void> SysSchedSetaffinity(Task& task, int pid, uint32_t size, UserPtr<uint8_t> mask);
Result<int> SysSchedGetscheduler(Task& task, int pid);
Result<void> SysSchedSetscheduler(Task& task, int pid, int policy, UserPtr<int32_t> param);
Result<void> SysSchedGetparam(Task& task, int pid, UserPtr<int32_t> param);
Result<void> SysSchedSetparam(Task& task, int pid, UserPtr<int32_t> param);
Result<void> SysSchedGetattr(Task& task, int pid, UserPtr<SchedAttr> attr, uint32_t size, uint32_t flags);
Result<void> SysSchedSetattr(Task& task, int pid, UserPtr<SchedAttr> attr, uint32_t flags);
Result<int> SysSchedGetPriorityMax(Task& task, int policy);
Result<int> SysSchedGetPriorityMin(Task& task, int policy);
Result<void> SysSchedRrGetInterval(Task& task, int pid, UserPtr<abi::Timespec> out);

inline constexpr Row kSchedRows[] = {
    SYSCALL(getcpu, SysGetcpu),
    SYSCALL(sched_yield, SysSchedYield),
    SYSCALL(sched_getaffinity, SysSchedGetaffinity),
    SYSCALL_PARTIAL(sched_setaffinity, SysSchedSetaffinity, "kept and shown; the host decides where guest threads run"),
    SYSCALL(sched_getscheduler, SysSchedGetscheduler),
    SYSCALL_PARTIAL(sched_setscheduler, SysSchedSetscheduler,
                    "SCHED_BATCH and SCHED_IDLE are kept and shown; real-time policies fail with EPERM"),
    SYSCALL(sched_getparam, SysSchedGetparam),
    SYSCALL_PARTIAL(sched_setparam, SysSchedSetparam, "real-time priorities fail with EINVAL"),
    SYSCALL(sched_getattr, SysSchedGetattr),
    SYSCALL_PARTIAL(sched_setattr, SysSchedSetattr,
                    "SCHED_BATCH and SCHED_IDLE are kept and shown; real-time policies fail with EPERM"),
    SYSCALL(sched_get_priority_max, SysSchedGetPriorityMax),
    SYSCALL(sched_get_priority_min, SysSchedGetPriorityMin),
    SYSCALL(sched_rr_get_interval, SysSchedRrGetInterval),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SCHED_H_
