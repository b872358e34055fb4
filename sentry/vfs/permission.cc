#include "sentry/vfs/permission.h"

namespace sentry {

Result<void> GenericPermission(const Credentials& creds, uint32_t mode, uint32_t uid, uint32_t gid, int may) {
  uint32_t bits = mode;
  if (creds.fsuid == uid) {
    bits >>= 6;
  } else if ((((bits >> 3) ^ bits) & 7) == 0) {
    // Group and others are the same: no need to look through the groups.
  } else if (creds.InGroup(gid)) {
    bits >>= 3;
  }
  if ((may & ~bits & 7) == 0) return {};
  if ((mode & S_IFMT) == S_IFDIR) {
    if (!(may & kMayWrite) && creds.Capable(CAP_DAC_READ_SEARCH)) return {};
    if (creds.Capable(CAP_DAC_OVERRIDE)) return {};
    return Errno(EACCES);
  }
  if (may == kMayRead && creds.Capable(CAP_DAC_READ_SEARCH)) return {};
  // Executing needs at least one x bit, even for root.
  if ((!(may & kMayExec) || (mode & 0111)) && creds.Capable(CAP_DAC_OVERRIDE)) return {};
  return Errno(EACCES);
}

uint32_t SetIdBitsToDrop(const Credentials& creds, const Attr& attr) {
  if (attr.type() != FileType::kRegular || !(attr.mode & (S_ISUID | S_ISGID)) || creds.Capable(CAP_FSETID)) return 0;
  uint32_t drop = attr.mode & S_ISUID;
  if ((attr.mode & S_ISGID) && ((attr.mode & S_IXGRP) || !creds.InGroup(attr.gid))) drop |= S_ISGID;
  return drop;
}

bool StickyForbids(const Credentials& creds, const Attr& dir, uint32_t victim_uid) {
  return (dir.mode & S_ISVTX) && creds.fsuid != victim_uid && creds.fsuid != dir.uid && !creds.Capable(CAP_FOWNER);
}

Result<void> MayCreateIn(const Credentials& creds, Inode& dir) {
  if (dir.dead.load(std::memory_order_relaxed)) return Errno(ENOENT);
  return dir.CheckAccess(creds, kMayWrite | kMayExec);
}

Result<void> MayDelete(const Credentials& creds, Inode& dir, Dentry& victim, bool want_dir) {
  TRY(dir.CheckAccess(creds, kMayWrite | kMayExec));
  Attr dir_attr = TRY(dir.GetOwnership());
  Inode& inode = *victim.inode_ptr();
  if (dir_attr.mode & S_ISVTX) {
    if (StickyForbids(creds, dir_attr, TRY(inode.GetOwnership()).uid)) return Errno(EPERM);
  }
  if (want_dir) {
    if (!inode.is_dir()) return Errno(ENOTDIR);
    if (victim.IsRoot()) return Errno(EBUSY);
  } else if (inode.is_dir()) {
    return Errno(EISDIR);
  }
  if (dir.dead.load(std::memory_order_relaxed)) return Errno(ENOENT);
  return {};
}

Result<void> PathPermission(const Credentials& creds, const VfsPath& path, int may) {
  Inode& inode = *path.dentry->inode_ptr();
  if ((may & kMayWrite) && path.mount && path.mount->read_only()) {
    FileType t = inode.type();
    if (t == FileType::kRegular || t == FileType::kDirectory || t == FileType::kSymlink) return Errno(EROFS);
  }
  return inode.CheckAccess(creds, may);
}

NewNode InitOwner(const Credentials& creds, const Attr& dir, uint32_t mode, bool is_dir) {
  NewNode node;
  node.uid = creds.fsuid;
  node.gid = creds.fsgid;
  if (dir.mode & S_ISGID) {
    node.gid = dir.gid;
    if (is_dir) {
      mode |= S_ISGID;
    } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !InGroupOrCapable(creds, dir.gid)) {
      mode &= ~uint32_t{S_ISGID};
    }
  }
  node.mode = mode;
  return node;
}

}  // namespace sentry
