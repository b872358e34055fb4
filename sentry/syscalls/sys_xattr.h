// Extended attributes. (man 7 xattr)
#ifndef SENTRY_SYSCALLS_SYS_XATTR_H_
#define SENTRY_SYSCALLS_SYS_XATTR_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<void> SysSetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size,
                         uint32_t flags);
Result<void> SysLsetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size,
                          uint32_t flags);
Result<void> SysFsetxattr(Task& task, FdArg fd, UserPtr<char> name, UserPtr<char> value, size_t size, uint32_t flags);
Result<size_t> SysGetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size);
Result<size_t> SysLgetxattr(Task& task, UserPath path, UserPtr<char> name, UserPtr<char> value, size_t size);
Result<size_t> SysFgetxattr(Task& task, FdArg fd, UserPtr<char> name, UserPtr<char> value, size_t size);
Result<size_t> SysListxattr(Task& task, UserPath path, UserPtr<char> list, size_t size);
Result<size_t> SysLlistxattr(Task& task, UserPath path, UserPtr<char> list, size_t size);
Result<size_t> SysFlistxattr(Task& task, FdArg fd, UserPtr<char> list, size_t size);
Result<void> SysRemovexattr(Task& task, UserPath path, UserPtr<char> name);
Result<void> SysLremovexattr(Task& task, UserPath path, UserPtr<char> name);
Result<void> SysFremovexattr(Task& task, FdArg fd, UserPtr<char> name);

inline constexpr Row kXattrRows[] = {
    SYSCALL(setxattr, SysSetxattr),         SYSCALL(lsetxattr, SysLsetxattr),
    SYSCALL(fsetxattr, SysFsetxattr),       SYSCALL(getxattr, SysGetxattr),
    SYSCALL(lgetxattr, SysLgetxattr),       SYSCALL(fgetxattr, SysFgetxattr),
    SYSCALL(listxattr, SysListxattr),       SYSCALL(llistxattr, SysLlistxattr),
    SYSCALL(flistxattr, SysFlistxattr),     SYSCALL(removexattr, SysRemovexattr),
    SYSCALL(lremovexattr, SysLremovexattr), SYSCALL(fremovexattr, SysFremovexattr),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_XATTR_H_
