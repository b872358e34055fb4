// The files of mount_text.h. An open one shows the namespace and the root that the task had when it was opened, and
// outlives the task (fs/proc_namespace.c: mounts_open_common).
#ifndef SENTRY_FS_PROC_MOUNT_FILE_H_
#define SENTRY_FS_PROC_MOUNT_FILE_H_

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

RefPtr<Inode> NewMountsFile(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewMountinfoFile(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewMountstatsFile(const TaskRef& ref, uint64_t ino);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MOUNT_FILE_H_
