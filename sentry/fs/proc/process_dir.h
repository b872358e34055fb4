// /proc/<pid> and /proc/<pid>/task/<tid>.
#ifndef SENTRY_FS_PROC_PROCESS_DIR_H_
#define SENTRY_FS_PROC_PROCESS_DIR_H_

#include "sentry/fs/kernfs/kernfs.h"
#include "sentry/kernel/kernel.h"

namespace sentry::proc {

// The proc instance: what its inodes share.
class ProcSuperblock final : public kernfs::KernSuperblock {
 public:
  ProcSuperblock(Kernel& kernel, RefPtr<PidNamespace> ns)
      : KernSuperblock("proc", 0x9fa0, /*revalidate=*/true), kernel_(kernel), ns_(std::move(ns)) {}
  Kernel& kernel() const { return kernel_; }
  const PidNamespace& ns() const { return *ns_; }

 private:
  Kernel& kernel_;
  RefPtr<PidNamespace> ns_;
};

// Made anew at every lookup; holds the task, so that a directory that is open survives it and answers ESRCH.
RefPtr<Inode> NewProcessDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task);
RefPtr<Inode> NewFdDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, bool info);
kernfs::OwnerFunction OwnerOf(RefPtr<Task> task);
// Whether the task is still in the table.
bool Alive(Task& task);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PROCESS_DIR_H_
