// Who may do what to an inode (fs/namei.c, fs/inode.c, fs/attr.c).
#ifndef SENTRY_VFS_PERMISSION_H_
#define SENTRY_VFS_PERMISSION_H_

#include <cstdint>

#include "sentry/vfs/inode.h"
#include "sentry/vfs/path.h"

namespace sentry {

inline constexpr int kMayExec = 1, kMayWrite = 2, kMayRead = 4;

// generic_permission: owner, group or others; then CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. `mode` with the file type.
Result<void> GenericPermission(const Credentials& creds, uint32_t mode, uint32_t uid, uint32_t gid, int may);
// The owner, or CAP_FOWNER (inode_owner_or_capable).
inline bool OwnerOrCapable(const Credentials& creds, uint32_t uid) {
  return creds.fsuid == uid || creds.Capable(CAP_FOWNER);
}
// A member of the file's group, or CAP_FSETID (in_group_or_capable).
inline bool InGroupOrCapable(const Credentials& creds, uint32_t gid) {
  return creds.InGroup(gid) || creds.Capable(CAP_FSETID);
}
// Of the set-id bits in `mode`, those that a write or truncation by `creds` takes away (setattr_should_drop_suidgid).
uint32_t SetIdBitsToDrop(const Credentials& creds, const Attr& attr);
// Sticky directories: may `creds` remove an entry that belongs to `victim_uid`?
bool StickyForbids(const Credentials& creds, const Attr& dir, uint32_t victim_uid);

// may_create: write and search permission in a directory that still exists.
Result<void> MayCreateIn(const Credentials& creds, Inode& dir);
// may_delete. `victim` is positive; `want_dir`: rmdir, or the target of a rename of a directory.
Result<void> MayDelete(const Credentials& creds, Inode& dir, Dentry& victim, bool want_dir);

// mnt_want_write: EROFS.
inline Result<void> WantWrite(const Mount& mount) {
  if (mount.read_only()) return Errno(EROFS);
  return {};
}
// inode_permission on a path: a read-only mount refuses writes to what has contents.
Result<void> PathPermission(const Credentials& creds, const VfsPath& path, int may);

// Owner and mode of a new inode in `dir` (inode_init_owner): a set-gid directory passes its group on, to directories
// also the bit.
NewNode InitOwner(const Credentials& creds, const Attr& dir, uint32_t mode, bool is_dir);

}  // namespace sentry

#endif  // SENTRY_VFS_PERMISSION_H_
