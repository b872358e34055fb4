// signalfd(2).
#ifndef SENTRY_SYSCALLS_SYS_SIGNALFD_H_
#define SENTRY_SYSCALLS_SYS_SIGNALFD_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysSignalfd(Task& task, FdArg fd, UserPtr<uint64_t> mask, size_t mask_size);
Result<Fd> SysSignalfd4(Task& task, FdArg fd, UserPtr<uint64_t> mask, size_t mask_size, uint32_t flags);

inline constexpr Row kSignalfdRows[] = {
    SYSCALL(signalfd, SysSignalfd),
    SYSCALL(signalfd4, SysSignalfd4),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SIGNALFD_H_
