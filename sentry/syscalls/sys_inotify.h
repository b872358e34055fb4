// inotify(7).
#ifndef SENTRY_SYSCALLS_SYS_INOTIFY_H_
#define SENTRY_SYSCALLS_SYS_INOTIFY_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysInotifyInit(Task& task);
Result<Fd> SysInotifyInit1(Task& task, uint32_t flags);
Result<int> SysInotifyAddWatch(Task& task, FdArg fd, UserPath path, uint32_t mask);
Result<void> SysInotifyRmWatch(Task& task, FdArg fd, int32_t wd);

inline constexpr Row kInotifyRows[] = {
    SYSCALL(inotify_init, SysInotifyInit),
    SYSCALL(inotify_init1, SysInotifyInit1),
    SYSCALL(inotify_add_watch, SysInotifyAddWatch),
    SYSCALL(inotify_rm_watch, SysInotifyRmWatch),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_INOTIFY_H_
