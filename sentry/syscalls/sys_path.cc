#include "sentry/syscalls/sys_path.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <limits>

#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

using vfs::TimeChange;

// FileTimeNs covers the years 1677 to 2262. Differs from Linux: times beyond are cut there, as a file system with short
// stamps does.
FileTimeNs ToFileTime(int64_t seconds, int64_t ns) {
  int64_t result;
  if (__builtin_mul_overflow(seconds, int64_t{1'000'000'000}, &result) || __builtin_add_overflow(result, ns, &result)) {
    return seconds < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
  }
  return result;
}

TimeChange SetTo(int64_t seconds, int64_t ns) { return {TimeChange::Kind::kSet, ToFileTime(seconds, ns)}; }
constexpr TimeChange kNow{TimeChange::Kind::kNow, 0};

Result<TimeChange> FromTimespec(const abi::Timespec& ts) {
  if (ts.tv_nsec == UTIME_NOW) return kNow;
  if (ts.tv_nsec == UTIME_OMIT) return TimeChange{TimeChange::Kind::kOmit, 0};
  if (ts.tv_nsec < 0 || ts.tv_nsec > 999'999'999) return Errno(EINVAL);
  return SetTo(ts.tv_sec, ts.tv_nsec);
}

struct Times {
  TimeChange atime, mtime;
};

Result<Times> ReadTimevals(Task& task, UserPtr<abi::Timeval> times) {
  if (!times) return Times{kNow, kNow};
  auto values = TRY(task.mm().ReadArray(times, 2));
  for (const abi::Timeval& tv : values) {
    if (tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Errno(EINVAL);
  }
  return Times{SetTo(values[0].tv_sec, values[0].tv_usec * 1000), SetTo(values[1].tv_sec, values[1].tv_usec * 1000)};
}

// fs/utimes.c, do_utimes(): without a path the descriptor itself.
Result<void> SetTimes(Task& task, Fd dirfd, UserPath path, Times times, uint32_t flags) {
  if (path.addr == 0 && dirfd != AT_FDCWD) {
    if (flags != 0) return Errno(EINVAL);
    auto file = TRY(task.GetFile(dirfd));
    VfsContext ctx = task.MakeVfsContext();
    return vfs::Utimes(ctx, file->path(), times.atime, times.mtime);
  }
  if ((flags & ~uint32_t{AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) != 0) return Errno(EINVAL);
  ResolvedPath resolved = TRY(ResolvePath(task, dirfd, path, WalkFlagsOfAt(flags)));
  return vfs::Utimes(resolved.ctx, resolved.path, times.atime, times.mtime);
}

void RaiseSizeSignal(Task& task, Errno error, uint64_t limit) {
  if (error == EFBIG && limit != UINT64_MAX) {
    (void)task.SendSignal(UserSignal(kSIGXFSZ, task.thread_group().pid(), task.creds().ruid));
  }
}

}  // namespace

Result<void> SysLink(Task& task, UserPath old_path, UserPath new_path) {
  return SysLinkat(task, FdArg{AT_FDCWD}, old_path, FdArg{AT_FDCWD}, new_path, 0);
}

Result<void> SysLinkat(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path,
                       uint32_t flags) {
  if ((flags & ~uint32_t{AT_SYMLINK_FOLLOW | AT_EMPTY_PATH}) != 0) return Errno(EINVAL);
  PathArgs from = TRY(ReadPathArgs(task, Fd(old_dirfd), old_path, (flags & AT_EMPTY_PATH) != 0));
  // Linking a descriptor needs the capability (since 6.10 also the credentials that opened it).
  if (from.path.empty() && !task.Capable(CAP_DAC_READ_SEARCH)) return Errno(ENOENT);
  PathArgs to = TRY(ReadPathArgs(task, Fd(new_dirfd), new_path));
  return vfs::Link(to.ctx, from.start, from.path, to.start, to.path, flags);
}

Result<void> SysSymlink(Task& task, UserPath target, UserPath path) {
  return SysSymlinkat(task, target, FdArg{AT_FDCWD}, path);
}

Result<void> SysSymlinkat(Task& task, UserPath target, FdArg dirfd, UserPath path) {
  std::string text = TRY(target.Read(task));
  if (text.empty()) return Errno(ENOENT);
  PathArgs args = TRY(ReadPathArgs(task, Fd(dirfd), path));
  return vfs::Symlink(args.ctx, text, args.start, args.path);
}

Result<void> SysUnlink(Task& task, UserPath path) { return SysUnlinkat(task, FdArg{AT_FDCWD}, path, 0); }

Result<void> SysUnlinkat(Task& task, FdArg dirfd, UserPath path, uint32_t flags) {
  if ((flags & ~uint32_t{AT_REMOVEDIR}) != 0) return Errno(EINVAL);
  PathArgs args = TRY(ReadPathArgs(task, Fd(dirfd), path));
  if ((flags & AT_REMOVEDIR) != 0) return vfs::Rmdir(args.ctx, args.start, args.path);
  return vfs::Unlink(args.ctx, args.start, args.path);
}

Result<void> SysRename(Task& task, UserPath old_path, UserPath new_path) {
  return SysRenameat2(task, FdArg{AT_FDCWD}, old_path, FdArg{AT_FDCWD}, new_path, 0);
}

Result<void> SysRenameat(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path) {
  return SysRenameat2(task, old_dirfd, old_path, new_dirfd, new_path, 0);
}

Result<void> SysRenameat2(Task& task, FdArg old_dirfd, UserPath old_path, FdArg new_dirfd, UserPath new_path,
                          uint32_t flags) {
  if ((flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT}) != 0) return Errno(EINVAL);
  if ((flags & RENAME_EXCHANGE) != 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0) return Errno(EINVAL);
  PathArgs from = TRY(ReadPathArgs(task, Fd(old_dirfd), old_path));
  PathArgs to = TRY(ReadPathArgs(task, Fd(new_dirfd), new_path));
  return vfs::Rename(from.ctx, from.start, from.path, to.start, to.path, flags);
}

Result<void> SysChmod(Task& task, UserPath path, uint32_t mode) {
  return SysFchmodat2(task, FdArg{AT_FDCWD}, path, mode, 0);
}

Result<void> SysFchmod(Task& task, FdArg fd, uint32_t mode) {
  auto file = TRY(task.GetFile(Fd(fd)));
  VfsContext ctx = task.MakeVfsContext();
  return vfs::Chmod(ctx, file->path(), mode & 07777);
}

Result<void> SysFchmodat(Task& task, FdArg dirfd, UserPath path, uint32_t mode) {
  return SysFchmodat2(task, dirfd, path, mode, 0);
}

Result<void> SysFchmodat2(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t flags) {
  if ((flags & ~uint32_t{AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) != 0) return Errno(EINVAL);
  ResolvedPath resolved = TRY(ResolvePath(task, Fd(dirfd), path, WalkFlagsOfAt(flags)));
  // fs/open.c, chmod_common: a symlink has no mode of its own.
  if (resolved.path.inode()->type() == FileType::kSymlink) return Errno(EOPNOTSUPP);
  return vfs::Chmod(resolved.ctx, resolved.path, mode & 07777);
}

Result<void> SysChown(Task& task, UserPath path, uint32_t uid, uint32_t gid) {
  return SysFchownat(task, FdArg{AT_FDCWD}, path, uid, gid, 0);
}

Result<void> SysLchown(Task& task, UserPath path, uint32_t uid, uint32_t gid) {
  return SysFchownat(task, FdArg{AT_FDCWD}, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

Result<void> SysFchown(Task& task, FdArg fd, uint32_t uid, uint32_t gid) {
  auto file = TRY(task.GetFile(Fd(fd)));
  VfsContext ctx = task.MakeVfsContext();
  return vfs::Chown(ctx, file->path(), uid, gid);
}

Result<void> SysFchownat(Task& task, FdArg dirfd, UserPath path, uint32_t uid, uint32_t gid, uint32_t flags) {
  if ((flags & ~uint32_t{AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) != 0) return Errno(EINVAL);
  ResolvedPath resolved = TRY(ResolvePath(task, Fd(dirfd), path, WalkFlagsOfAt(flags)));
  return vfs::Chown(resolved.ctx, resolved.path, uid, gid);
}

Result<void> SysUtime(Task& task, UserPath path, UserPtr<abi::Utimbuf> times) {
  Times change{kNow, kNow};
  if (times) {
    abi::Utimbuf value = TRY(task.mm().Read(times));
    change = {SetTo(value.actime, 0), SetTo(value.modtime, 0)};
  }
  return SetTimes(task, AT_FDCWD, path, change, 0);
}

Result<void> SysUtimes(Task& task, UserPath path, UserPtr<abi::Timeval> times) {
  return SetTimes(task, AT_FDCWD, path, TRY(ReadTimevals(task, times)), 0);
}

Result<void> SysFutimesat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Timeval> times) {
  return SetTimes(task, Fd(dirfd), path, TRY(ReadTimevals(task, times)), 0);
}

Result<void> SysUtimensat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Timespec> times, uint32_t flags) {
  Times change{kNow, kNow};
  if (times) {
    auto values = TRY(task.mm().ReadArray(times, 2));
    // Nothing to do is nothing to look at, not even the path (man 2 utimensat).
    if (values[0].tv_nsec == UTIME_OMIT && values[1].tv_nsec == UTIME_OMIT) return {};
    change = {TRY(FromTimespec(values[0])), TRY(FromTimespec(values[1]))};
  }
  return SetTimes(task, Fd(dirfd), path, change, flags);
}

Result<void> SysTruncate(Task& task, UserPath path, int64_t length) {
  if (length < 0) return Errno(EINVAL);
  ResolvedPath resolved = TRY(ResolvePath(task, AT_FDCWD, path, kFollowLinks));
  Result<void> result = vfs::Truncate(resolved.ctx, resolved.path, length);
  if (!result.ok()) RaiseSizeSignal(task, result.error(), resolved.ctx.file_size_limit);
  return result;
}

Result<void> SysFtruncate(Task& task, FdArg fd, int64_t length) {
  if (length < 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  if (file->inode()->type() != FileType::kRegular || !file->writable()) return Errno(EINVAL);
  uint64_t limit = task.thread_group().Limit(RLIMIT_FSIZE);
  if (static_cast<uint64_t>(length) > limit && length > TRY(file->GetAttr()).size) {
    RaiseSizeSignal(task, Errno(EFBIG), limit);
    return Errno(EFBIG);
  }
  return file->Truncate(length);
}

Result<uint32_t> SysUmask(Task& task, uint32_t mask) { return task.fs().ExchangeUmask(mask); }

}  // namespace sentry
