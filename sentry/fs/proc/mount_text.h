// /proc/<pid>/mounts, mountinfo and mountstats.
#ifndef SENTRY_FS_PROC_MOUNT_TEXT_H_
#define SENTRY_FS_PROC_MOUNT_TEXT_H_

#include <string>

#include "sentry/vfs/path.h"

namespace sentry::proc {

// As seen from a root.
std::string MountsText(MountNamespace& ns, const VfsPath& root);
std::string MountinfoText(MountNamespace& ns, const VfsPath& root);
std::string MountstatsText(MountNamespace& ns, const VfsPath& root);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MOUNT_TEXT_H_
