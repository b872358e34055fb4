// Names and attributes: link(2), symlink(2), unlink(2), rename(2), chmod(2), chown(2), utimensat(2), truncate(2),
// umask(2).
#ifndef SENTRY_SYSCALLS_SYS_PATH_H_
#define SENTRY_SYSCALLS_SYS_PATH_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

namespace sentry {

namespace abi {
struct Utimbuf {
  int64_t actime, modtime;
};
}  // namespace abi

Result<void> SysLink(Task& task, UserPath old_path, UserPath new_path);
Result<void> SysLinkat(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path,
                       uint32_t flags);
Result<void> SysSymlink(Task& task, UserPath target, UserPath path);
Result<void> SysSymlinkat(Task& task, UserPath target, FdArg dirfd, UserPath path);
Result<void> SysUnlink(Task& task, UserPath path);
Result<void> SysUnlinkat(Task& task, FdArg dirfd, UserPath path, uint32_t flags);
Result<void> SysRename(Task& task, UserPath old_path, UserPath new_path);
Result<void> SysRenameat(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path);
Result<void> SysRenameat2(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path,
                          uint32_t flags);
Result<void> SysChmod(Task& task, UserPath path, uint32_t mode);
Result<void> SysFchmod(Task& task, FdArg fd, uint32_t mode);
Result<void> SysFchmodat(Task& task, FdArg dirfd, UserPath path, uint32_t mode);
Result<void> SysFchmodat2(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t flags);
Result<void> SysChown(Task& task, UserPath path, uint32_t uid, uint32_t gid);
Result<void> SysLchown(Task& task, UserPath path, uint32_t uid, uint32_t gid);
Result<void> SysFchown(Task& task, FdArg fd, uint32_t uid, uint32_t gid);
Result<void> SysFchownat(Task& task, FdArg dirfd, UserPath path, uint32_t uid, uint32_t gid, uint32_t flags);
Result<void> SysUtime(Task& task, UserPath path, UserPtr<abi::Utimbuf> times);
Result<void> SysUtimes(Task& task, UserPath path, UserPtr<abi::Timeval> times);
Result<void> SysFutimesat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Timeval> times);
Result<void> SysUtimensat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Timespec> times, uint32_t flags);
Result<void> SysTruncate(Task& task, UserPath path, int64_t length);
Result<void> SysFtruncate(Task& task, FdArg fd, int64_t length);
Result<uint32_t> SysUmask(Task& task, uint32_t mask);

inline constexpr Row kPathRows[] = {
    SYSCALL(link, SysLink),           SYSCALL(linkat, SysLinkat),       SYSCALL(symlink, SysSymlink),
    SYSCALL(symlinkat, SysSymlinkat), SYSCALL(unlink, SysUnlink),       SYSCALL(unlinkat, SysUnlinkat),
    SYSCALL(rename, SysRename),       SYSCALL(renameat, SysRenameat),   SYSCALL(renameat2, SysRenameat2),
    SYSCALL(chmod, SysChmod),         SYSCALL(fchmod, SysFchmod),       SYSCALL(fchmodat, SysFchmodat),
    SYSCALL(fchmodat2, SysFchmodat2), SYSCALL(chown, SysChown),         SYSCALL(lchown, SysLchown),
    SYSCALL(fchown, SysFchown),       SYSCALL(fchownat, SysFchownat),   SYSCALL(utime, SysUtime),
    SYSCALL(utimes, SysUtimes),       SYSCALL(futimesat, SysFutimesat), SYSCALL(utimensat, SysUtimensat),
    SYSCALL(truncate, SysTruncate),   SYSCALL(ftruncate, SysFtruncate), SYSCALL(umask, SysUmask),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_PATH_H_
