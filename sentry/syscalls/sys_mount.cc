#include "sentry/syscalls/sys_mount.h"

#include <linux/capability.h>
#include <sys/mount.h>

#include "absl/container/flat_hash_map.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/path_args.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

constexpr uint64_t kMagicMask = 0xffff0000, kMagic = 0xc0ed0000;  // MS_MGC_VAL: ignored since Linux 2.4
// What stays with a mount. MS_SYNCHRONOUS and the like are the superblock's and are shown with it.
constexpr uint64_t kMountFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_MANDLOCK |
                                 MS_DIRSYNC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME | MS_LAZYTIME;
constexpr uint64_t kPropagation = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE;
constexpr size_t kMaxOptions = 4096;  // copy_mount_options: a page

// path_mount(): relatime unless something else is asked for.
uint64_t NormalizeFlags(uint64_t flags) {
  uint64_t mount = flags & kMountFlags;
  if ((mount & (MS_NOATIME | MS_STRICTATIME)) == 0) mount |= MS_RELATIME;
  return mount & ~uint64_t{MS_STRICTATIME};
}

Result<std::string> ReadOptional(Task& task, UserPtr<char> text, size_t max, int too_long) {
  if (!text) return std::string();
  return task.mm().ReadString(text.addr, max, too_long);
}

// The options of a file system are text; a page of it, and what follows a fault does not count (copy_mount_options).
Result<std::string> ReadOptions(Task& task, UserPtr<char> data) {
  if (!data) return std::string();
  std::string text(kMaxOptions, '\0');
  size_t n = TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(text)), data.addr));
  text.resize(strnlen(text.data(), n));
  return text;
}

Result<void> Remount(const VfsPath& at, uint64_t flags) {
  if (at.dentry != at.mount->root_ref()) return Errno(EINVAL);
  at.mount->set_flags(NormalizeFlags(flags));
  return {};
}

Result<void> SetPropagation(const VfsPath& at, uint64_t flags) {
  uint64_t type = flags & ~uint64_t{MS_REC | MS_SILENT};
  if ((type & ~kPropagation) != 0 || (type & (type - 1)) != 0) return Errno(EINVAL);
  if (at.dentry != at.mount->root_ref()) return Errno(EINVAL);
  return {};
}

Result<void> Bind(Task& task, VfsContext& ctx, const VfsPath& at, const std::string& source, bool recursive) {
  if (source.empty()) return Errno(EINVAL);
  WalkResult from = TRY(WalkPath(ctx, ctx.cwd, source, kFollowLinks));
  const VfsPath& old = from.path;
  if (old.inode()->is_dir() != at.inode()->is_dir()) return Errno(ENOTDIR);
  MountNamespace& mounts = task.mounts();
  // Before the new one is there, or a bind beneath itself would find it.
  std::vector<MountNamespace::Entry> all;
  if (recursive) all = mounts.List();
  auto clone = [](Mount& mount, RefPtr<Dentry> root) {
    return base::TryMakeRef<Mount>(RefPtr<Superblock>(&mount.superblock()), std::move(root), mount.flags(),
                                   mount.source());
  };
  absl::flat_hash_map<const Mount*, RefPtr<Mount>> copies;
  copies[old.mount.get()] = TRY(mounts.AddMount(at, TRY(clone(*old.mount, old.dentry))));
  for (const MountNamespace::Entry& entry : all) {
    auto parent = copies.find(entry.mountpoint.mount.get());
    if (parent == copies.end() || entry.mountpoint.dentry == nullptr || copies.contains(entry.mount.get())) continue;
    if (entry.mountpoint.mount == old.mount && !entry.mountpoint.dentry->IsWithin(*old.dentry)) continue;
    VfsPath point{parent->second, entry.mountpoint.dentry};
    copies[entry.mount.get()] = TRY(mounts.AddMount(point, TRY(clone(*entry.mount, entry.mount->root_ref()))));
  }
  return {};
}

Result<void> MountNew(Task& task, VfsContext& ctx, const VfsPath& at, vfs::MountRequest request,
                      const std::string& type) {
  if (type.empty()) return Errno(EINVAL);
  const vfs::FileSystemType* file_system = vfs::FindFileSystem(type);
  if (file_system == nullptr) return Errno(ENODEV);
  if (!file_system->guest_may_mount) return Errno(EPERM);
  std::string source = request.source.empty() ? "none" : request.source;
  uint64_t flags = NormalizeFlags(request.flags);
  vfs::NewMount fresh = TRY(file_system->mount(ctx, request));
  TRY(task.mounts().AddMount(
      at, TRY(base::TryMakeRef<Mount>(std::move(fresh.superblock), std::move(fresh.root), flags, source))));
  return {};
}

}  // namespace

// fs/namespace.c, do_mount and path_mount.
Result<void> SysMount(Task& task, UserPtr<char> source, UserPath target, UserPtr<char> type, uint64_t flags,
                      UserPtr<char> data) {
  std::string type_name = TRY(ReadOptional(task, type, kPageSize, EINVAL));
  std::string source_name = TRY(ReadOptional(task, source, kPageSize, EINVAL));
  std::string options = TRY(ReadOptions(task, data));
  ResolvedPath at = TRY(ResolvePath(task, AT_FDCWD, target, kFollowLinks));
  if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  if ((flags & MS_NOUSER) != 0) return Errno(EINVAL);

  if ((flags & MS_REMOUNT) != 0) return Remount(at.path, flags);
  if ((flags & MS_BIND) != 0) return Bind(task, at.ctx, at.path, source_name, (flags & MS_REC) != 0);
  if ((flags & kPropagation) != 0) return SetPropagation(at.path, flags);
  if ((flags & MS_MOVE) != 0) {
    if (source_name.empty()) return Errno(EINVAL);
    WalkResult from = TRY(WalkPath(at.ctx, at.ctx.cwd, source_name, kFollowLinks));
    return task.mounts().MoveMount(from.path, at.path);
  }
  vfs::MountRequest request;
  request.source = source_name;
  request.options = options;
  request.flags = flags;
  request.creds = task.creds_ref();
  return MountNew(task, at.ctx, at.path, std::move(request), type_name);
}

Result<void> SysUmount2(Task& task, UserPath target, uint32_t flags) {
  if ((flags & ~uint32_t{MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW}) != 0) return Errno(EINVAL);
  if ((flags & MNT_EXPIRE) != 0) return Errno(EINVAL);
  ResolvedPath at = TRY(ResolvePath(task, AT_FDCWD, target, (flags & UMOUNT_NOFOLLOW) != 0 ? 0 : kFollowLinks));
  if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  return task.mounts().Unmount(at.path, static_cast<int>(flags));
}

Result<void> SysPivotRoot(Task& task, UserPath new_root, UserPath put_old) {
  if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  constexpr uint32_t kWalk = WalkFlag::kFollow | WalkFlag::kDirectory;
  ResolvedPath to = TRY(ResolvePath(task, AT_FDCWD, new_root, kWalk));
  ResolvedPath old = TRY(ResolvePath(task, AT_FDCWD, put_old, kWalk));
  VfsPath root = task.fs().root();
  if (to.path.mount == root.mount || old.path.mount == root.mount) return Errno(EBUSY);
  TRY(task.mounts().PivotRoot(to.path, old.path));
  // chroot_fs_refs(): everybody whose root or working directory was the old root follows.
  for (const RefPtr<Task>& other : task.kernel().Tasks(*task.kernel().tasks().root)) {
    RefPtr<FsContext> fs = other->SnapshotFs();
    if (fs == nullptr) continue;
    if (fs->root() == root) fs->set_root(to.path);
    if (fs->cwd() == root) fs->set_cwd(to.path);
  }
  return {};
}

}  // namespace sentry
