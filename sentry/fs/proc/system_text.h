// /proc files about the system as a whole.
#ifndef SENTRY_FS_PROC_SYSTEM_TEXT_H_
#define SENTRY_FS_PROC_SYSTEM_TEXT_H_

#include "sentry/fs/proc/process_dir.h"

namespace sentry::proc {

// Adds them to the root directory.
void AddSystemFiles(const RefPtr<ProcSuperblock>& sb, kernfs::StaticDir& root);
std::string CpuinfoText(int cpus);
// /proc/sysvipc.
void AddSysvIpcFiles(const RefPtr<ProcSuperblock>& sb, kernfs::StaticDir& dir);
// /proc/sys.
RefPtr<Inode> NewSysctlDir(const RefPtr<ProcSuperblock>& sb);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_SYSTEM_TEXT_H_
