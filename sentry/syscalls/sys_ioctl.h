// ioctl(2): the commands that mean the same for every descriptor; the rest is the file's.
#ifndef SENTRY_SYSCALLS_SYS_IOCTL_H_
#define SENTRY_SYSCALLS_SYS_IOCTL_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int64_t> SysIoctl(Task& task, FdArg fd, uint32_t command, uint64_t argument);

inline constexpr Row kIoctlRows[] = {
    SYSCALL_PARTIAL(ioctl, SysIoctl,
                    "terminals, pipes, sockets and the generic commands; no block devices, no FICLONE, no FIEMAP"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_IOCTL_H_
