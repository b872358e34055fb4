// PID namespaces and the set of all tasks. (man 7 pid_namespaces)
#ifndef SENTRY_KERNEL_PID_NAMESPACE_H_
#define SENTRY_KERNEL_PID_NAMESPACE_H_

#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/vfs/inode.h"

namespace sentry {

class Kernel;
class ProcessGroup;
class Task;
class ThreadGroup;

inline constexpr int kPidMax = 4194304;  // kernel.pid_max on 64 bits

class PidNamespace final : public base::RefCounted {
 public:
  explicit PidNamespace(base::RefPtr<PidNamespace> parent);
  ~PidNamespace() override;
  PidNamespace* parent() const { return parent_.get(); }
  int level() const { return level_; }
  const uint64_t number = AllocateNamespaceNumber();  // /proc/<pid>/ns

  // All guarded by TaskSet::mu.
  absl::btree_map<int, Task*> tasks;               // by tid; zombie leaders included
  absl::flat_hash_map<int, ProcessGroup*> groups;  // by pgid
  ThreadGroup* init = nullptr;                     // child reaper
  int last_pid = 0;
  bool dying = false;  // init has exited: no new tasks (ENOMEM)

 private:
  base::RefPtr<PidNamespace> parent_;
  int level_;
};

// All tasks of the sandbox. `mu` is the kernel's tasklist_lock: it guards the process tree (parents, children, thread
// lists, exit states), pid tables, process groups and sessions. Order: TaskSet::mu, then SignalHandlers::mu.
class TaskSet {
 public:
  mutable base::Mutex mu;
  base::RefPtr<PidNamespace> root;  // set once
  // Guarded by mu.
  int live_tasks = 0;
  uint64_t forks = 0;
  absl::flat_hash_map<uint32_t, int> tasks_of_user;  // by real uid, for RLIMIT_NPROC
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_PID_NAMESPACE_H_
