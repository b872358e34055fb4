// sync(2), syncfs(2), fsync(2), fdatasync(2), sync_file_range(2).
#ifndef SENTRY_SYSCALLS_SYS_SYNC_H_
#define SENTRY_SYSCALLS_SYS_SYNC_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<void> SysSync(Task& task);
Result<void> SysSyncfs(Task& task, FdArg fd);
Result<void> SysFsync(Task& task, FdArg fd);
Result<void> SysFdatasync(Task& task, FdArg fd);
Result<void> SysSyncFileRange(Task& task, FdArg fd, int64_t offset, int64_t bytes, uint32_t flags);

inline constexpr Row kSyncRows[] = {
    SYSCALL(sync, SysSync),
    SYSCALL(syncfs, SysSyncfs),
    SYSCALL(fsync, SysFsync),
    SYSCALL(fdatasync, SysFdatasync),
    SYSCALL_PARTIAL(sync_file_range, SysSyncFileRange, "writes back the whole file"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SYNC_H_
