#include "sentry/syscalls/sys_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

// Entries are laid out in the sentry's memory and copied out at once: a directory's lock is not held across a copy.
constexpr size_t kMaxDirentBytes = 256 << 10;

template <typename T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// struct linux_dirent64 and the older struct linux_dirent, which has the type in its last byte (man 2 getdents).
void AppendDirent(std::string& out, const Dirent& entry, bool legacy, size_t record) {
  size_t start = out.size();
  Append<uint64_t>(out, entry.ino);
  Append<int64_t>(out, entry.next);
  Append<uint16_t>(out, static_cast<uint16_t>(record));
  if (!legacy) Append<uint8_t>(out, entry.type);
  out.append(entry.name);
  out.resize(start + record);
  if (legacy) out.back() = static_cast<char>(entry.type);
}

Result<size_t> ReadEntries(Task& task, FdArg fd, UserPtr<std::byte> buffer, uint32_t size, bool legacy) {
  auto file = TRY(task.GetFile(Fd(fd)));
  if (!file->inode()->is_dir()) return Errno(ENOTDIR);
  size_t limit = std::min<size_t>(size, kMaxDirentBytes);
  size_t header = legacy ? 18 : 19;  // offsetof(d_name); the old form needs one more byte for the type behind the name
  std::string out;
  bool too_small = false;
  // A directory that has been removed (IS_DEADDIR).
  if (file->path().dentry->unlinked()) return Errno(ENOENT);
  TRY(file->Iterate(
      [&](const Dirent& entry) {
        size_t record = (header + entry.name.size() + 1 + (legacy ? 1 : 0) + 7) & ~size_t{7};
        if (out.size() + record > limit) {
          too_small = true;
          return false;
        }
        AppendDirent(out, entry, legacy, record);
        return true;
      },
      [&]() -> Result<void> {
        if (out.empty() && too_small) return Errno(EINVAL);
        return task.mm().WriteArray(UserPtr<char>{buffer.addr}, std::span<const char>(out));
      }));
  return out.size();
}

Result<void> ChangeDirectory(Task& task, const VfsPath& path) {
  auto inode = path.inode();
  if (!inode->is_dir()) return Errno(ENOTDIR);
  TRY(inode->CheckAccess(task.creds(), X_OK));
  task.fs().set_cwd(path);
  return {};
}

}  // namespace

Result<size_t> SysGetdents(Task& task, FdArg fd, UserPtr<std::byte> buffer, uint32_t size) {
  return ReadEntries(task, fd, buffer, size, /*legacy=*/true);
}

Result<size_t> SysGetdents64(Task& task, FdArg fd, UserPtr<std::byte> buffer, uint32_t size) {
  return ReadEntries(task, fd, buffer, size, /*legacy=*/false);
}

Result<void> SysMkdir(Task& task, UserPath path, uint32_t mode) {
  return SysMkdirat(task, FdArg{AT_FDCWD}, path, mode);
}

Result<void> SysMkdirat(Task& task, FdArg dirfd, UserPath path, uint32_t mode) {
  PathArgs args = TRY(ReadPathArgs(task, Fd(dirfd), path));
  return vfs::Mkdir(args.ctx, args.start, args.path, mode & 01777);
}

Result<void> SysRmdir(Task& task, UserPath path) {
  PathArgs args = TRY(ReadPathArgs(task, AT_FDCWD, path));
  return vfs::Rmdir(args.ctx, args.start, args.path);
}

Result<void> SysMknod(Task& task, UserPath path, uint32_t mode, uint32_t dev) {
  return SysMknodat(task, FdArg{AT_FDCWD}, path, mode, dev);
}

Result<void> SysMknodat(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t dev) {
  switch (mode & S_IFMT) {
    case 0:
      mode |= S_IFREG;
      break;
    case S_IFREG:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFDIR:
      return Errno(EPERM);
    default:
      return Errno(EINVAL);
  }
  PathArgs args = TRY(ReadPathArgs(task, Fd(dirfd), path));
  return vfs::Mknod(args.ctx, args.start, args.path, mode, dev);
}

Result<void> SysChdir(Task& task, UserPath path) {
  ResolvedPath resolved = TRY(ResolvePath(task, AT_FDCWD, path, WalkFlag::kFollow | WalkFlag::kDirectory));
  return ChangeDirectory(task, resolved.path);
}

Result<void> SysFchdir(Task& task, FdArg fd) {
  auto file = TRY(task.fds().Get(Fd(fd), /*allow_path=*/true));
  return ChangeDirectory(task, file->path());
}

Result<void> SysChroot(Task& task, UserPath path) {
  ResolvedPath resolved = TRY(ResolvePath(task, AT_FDCWD, path, WalkFlag::kFollow | WalkFlag::kDirectory));
  TRY(resolved.path.inode()->CheckAccess(task.creds(), X_OK));
  if (!task.Capable(CAP_SYS_CHROOT)) return Errno(EPERM);
  task.fs().set_root(resolved.path);
  return {};
}

Result<size_t> SysGetcwd(Task& task, UserPtr<char> buffer, size_t size) {
  VfsContext ctx = task.MakeVfsContext();
  if (ctx.cwd.dentry->unlinked()) return Errno(ENOENT);
  std::string name = PathName(ctx, ctx.cwd);
  size_t length = name.size() + 1;
  if (length > PATH_MAX) return Errno(ENAMETOOLONG);
  if (length > size) return Errno(ERANGE);
  TRY(task.mm().WriteArray(buffer, std::span<const char>(name.c_str(), length)));
  return length;
}

}  // namespace sentry
