// What SetAttr comes down to where the attributes are a struct in memory.
#ifndef SENTRY_VFS_APPLY_ATTR_H_
#define SENTRY_VFS_APPLY_ATTR_H_

#include "sentry/vfs/attr.h"

namespace sentry {

// Everything of the change but the size, and the new ctime (kernel: setattr_copy).
inline void ApplyAttrChange(Attr& attr, const AttrChange& change, FileTimeNs now) {
  if (change.mode) attr.mode = (attr.mode & S_IFMT) | (*change.mode & 07777);
  if (change.uid) attr.uid = *change.uid;
  if (change.gid) attr.gid = *change.gid;
  if (change.atime) attr.atime = *change.atime;
  if (change.mtime) attr.mtime = *change.mtime;
  attr.ctime = now;
}

}  // namespace sentry

#endif  // SENTRY_VFS_APPLY_ATTR_H_
