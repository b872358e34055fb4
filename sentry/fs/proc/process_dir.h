// /proc/<pid> and /proc/<pid>/task/<tid>.
//
// The directories and their files are made at every lookup, one small object each, and found in tables of what a
// process directory has (task_files.cc). They hold the task, so that what is open survives it and answers ESRCH.
#ifndef SENTRY_FS_PROC_PROCESS_DIR_H_
#define SENTRY_FS_PROC_PROCESS_DIR_H_

#include <optional>
#include <span>

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
  // Names that are not there cannot even be looked up to be made (proc_lookup_de).
  int CreateError(bool file) const override { return ENOENT; }

 private:
  Kernel& kernel_;
  RefPtr<PidNamespace> ns_;
};

// What an inode beneath a process directory is about.
struct TaskRef {
  RefPtr<ProcSuperblock> sb;
  RefPtr<Task> task;
  bool whole = true;  // the process (/proc/<pid>), not one thread (task/<tid>)
  int root_tid = 0;   // in the root namespace: unique while the task exists

  Kernel& kernel() const { return sb->kernel(); }
  const PidNamespace& ns() const { return sb->ns(); }
};

// Numbers are computed, so that an object has the same one at every lookup: which task, which directory of it, which
// entry.
enum class Area : uint64_t { kFiles, kFd, kFdInfo, kNamespaces, kNet, kAttr, kTasks };
inline uint64_t InoOf(int root_tid, bool whole, Area area, uint32_t index) {
  return static_cast<uint64_t>(root_tid) << 36 | uint64_t{whole} << 35 | static_cast<uint64_t>(area) << 32 | index;
}
inline uint64_t InoOf(const TaskRef& ref, Area area, uint32_t index) {
  return InoOf(ref.root_tid, ref.whole, area, index);
}

// A process or thread number as a name in a directory: decimal, without leading zeros.
std::optional<int> ParsePid(std::string_view name);
// Whether the inode is the directory of just this task.
bool IsDirOf(const Inode& inode, const Task& task);
// Whether the task still has its number: not once it has been reaped (ESRCH for files, ENOENT for directories).
bool Alive(const Task& task);
// Who owns the files of a task: its effective ids, or root if it is not dumpable (task_dump_owner).
kernfs::Owner OwnerOf(Task& task);

// One entry of a directory about a task. Which functions are set depends on the type; each gets a task that is alive.
enum class Guard : uint8_t {
  kNone,  // the permission bits alone
  kRead,  // every read needs the right to inspect the task
  kOpen,  // opening and every read
};
enum class Shown : uint8_t { kBoth, kProcess, kThread };
struct TaskEntry {
  const char* name;
  uint32_t mode;  // with the type
  Guard guard = Guard::kNone;
  Shown shown = Shown::kBoth;
  Result<std::string> (*show)(const TaskRef& ref, VfsContext& ctx) = nullptr;
  // A text made in parts instead (see TextFile::Generate).
  Result<std::string> (*show_part)(const TaskRef& ref, uint64_t& cursor) = nullptr;
  Result<void> (*store)(const TaskRef& ref, VfsContext& ctx, std::string_view text) = nullptr;
  // Magic links: where to, and what readlink shows if that is not the path.
  Result<VfsPath> (*follow)(const TaskRef& ref) = nullptr;
  Result<std::string> (*text)(const TaskRef& ref) = nullptr;
  RefPtr<Inode> (*make)(const TaskRef& ref, uint64_t ino) = nullptr;  // anything else
};
std::span<const TaskEntry> TaskEntries();

RefPtr<Inode> NewProcessDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, int root_tid);
// A directory of entries from a table.
RefPtr<Inode> NewTableDir(const TaskRef& ref, std::span<const TaskEntry> entries, Area area, uint32_t permissions,
                          uint64_t ino);
RefPtr<Inode> NewTasksDir(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewFdDir(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewFdInfoDir(const TaskRef& ref, uint64_t ino);
RefPtr<Inode> NewNamespaceDir(const TaskRef& ref, uint64_t ino);

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_PROCESS_DIR_H_
