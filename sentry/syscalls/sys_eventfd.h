// eventfd(2).
#ifndef SENTRY_SYSCALLS_SYS_EVENTFD_H_
#define SENTRY_SYSCALLS_SYS_EVENTFD_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysEventfd(Task& task, uint32_t initial);
Result<Fd> SysEventfd2(Task& task, uint32_t initial, uint32_t flags);

inline constexpr Row kEventfdRows[] = {
    SYSCALL(eventfd, SysEventfd),
    SYSCALL(eventfd2, SysEventfd2),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_EVENTFD_H_
