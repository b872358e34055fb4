// timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).
#ifndef SENTRY_SYSCALLS_SYS_TIMERFD_H_
#define SENTRY_SYSCALLS_SYS_TIMERFD_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysTimerfdCreate(Task& task, int32_t clock, uint32_t flags);
Result<void> SysTimerfdSettime(Task& task, FdArg fd, uint32_t flags, UserPtr<abi::Itimerspec> value,
                               UserPtr<abi::Itimerspec> old);
Result<void> SysTimerfdGettime(Task& task, FdArg fd, UserPtr<abi::Itimerspec> value);

inline constexpr Row kTimerfdRows[] = {
    SYSCALL(timerfd_create, SysTimerfdCreate),
    SYSCALL(timerfd_settime, SysTimerfdSettime),
    SYSCALL(timerfd_gettime, SysTimerfdGettime),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_TIMERFD_H_
