// procfs (man 5 proc).
//
//   proc.cc        the root: self, thread-self, a directory per process
//   process_dir.*  /proc/<pid> and /proc/<pid>/task/<tid>: directories made from tables at every lookup
//   task_files.*   the table of their files
//   process_text.* the text of their files: stat, status, …; maps_text.*: maps and smaps
//   fd_dir.*       fd and fdinfo
//   mem_file.*     mem
//   mount_file.*   mounts, mountinfo, mountstats; mount_text.*: their text
//   namespace_dir.* ns
//   cpuinfo.*      cpuinfo
//   system_text.*  files about the whole system: meminfo, cpuinfo, …
//   sysctl.*       /proc/sys
//   net.*          /proc/<pid>/net
#ifndef SENTRY_FS_PROC_PROC_H_
#define SENTRY_FS_PROC_PROC_H_

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::proc {

// An instance that shows the processes of `ns`.
Result<vfs::NewMount> Create(Kernel& kernel, RefPtr<PidNamespace> ns);
// Registers "proc": a mount shows the PID namespace of the task that mounts it (the root's for boot).
void Register(Kernel& kernel);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PROC_H_
