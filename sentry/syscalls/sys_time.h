// Clocks, sleeping, interval and POSIX timers.
#ifndef SENTRY_SYSCALLS_SYS_TIME_H_
#define SENTRY_SYSCALLS_SYS_TIME_H_

#include "sentry/syscalls/table.h"

namespace sentry {

// struct sigevent, 64 bytes.
struct Sigevent {
  uint64_t value;
  int32_t signo, notify, tid, pad[11];
};
static_assert(sizeof(Sigevent) == 64);

Result<void> SysClockGettime(Task& task, int clock, UserPtr<abi::Timespec> out);
Result<void> SysClockGetres(Task& task, int clock, UserPtr<abi::Timespec> out);
Result<void> SysClockSettime(Task& task, int clock, UserPtr<abi::Timespec> in);
Result<void> SysClockNanosleep(Task& task, int clock, int flags, UserPtr<abi::Timespec> request,
                               UserPtr<abi::Timespec> remain);
Result<void> SysNanosleep(Task& task, UserPtr<abi::Timespec> request, UserPtr<abi::Timespec> remain);
Result<void> SysGettimeofday(Task& task, UserPtr<abi::Timeval> tv, UserPtr<int64_t> tz);
Result<int64_t> SysTime(Task& task, UserPtr<int64_t> out);
Result<uint32_t> SysAlarm(Task& task, uint32_t seconds);
Result<void> SysGetitimer(Task& task, int which, UserPtr<abi::Itimerval> out);
Result<void> SysSetitimer(Task& task, int which, UserPtr<abi::Itimerval> in, UserPtr<abi::Itimerval> out);
Result<void> SysTimerCreate(Task& task, int clock, UserPtr<Sigevent> event, UserPtr<int32_t> id);
Result<void> SysTimerSettime(Task& task, int id, int flags, UserPtr<abi::Itimerspec> in, UserPtr<abi::Itimerspec> out);
Result<void> SysTimerGettime(Task& task, int id, UserPtr<abi::Itimerspec> out);
Result<int> SysTimerGetoverrun(Task& task, int id);
Result<void> SysTimerDelete(Task& task, int id);

inline constexpr Row kTimeRows[] = {
    SYSCALL(clock_gettime, SysClockGettime),
    SYSCALL(clock_getres, SysClockGetres),
    SYSCALL_PARTIAL(clock_settime, SysClockSettime, "the sandbox's clocks are the host's: EPERM"),
    SYSCALL(clock_nanosleep, SysClockNanosleep),
    SYSCALL(nanosleep, SysNanosleep),
    SYSCALL(gettimeofday, SysGettimeofday),
    SYSCALL(time, SysTime),
    SYSCALL(alarm, SysAlarm),
    SYSCALL(getitimer, SysGetitimer),
    SYSCALL(setitimer, SysSetitimer),
    SYSCALL(timer_create, SysTimerCreate),
    SYSCALL(timer_settime, SysTimerSettime),
    SYSCALL(timer_gettime, SysTimerGettime),
    SYSCALL(timer_getoverrun, SysTimerGetoverrun),
    SYSCALL(timer_delete, SysTimerDelete),
    SYSCALL_ERRNO(settimeofday, EPERM, "the sandbox's clocks are the host's"),
    SYSCALL_ERRNO(adjtimex, EPERM, "the sandbox's clocks are the host's"),
    SYSCALL_ERRNO(clock_adjtime, EPERM, "the sandbox's clocks are the host's"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_TIME_H_
