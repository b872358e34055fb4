// /proc/<pid>/mem.
#ifndef SENTRY_FS_PROC_MEM_FILE_H_
#define SENTRY_FS_PROC_MEM_FILE_H_

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

RefPtr<Inode> NewMemFile(RefPtr<ProcSuperblock> sb, RefPtr<Task> task);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MEM_FILE_H_
