// stat(2) and statx(2), statfs(2), access(2), readlink(2).
#ifndef SENTRY_SYSCALLS_SYS_STAT_H_
#define SENTRY_SYSCALLS_SYS_STAT_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

namespace sentry {

Result<void> SysStat(Task& task, UserPath path, UserPtr<abi::Stat> out);
Result<void> SysLstat(Task& task, UserPath path, UserPtr<abi::Stat> out);
Result<void> SysFstat(Task& task, FdArg fd, UserPtr<abi::Stat> out);
Result<void> SysNewfstatat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Stat> out, uint32_t flags);
Result<void> SysStatx(Task& task, FdArg dirfd, UserPath path, uint32_t flags, uint32_t mask, UserPtr<abi::Statx> out);
Result<void> SysStatfs(Task& task, UserPath path, UserPtr<abi::Statfs> out);
Result<void> SysFstatfs(Task& task, FdArg fd, UserPtr<abi::Statfs> out);
Result<void> SysAccess(Task& task, UserPath path, uint32_t mode);
Result<void> SysFaccessat(Task& task, FdArg dirfd, UserPath path, uint32_t mode);
Result<void> SysFaccessat2(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t flags);
Result<size_t> SysReadlink(Task& task, UserPath path, UserPtr<char> buffer, int32_t size);
Result<size_t> SysReadlinkat(Task& task, FdArg dirfd, UserPath path, UserPtr<char> buffer, int32_t size);

inline constexpr Row kStatRows[] = {
    SYSCALL(stat, SysStat),
    SYSCALL(lstat, SysLstat),
    SYSCALL(fstat, SysFstat),
    SYSCALL(newfstatat, SysNewfstatat),
    SYSCALL(statx, SysStatx),
    SYSCALL(statfs, SysStatfs),
    SYSCALL(fstatfs, SysFstatfs),
    SYSCALL(access, SysAccess),
    SYSCALL(faccessat, SysFaccessat),
    SYSCALL(faccessat2, SysFaccessat2),
    SYSCALL(readlink, SysReadlink),
    SYSCALL(readlinkat, SysReadlinkat),
    SYSCALL_ERRNO(ustat, ENOSYS, "replaced by statfs; no device numbers are looked up"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_STAT_H_
