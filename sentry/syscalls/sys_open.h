// open(2), openat(2), openat2(2), creat(2), and file handles.
#ifndef SENTRY_SYSCALLS_SYS_OPEN_H_
#define SENTRY_SYSCALLS_SYS_OPEN_H_

#include "sentry/syscalls/table.h"

namespace sentry {

namespace abi {
struct OpenHow {  // include/uapi/linux/openat2.h
  uint64_t flags, mode, resolve;
};
}  // namespace abi

Result<Fd> SysOpen(Task& task, UserPath path, uint32_t flags, uint32_t mode);
Result<Fd> SysCreat(Task& task, UserPath path, uint32_t mode);
Result<Fd> SysOpenat(Task& task, FdArg dirfd, UserPath path, uint32_t flags, uint32_t mode);
Result<Fd> SysOpenat2(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::OpenHow> how, size_t size);

inline constexpr Row kOpenRows[] = {
    SYSCALL(open, SysOpen),
    SYSCALL(creat, SysCreat),
    SYSCALL(openat, SysOpenat),
    SYSCALL(openat2, SysOpenat2),
    SYSCALL_ERRNO(name_to_handle_at, EOPNOTSUPP, "file systems have no file handles"),
    SYSCALL_ERRNO(open_by_handle_at, EPERM, "file systems have no file handles"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_OPEN_H_
