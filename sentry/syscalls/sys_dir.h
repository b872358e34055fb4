// Directories: getdents(2), mkdir(2), rmdir(2), mknod(2), chdir(2), chroot(2), getcwd(2).
#ifndef SENTRY_SYSCALLS_SYS_DIR_H_
#define SENTRY_SYSCALLS_SYS_DIR_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<size_t> SysGetdents(Task& task, FdArg fd, UserPtr<std::byte> buffer, uint32_t size);
Result<size_t> SysGetdents64(Task& task, FdArg fd, UserPtr<std::byte> buffer, uint32_t size);
Result<void> SysMkdir(Task& task, UserPath path, uint32_t mode);
Result<void> SysMkdirat(Task& task, FdArg dirfd, UserPath path, uint32_t mode);
Result<void> SysRmdir(Task& task, UserPath path);
Result<void> SysMknod(Task& task, UserPath path, uint32_t mode, uint32_t dev);
Result<void> SysMknodat(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t dev);
Result<void> SysChdir(Task& task, UserPath path);
Result<void> SysFchdir(Task& task, FdArg fd);
Result<void> SysChroot(Task& task, UserPath path);
Result<size_t> SysGetcwd(Task& task, UserPtr<char> buffer, size_t size);

inline constexpr Row kDirRows[] = {
    SYSCALL(getdents, SysGetdents), SYSCALL(getdents64, SysGetdents64), SYSCALL(mkdir, SysMkdir),
    SYSCALL(mkdirat, SysMkdirat),   SYSCALL(rmdir, SysRmdir),           SYSCALL(mknod, SysMknod),
    SYSCALL(mknodat, SysMknodat),   SYSCALL(chdir, SysChdir),           SYSCALL(fchdir, SysFchdir),
    SYSCALL(chroot, SysChroot),     SYSCALL(getcwd, SysGetcwd),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_DIR_H_
