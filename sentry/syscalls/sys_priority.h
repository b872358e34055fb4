// Nice values and I/O priorities of threads, process groups and users. (kernel/sys.c, block/ioprio.c)
#ifndef SENTRY_SYSCALLS_SYS_PRIORITY_H_
#define SENTRY_SYSCALLS_SYS_PRIORITY_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int> SysGetpriority(Task& task, int which, int who);
Result<void> SysSetpriority(Task& task, int which, int who, int value);
Result<int> SysIoprioGet(Task& task, int which, int who);
Result<void> SysIoprioSet(Task& task, int which, int who, int value);

inline constexpr Row kPriorityRows[] = {
    SYSCALL(getpriority, SysGetpriority),
    SYSCALL_PARTIAL(setpriority, SysSetpriority, "kept and shown; host threads all have one nice value"),
    SYSCALL(ioprio_get, SysIoprioGet),
    SYSCALL_PARTIAL(ioprio_set, SysIoprioSet, "kept and shown, without an effect"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_PRIORITY_H_
