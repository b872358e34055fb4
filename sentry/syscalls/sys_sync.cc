#include "sentry/syscalls/sys_sync.h"

#include <fcntl.h>

#include "sentry/vfs/file_description.h"

namespace sentry {

Result<void> SysSync(Task& task) {
  // The mounts of the caller's namespace stand for all superblocks. sync(2) has no errors.
  for (const MountNamespace::Entry& entry : task.mounts().List()) (void)entry.mount->superblock().Sync();
  return {};
}

Result<void> SysSyncfs(Task& task, FdArg fd) {
  auto file = TRY(task.GetFile(Fd(fd)));
  return file->path().dentry->superblock().Sync();
}

Result<void> SysFsync(Task& task, FdArg fd) { return TRY(task.GetFile(Fd(fd)))->Fsync(/*data_only=*/false); }

Result<void> SysFdatasync(Task& task, FdArg fd) { return TRY(task.GetFile(Fd(fd)))->Fsync(/*data_only=*/true); }

Result<void> SysSyncFileRange(Task& task, FdArg fd, int64_t offset, int64_t bytes, uint32_t flags) {
  auto file = TRY(task.GetFile(Fd(fd)));
  constexpr uint32_t kKnown = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  int64_t end;
  if ((flags & ~kKnown) != 0 || offset < 0 || bytes < 0 || __builtin_add_overflow(offset, bytes, &end))
    return Errno(EINVAL);
  FileType type = file->inode()->type();
  if (type != FileType::kRegular && type != FileType::kBlockDevice && type != FileType::kDirectory)
    return Errno(ESPIPE);
  // Nothing is promised about the disk (man 2 sync_file_range), but who asks to wait gets more than asked for.
  if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) == 0) return {};
  return file->Fsync(/*data_only=*/true);
}

}  // namespace sentry
