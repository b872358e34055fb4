// chmod, chown, utimes, truncate, access (fs/open.c, fs/attr.c, fs/utimes.c).
#include <sys/inotify.h>

#include "sentry/vfs/file_locks.h"
#include "sentry/vfs/inotify.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {
namespace {

Result<RefPtr<Inode>> Target(const VfsPath& path) {
  RefPtr<Inode> inode = path.inode();
  if (!inode) return Errno(ENOENT);
  if (path.mount) TRY(WantWrite(*path.mount));
  return inode;
}

}  // namespace

Result<void> Chmod(VfsContext& ctx, const VfsPath& path, uint32_t mode) {
  RefPtr<Inode> inode = TRY(Target(path));
  if (inode->type() == FileType::kSymlink) return Errno(EOPNOTSUPP);  // since 6.6, on every file system
  {
    base::WriterLock l(inode->dir_lock);
    Attr attr = TRY(inode->GetOwnership());
    if (!OwnerOrCapable(*ctx.creds, attr.uid)) return Errno(EPERM);
    AttrChange change;
    change.mode = mode & 07777;
    if (!InGroupOrCapable(*ctx.creds, attr.gid)) *change.mode &= ~uint32_t{S_ISGID};
    TRY(inode->SetAttr(change));
  }
  NotifyDentry(*path.dentry, IN_ATTRIB);
  return {};
}

Result<void> Chown(VfsContext& ctx, const VfsPath& path, uint32_t uid, uint32_t gid) {
  RefPtr<Inode> inode = TRY(Target(path));
  const Credentials& creds = *ctx.creds;
  {
    base::WriterLock l(inode->dir_lock);
    Attr attr = TRY(inode->GetOwnership());
    AttrChange change;
    bool capable = creds.Capable(CAP_CHOWN);
    if (uid != UINT32_MAX) {
      if (!capable && !(creds.fsuid == attr.uid && uid == attr.uid)) return Errno(EPERM);
      change.uid = uid;
    }
    if (gid != UINT32_MAX) {
      if (!capable && !(creds.fsuid == attr.uid && (gid == attr.gid || creds.InGroup(gid)))) return Errno(EPERM);
      change.gid = gid;
    }
    // chown_common: even root's chown takes the bits away, except from directories.
    if (!inode->is_dir() && (attr.mode & (S_ISUID | S_ISGID))) {
      uint32_t drop = S_ISUID;
      if ((attr.mode & S_ISGID) && ((attr.mode & S_IXGRP) || !InGroupOrCapable(creds, attr.gid))) drop |= S_ISGID;
      if (attr.mode & drop) change.mode = attr.mode & 07777 & ~drop;
    }
    TRY(inode->SetAttr(change));
  }
  NotifyDentry(*path.dentry, IN_ATTRIB);
  return {};
}

Result<void> Utimes(VfsContext& ctx, const VfsPath& path, TimeChange atime, TimeChange mtime) {
  using Kind = TimeChange::Kind;
  if (atime.kind == Kind::kOmit && mtime.kind == Kind::kOmit) return {};
  RefPtr<Inode> inode = TRY(Target(path));
  {
    base::WriterLock l(inode->dir_lock);
    Attr attr = TRY(inode->GetOwnership());
    if (atime.kind == Kind::kNow && mtime.kind == Kind::kNow) {
      // "touch": write permission will do.
      if (!OwnerOrCapable(*ctx.creds, attr.uid)) TRY(inode->CheckAccess(*ctx.creds, kMayWrite));
    } else if (!OwnerOrCapable(*ctx.creds, attr.uid)) {
      return Errno(EPERM);
    }
    FileTimeNs now = FileNow();
    AttrChange change;
    if (atime.kind != Kind::kOmit) change.atime = atime.kind == Kind::kNow ? now : atime.ns;
    if (mtime.kind != Kind::kOmit) change.mtime = mtime.kind == Kind::kNow ? now : mtime.ns;
    TRY(inode->SetAttr(change));
  }
  uint32_t event = IN_ATTRIB;
  if (mtime.kind == Kind::kOmit) event = IN_ACCESS;
  if (atime.kind == Kind::kOmit) event = IN_MODIFY;
  NotifyDentry(*path.dentry, event);
  return {};
}

Result<void> Truncate(VfsContext& ctx, const VfsPath& path, int64_t size) {
  if (size < 0) return Errno(EINVAL);
  RefPtr<Inode> inode = path.inode();
  if (!inode) return Errno(ENOENT);
  if (inode->is_dir()) return Errno(EISDIR);
  if (inode->type() != FileType::kRegular) return Errno(EINVAL);
  if (path.mount) TRY(WantWrite(*path.mount));
  TRY(inode->CheckAccess(*ctx.creds, kMayWrite));
  TRY(inode->GetWriteAccess());
  auto truncate = [&]() -> Result<void> {
    if (FileLocks* locks = inode->locks_if_any()) TRY(locks->BreakLeases(/*for_write=*/true, ctx.blocker));
    base::WriterLock l(inode->dir_lock);
    Attr attr = TRY(inode->GetAttr());
    if (size > attr.size && static_cast<uint64_t>(size) > ctx.file_size_limit) return Errno(EFBIG);
    AttrChange change;
    change.size = size;
    if (uint32_t drop = SetIdBitsToDrop(*ctx.creds, attr)) change.mode = attr.mode & 07777 & ~drop;
    return inode->SetAttr(change);
  };
  Result<void> result = truncate();
  inode->PutWriteAccess();
  TRY(result);
  NotifyDentry(*path.dentry, IN_MODIFY);
  return {};
}

Result<void> Access(VfsContext& ctx, const VfsPath& path, int may) {
  RefPtr<Inode> inode = path.inode();
  if (!inode) return Errno(ENOENT);
  if (may == 0) return {};
  // do_faccessat: a file that could not be executed from here anyway.
  if ((may & kMayExec) && inode->type() == FileType::kRegular && path.mount &&
      (path.mount->flags() & 8 /* MS_NOEXEC */)) {
    return Errno(EACCES);
  }
  TRY(inode->CheckAccess(*ctx.creds, may));
  FileType t = inode->type();
  bool special =
      t == FileType::kFifo || t == FileType::kSocket || t == FileType::kCharDevice || t == FileType::kBlockDevice;
  if ((may & kMayWrite) && !special && path.mount && path.mount->read_only()) return Errno(EROFS);
  return {};
}

}  // namespace sentry::vfs
