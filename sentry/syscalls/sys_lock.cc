#include "sentry/syscalls/sys_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "sentry/syscalls/file_io.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/file_locks.h"

namespace sentry {
namespace {

constexpr uint32_t kLockMand = 32;  // LOCK_MAND

// fs/locks.c, flock64_to_posix_lock.
Result<LockRange> ToRange(FileDescription& file, const abi::Flock& lock) {
  int64_t base = 0;
  switch (lock.l_whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = TRY(CurrentPosition(file));
      break;
    case SEEK_END:
      base = TRY(file.GetAttr()).size;
      break;
    default:
      return Errno(EINVAL);
  }
  LockRange range;
  if (__builtin_add_overflow(base, lock.l_start, &range.start)) return Errno(EOVERFLOW);
  if (range.start < 0) return Errno(EINVAL);
  if (lock.l_len > 0) {
    if (__builtin_add_overflow(range.start, lock.l_len - 1, &range.end)) return Errno(EOVERFLOW);
  } else if (lock.l_len < 0) {
    range.end = range.start - 1;
    if (__builtin_add_overflow(range.start, lock.l_len, &range.start) || range.start < 0) return Errno(EINVAL);
  }
  return range;
}

}  // namespace

Result<void> SysFlock(Task& task, FdArg fd, uint32_t operation) {
  if ((operation & kLockMand) != 0) return Errno(EOPNOTSUPP);
  LockType type;
  switch (operation & ~uint32_t{LOCK_NB}) {
    case LOCK_SH:
      type = LockType::kRead;
      break;
    case LOCK_EX:
      type = LockType::kWrite;
      break;
    case LOCK_UN:
      type = LockType::kUnlock;
      break;
    default:
      return Errno(EINVAL);
  }
  auto file = TRY(task.GetFile(Fd(fd)));
  if (type != LockType::kUnlock && !file->readable() && !file->writable()) return Errno(EBADF);
  Blocker* blocker = (operation & LOCK_NB) != 0 ? nullptr : &task;
  return file->inode()->locks().Flock(file.get(), type, blocker);
}

Result<void> FcntlLock(Task& task, FileDescription& file, uint32_t command, UserPtr<abi::Flock> argument) {
  abi::Flock flock = TRY(task.mm().Read(argument));
  bool ofd = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  bool test = command == F_GETLK || command == F_OFD_GETLK;
  bool wait = command == F_SETLKW || command == F_OFD_SETLKW;
  if (ofd && flock.l_pid != 0) return Errno(EINVAL);
  if (test && flock.l_type != F_RDLCK && flock.l_type != F_WRLCK) return Errno(EINVAL);

  RecordLock lock;
  lock.range = TRY(ToRange(file, flock));
  lock.ofd = ofd;
  lock.owner = ofd ? static_cast<const void*>(&file) : static_cast<const void*>(&task.fds());
  lock.pid = ofd ? -1 : task.thread_group().pid();
  switch (flock.l_type) {
    case F_RDLCK:
      if (!test && !file.readable()) return Errno(EBADF);
      lock.type = LockType::kRead;
      break;
    case F_WRLCK:
      if (!test && !file.writable()) return Errno(EBADF);
      lock.type = LockType::kWrite;
      break;
    case F_UNLCK:
      lock.type = LockType::kUnlock;
      break;
    default:
      return Errno(EINVAL);
  }

  FileLocks& locks = file.inode()->locks();
  if (!test) return locks.SetLock(lock, wait ? &task : nullptr);

  std::optional<RecordLock> conflict = locks.TestLock(lock);
  if (!conflict.has_value()) {
    flock.l_type = F_UNLCK;
  } else {
    flock.l_type = conflict->type == LockType::kRead ? F_RDLCK : F_WRLCK;
    flock.l_whence = SEEK_SET;
    flock.l_start = conflict->range.start;
    flock.l_len = conflict->range.end == INT64_MAX ? 0 : conflict->range.end - conflict->range.start + 1;
    flock.l_pid = conflict->pid;
  }
  return task.mm().Write(argument, flock);
}

}  // namespace sentry
