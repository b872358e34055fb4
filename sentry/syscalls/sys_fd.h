// close(2), dup(2), fcntl(2).
#ifndef SENTRY_SYSCALLS_SYS_FD_H_
#define SENTRY_SYSCALLS_SYS_FD_H_

#include "sentry/syscalls/table.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

namespace sentry {

Result<void> SysClose(Task& task, FdArg fd);
Result<void> SysCloseRange(Task& task, uint32_t first, uint32_t last, uint32_t flags);
Result<Fd> SysDup(Task& task, FdArg fd);
Result<Fd> SysDup2(Task& task, FdArg from, FdArg to);
Result<Fd> SysDup3(Task& task, FdArg from, FdArg to, uint32_t flags);
Result<int64_t> SysFcntl(Task& task, FdArg fd, uint32_t command, uint64_t argument);

// What closing a descriptor means beyond its number: releases the process's record locks on the file (man 2 fcntl) and
// tells the description; a socket may want to linger. Used for every way in which a number goes away.
// Differs from Linux: what exec closes does not linger.
void CloseDescription(Task& task, RefPtr<FileDescription> file);
// Whether readiness can be told by signals (O_ASYNC).
bool SupportsAsync(FileDescription& file);

inline constexpr Row kFdRows[] = {
    SYSCALL(close, SysClose), SYSCALL(close_range, SysCloseRange),
    SYSCALL(dup, SysDup),     SYSCALL(dup2, SysDup2),
    SYSCALL(dup3, SysDup3),   SYSCALL_PARTIAL(fcntl, SysFcntl, "no F_NOTIFY"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_FD_H_
