#include "sentry/syscalls/sys_stat.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/securebits.h>
#include <linux/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif

struct Found {
  Attr attr;
  VfsPath path;
};

// vfs_statx(): a descriptor with an empty path is asked itself, because pipes and the like have no place in the tree.
Result<Found> StatAt(Task& task, Fd dirfd, UserPath path, uint32_t at_flags) {
  if ((at_flags & AT_EMPTY_PATH) != 0 && dirfd >= 0) {
    std::string name = path.addr == 0 ? std::string() : TRY(path.Read(task));
    if (name.empty()) {
      auto file = TRY(task.fds().Get(dirfd, /*allow_path=*/true));
      return Found{TRY(file->GetAttr()), file->path()};
    }
  }
  ResolvedPath resolved = TRY(ResolvePath(task, dirfd, path, WalkFlagsOfAt(at_flags)));
  return Found{TRY(resolved.path.inode()->GetAttr()), std::move(resolved.path)};
}

Result<void> StatTo(Task& task, Fd dirfd, UserPath path, uint32_t at_flags, UserPtr<abi::Stat> out) {
  Found found = TRY(StatAt(task, dirfd, path, at_flags));
  return task.mm().Write(out, found.attr.ToStat());
}

abi::StatxTimestamp ToStatxTime(FileTimeNs ns) {
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    --seconds;
    rest += 1'000'000'000;
  }
  return {seconds, static_cast<uint32_t>(rest), 0};
}

abi::Statx ToStatx(const Found& found) {
  const Attr& attr = found.attr;
  abi::Statx x{};
  x.stx_mask = STATX_BASIC_STATS;
  if (attr.btime != 0) x.stx_mask |= STATX_BTIME;
  x.stx_blksize = static_cast<uint32_t>(attr.blksize);
  x.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT | STATX_ATTR_AUTOMOUNT;
  x.stx_nlink = attr.nlink;
  x.stx_uid = attr.uid;
  x.stx_gid = attr.gid;
  x.stx_mode = static_cast<uint16_t>(attr.mode);
  x.stx_ino = attr.ino;
  x.stx_size = static_cast<uint64_t>(attr.size);
  x.stx_blocks = static_cast<uint64_t>(attr.blocks);
  x.stx_atime = ToStatxTime(attr.atime);
  x.stx_btime = attr.btime != 0 ? ToStatxTime(attr.btime) : abi::StatxTimestamp{};
  x.stx_ctime = ToStatxTime(attr.ctime);
  x.stx_mtime = ToStatxTime(attr.mtime);
  x.stx_rdev_major = gnu_dev_major(attr.rdev);
  x.stx_rdev_minor = gnu_dev_minor(attr.rdev);
  x.stx_dev_major = gnu_dev_major(attr.dev);
  x.stx_dev_minor = gnu_dev_minor(attr.dev);
  if (found.path.mount != nullptr) {
    x.stx_mask |= STATX_MNT_ID;
    x.stx_mnt_id = static_cast<uint64_t>(found.path.mount->id());
    if (found.path.dentry == found.path.mount->root_ref()) x.stx_attributes |= STATX_ATTR_MOUNT_ROOT;
  }
  return x;
}

// fs/statfs.c, calculate_f_flags() and the superblock's flags.
int64_t StatfsFlags(const VfsPath& path) {
  constexpr uint64_t kSame = 1 /* ST_RDONLY */ | 2 /* ST_NOSUID */ | 4 /* ST_NODEV */ | 8 /* ST_NOEXEC */ |
                             16 /* ST_SYNCHRONOUS */ | 1024 /* ST_NOATIME */ | 2048 /* ST_NODIRATIME */;
  int64_t flags = 0x20;  // ST_VALID
  if (path.mount != nullptr) {
    uint64_t mount = path.mount->flags();
    flags |= static_cast<int64_t>(mount & kSame);
    if ((mount & (1 << 21)) != 0) flags |= 4096;  // MS_RELATIME, ST_RELATIME
  }
  return flags;
}

Result<void> StatfsTo(Task& task, const VfsPath& path, UserPtr<abi::Statfs> out) {
  Superblock& superblock = path.dentry->superblock();
  FsStat stat = TRY(superblock.StatFs());
  abi::Statfs s{};
  s.f_type = stat.type;
  s.f_bsize = s.f_frsize = stat.bsize;
  s.f_blocks = stat.blocks;
  s.f_bfree = stat.bfree;
  s.f_bavail = stat.bavail;
  s.f_files = stat.files;
  s.f_ffree = stat.ffree;
  s.f_fsid[0] = static_cast<int32_t>(superblock.dev());
  s.f_fsid[1] = static_cast<int32_t>(superblock.dev() >> 32);
  s.f_namelen = stat.namelen;
  s.f_flags = StatfsFlags(path);
  return task.mm().Write(out, s);
}

// access_override_creds(): the real ids, and for them the capabilities an exec would leave.
CredentialsRef RealCredentials(Task& task) {
  const Credentials& creds = task.creds();
  uint64_t effective = creds.effective;
  if ((creds.securebits & SECBIT_NO_SETUID_FIXUP) == 0) effective = creds.ruid == 0 ? creds.permitted : 0;
  if (creds.fsuid == creds.ruid && creds.fsgid == creds.rgid && effective == creds.effective) return task.creds_ref();
  auto copy = base::MakeRef<Credentials>(creds);
  copy->fsuid = creds.ruid;
  copy->fsgid = creds.rgid;
  copy->effective = effective;
  return copy;
}

Result<void> AccessAt(Task& task, Fd dirfd, UserPath path, uint32_t mode, uint32_t flags) {
  if ((mode & ~uint32_t{R_OK | W_OK | X_OK}) != 0) return Errno(EINVAL);
  if ((flags & ~uint32_t{AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) != 0) return Errno(EINVAL);
  uint32_t walk = WalkFlagsOfAt(flags);
  PathArgs args = TRY(ReadPathArgs(task, dirfd, path, (flags & AT_EMPTY_PATH) != 0));
  if ((flags & AT_EACCESS) == 0) args.ctx.creds = RealCredentials(task);
  WalkResult found = TRY(WalkPath(args.ctx, args.start, args.path, walk));
  if (mode == 0) return {};
  return vfs::Access(args.ctx, found.path, static_cast<int>(mode));
}

}  // namespace

Result<void> SysStat(Task& task, UserPath path, UserPtr<abi::Stat> out) { return StatTo(task, AT_FDCWD, path, 0, out); }

Result<void> SysLstat(Task& task, UserPath path, UserPtr<abi::Stat> out) {
  return StatTo(task, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, out);
}

Result<void> SysFstat(Task& task, FdArg fd, UserPtr<abi::Stat> out) {
  auto file = TRY(task.fds().Get(Fd(fd), /*allow_path=*/true));
  return task.mm().Write(out, TRY(file->GetAttr()).ToStat());
}

Result<void> SysNewfstatat(Task& task, FdArg dirfd, UserPath path, UserPtr<abi::Stat> out, uint32_t flags) {
  if ((flags & ~uint32_t{AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE}) != 0)
    return Errno(EINVAL);
  return StatTo(task, Fd(dirfd), path, flags, out);
}

Result<void> SysStatx(Task& task, FdArg dirfd, UserPath path, uint32_t flags, uint32_t mask, UserPtr<abi::Statx> out) {
  if ((mask & STATX__RESERVED) != 0) return Errno(EINVAL);
  if ((flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) return Errno(EINVAL);
  if ((flags & ~uint32_t{AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE}) != 0)
    return Errno(EINVAL);
  return task.mm().Write(out, ToStatx(TRY(StatAt(task, Fd(dirfd), path, flags))));
}

Result<void> SysStatfs(Task& task, UserPath path, UserPtr<abi::Statfs> out) {
  ResolvedPath resolved = TRY(ResolvePath(task, AT_FDCWD, path, kFollowLinks));
  return StatfsTo(task, resolved.path, out);
}

Result<void> SysFstatfs(Task& task, FdArg fd, UserPtr<abi::Statfs> out) {
  auto file = TRY(task.fds().Get(Fd(fd), /*allow_path=*/true));
  return StatfsTo(task, file->path(), out);
}

Result<void> SysAccess(Task& task, UserPath path, uint32_t mode) { return AccessAt(task, AT_FDCWD, path, mode, 0); }

Result<void> SysFaccessat(Task& task, FdArg dirfd, UserPath path, uint32_t mode) {
  return AccessAt(task, Fd(dirfd), path, mode, 0);
}

Result<void> SysFaccessat2(Task& task, FdArg dirfd, UserPath path, uint32_t mode, uint32_t flags) {
  return AccessAt(task, Fd(dirfd), path, mode, flags);
}

Result<size_t> SysReadlink(Task& task, UserPath path, UserPtr<char> buffer, int32_t size) {
  return SysReadlinkat(task, FdArg{AT_FDCWD}, path, buffer, size);
}

Result<size_t> SysReadlinkat(Task& task, FdArg dirfd, UserPath path, UserPtr<char> buffer, int32_t size) {
  if (size <= 0) return Errno(EINVAL);
  PathArgs args = TRY(ReadPathArgs(task, Fd(dirfd), path, /*may_be_empty=*/true));
  std::string target;
  if (args.path.empty()) {
    // The symlink that an O_PATH descriptor names; ENOENT for anything else (fs/stat.c, do_readlinkat).
    auto inode = Fd(dirfd) == AT_FDCWD ? nullptr : args.start.inode();
    if (inode == nullptr || inode->type() != FileType::kSymlink) return Errno(ENOENT);
    target = TRY(inode->ReadLink());
  } else {
    target = TRY(vfs::ReadLink(args.ctx, args.start, args.path));
  }
  size_t length = std::min<size_t>(target.size(), static_cast<size_t>(size));
  TRY(task.mm().WriteArray(buffer, std::span<const char>(target.data(), length)));
  return length;
}

}  // namespace sentry
