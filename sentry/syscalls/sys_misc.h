// System information, random numbers, scheduling parameters.
#ifndef SENTRY_SYSCALLS_SYS_MISC_H_
#define SENTRY_SYSCALLS_SYS_MISC_H_

#include "sentry/syscalls/table.h"

namespace sentry {

struct Sysinfo {
  int64_t uptime;
  uint64_t loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
  uint16_t procs, pad;
  uint32_t pad2;
  uint64_t totalhigh, freehigh;
  uint32_t mem_unit, pad3;
};
static_assert(sizeof(Sysinfo) == 112);
struct SchedAttr {
  uint32_t size, sched_policy;
  uint64_t sched_flags;
  int32_t sched_nice;
  uint32_t sched_priority;
  uint64_t sched_runtime, sched_deadline, sched_period;
};

Result<void> SysUname(Task& task, UserPtr<Utsname> out);
Result<void> SysSethostname(Task& task, uint64_t name, int length);
Result<void> SysSetdomainname(Task& task, uint64_t name, int length);
Result<void> SysSysinfo(Task& task, UserPtr<Sysinfo> out);
Result<size_t> SysGetrandom(Task& task, uint64_t buffer, uint64_t length, uint32_t flags);
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
Result<int> SysGetpriority(Task& task, int which, int who);
Result<void> SysSetpriority(Task& task, int which, int who, int value);
Result<int> SysIoprioGet(Task& task, int which, int who);
Result<void> SysIoprioSet(Task& task, int which, int who, int value);
Result<int64_t> SysSyslog(Task& task, int type, uint64_t buffer, int length);
Result<void> SysVhangup(Task& task);

inline constexpr Row kMiscRows[] = {
    SYSCALL(uname, SysUname),
    SYSCALL(sethostname, SysSethostname),
    SYSCALL(setdomainname, SysSetdomainname),
    SYSCALL(sysinfo, SysSysinfo),
    SYSCALL(getrandom, SysGetrandom),
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
    SYSCALL_PARTIAL(getpriority, SysGetpriority, "PRIO_PROCESS only; others answer for the caller"),
    SYSCALL_PARTIAL(setpriority, SysSetpriority, "kept and shown; host threads all have one nice value"),
    SYSCALL_PARTIAL(ioprio_get, SysIoprioGet, "always the default"),
    SYSCALL_PARTIAL(ioprio_set, SysIoprioSet, "checked, without an effect"),
    SYSCALL_PARTIAL(syslog, SysSyslog, "an empty log"),
    SYSCALL_PARTIAL(vhangup, SysVhangup, "does nothing"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_MISC_H_
