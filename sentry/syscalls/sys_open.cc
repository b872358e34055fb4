#include "sentry/syscalls/sys_open.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

constexpr uint32_t kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;  // __O_TMPFILE
constexpr uint32_t kSyncBit = O_SYNC & ~O_DSYNC;            // __O_SYNC
constexpr uint64_t kValidOpenFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK |
                                     O_DSYNC | kSyncBit | O_ASYNC | O_DIRECT | kOpenLargeFile | O_DIRECTORY |
                                     O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | kTmpfileBit;
constexpr uint64_t kPathFlags = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
constexpr uint64_t kModeBits = 07777;
constexpr uint64_t kResolveKnown =
    RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED;

bool WillCreate(uint64_t flags) { return (flags & (O_CREAT | kTmpfileBit)) != 0; }

// fs/open.c, build_open_flags(). Shared by the calls that drop what they do not know and openat2, which refuses it.
Result<Fd> Open(Task& task, Fd dirfd, UserPath path, const abi::OpenHow& how) {
  uint64_t flags = how.flags;
  if ((flags & ~kValidOpenFlags) != 0 || (how.resolve & ~kResolveKnown) != 0) return Errno(EINVAL);
  if ((how.resolve & RESOLVE_BENEATH) != 0 && (how.resolve & RESOLVE_IN_ROOT) != 0) return Errno(EINVAL);
  if (WillCreate(flags) ? (how.mode & ~kModeBits) != 0 : how.mode != 0) return Errno(EINVAL);
  if ((flags & (O_DIRECTORY | O_CREAT)) == (O_DIRECTORY | O_CREAT)) return Errno(EINVAL);
  if ((flags & kTmpfileBit) != 0) {
    if ((flags & O_TMPFILE) != O_TMPFILE) return Errno(EINVAL);
    if ((flags & O_ACCMODE) != O_WRONLY && (flags & O_ACCMODE) != O_RDWR) return Errno(EINVAL);
  }
  if ((flags & O_PATH) != 0 && (flags & ~kPathFlags) != 0) return Errno(EINVAL);
  if ((flags & kSyncBit) != 0) flags |= O_DSYNC;
  if ((how.resolve & RESOLVE_CACHED) != 0 && (flags & (O_TRUNC | O_CREAT | kTmpfileBit)) != 0) return Errno(EAGAIN);

  vfs::OpenArgs args;
  args.flags = static_cast<uint32_t>(flags & ~uint64_t{O_CLOEXEC});
  args.mode = static_cast<uint32_t>(how.mode);
  auto resolve = [&](uint64_t bit, WalkFlag flag) {
    if ((how.resolve & bit) != 0) args.resolve |= WalkBits(flag);
  };
  resolve(RESOLVE_NO_XDEV, WalkFlag::kNoXdev);
  resolve(RESOLVE_NO_MAGICLINKS, WalkFlag::kNoMagicLinks);
  resolve(RESOLVE_NO_SYMLINKS, WalkFlag::kNoSymlinks);
  resolve(RESOLVE_BENEATH, WalkFlag::kBeneath);
  resolve(RESOLVE_IN_ROOT, WalkFlag::kInRoot);
  resolve(RESOLVE_CACHED, WalkFlag::kCached);

  PathArgs at = TRY(ReadPathArgs(task, dirfd, path));
  // An absolute path begins at the directory, too.
  if ((how.resolve & RESOLVE_IN_ROOT) != 0) at.start = TRY(task.PathStart(dirfd, "."));
  // First, so that EMFILE leaves no file that O_CREAT made.
  FdReservation fd = TRY(task.ReserveFd());
  auto file = TRY(vfs::Open(at.ctx, at.start, at.path, args));
  return std::move(fd).Install(std::move(file), (flags & O_CLOEXEC) != 0);
}

// build_open_how(): what open and openat do not know is ignored.
abi::OpenHow LegacyHow(uint32_t flags, uint32_t mode) {
  abi::OpenHow how{flags & kValidOpenFlags, mode & kModeBits, 0};
  if ((how.flags & O_PATH) != 0) {
    how.flags &= kPathFlags;
  } else {
    how.flags |= kOpenLargeFile;
  }
  if (!WillCreate(how.flags)) how.mode = 0;
  return how;
}

}  // namespace

Result<Fd> SysOpen(Task& task, UserPath path, uint32_t flags, uint32_t mode) {
  return Open(task, AT_FDCWD, path, LegacyHow(flags, mode));
}

Result<Fd> SysCreat(Task& task, UserPath path, uint32_t mode) {
  return Open(task, AT_FDCWD, path, LegacyHow(O_CREAT | O_WRONLY | O_TRUNC, mode));
}

Result<Fd> SysOpenat(Task& task, FdArg dirfd, UserPath path, uint32_t flags, uint32_t mode) {
  return Open(task, Fd(dirfd), path, LegacyHow(flags, mode));
}

Result<Fd> SysOpenat2(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::OpenHow> how, size_t size) {
  if (size < sizeof(abi::OpenHow)) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  // copy_struct_from_user(): a longer structure has to be zero where we do not know it.
  auto extra = TRY(task.mm().ReadArray(UserPtr<uint8_t>{how.addr + sizeof(abi::OpenHow)}, size - sizeof(abi::OpenHow)));
  for (uint8_t byte : extra) {
    if (byte != 0) return Errno(E2BIG);
  }
  abi::OpenHow value = TRY(task.mm().Read(how));
  if ((value.flags & O_PATH) == 0) value.flags |= kOpenLargeFile;
  return Open(task, Fd(dirfd), path, value);
}

}  // namespace sentry
