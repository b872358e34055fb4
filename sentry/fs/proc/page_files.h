// /proc/<pid>/pagemap, clear_refs and map_files/ (fs/proc/task_mmu.c, fs/proc/base.c).
#ifndef SENTRY_FS_PROC_PAGE_FILES_H_
#define SENTRY_FS_PROC_PAGE_FILES_H_

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

RefPtr<Inode> NewPagemapFile(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewMapFilesDir(const TaskRef& ref, uint64_t ino);
Result<void> ClearRefs(const TaskRef& ref, VfsContext& ctx, std::string_view text);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PAGE_FILES_H_
