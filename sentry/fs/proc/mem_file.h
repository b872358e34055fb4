// /proc/<pid>/mem
#ifndef SENTRY_FS_PROC_MEM_FILE_H_
#define SENTRY_FS_PROC_MEM_FILE_H_

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

RefPtr<Inode> NewMemFile(const TaskRef& ref, uint64_t ino);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MEM_FILE_H_
