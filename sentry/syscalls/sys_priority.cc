#include "sentry/syscalls/sys_priority.h"

#include <linux/ioprio.h>
#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/sys_sched.h"

namespace sentry {
namespace {

enum class Who { kProcess, kProcessGroup, kUser };

// The threads that a call is about; 0 names the caller's. None: ESRCH.
Result<std::vector<RefPtr<Task>>> Named(Task& task, Who who, int id) {
  std::vector<RefPtr<Task>> found;
  if (who == Who::kProcess) {
    RefPtr<Task> one = id == 0 ? RefPtr<Task>(&task) : task.kernel().FindTask(id, task.pid_namespace());
    if (one) found.push_back(std::move(one));
  } else if (who == Who::kProcessGroup) {
    RefPtr<ProcessGroup> group = id == 0 ? nullptr : task.kernel().FindProcessGroup(id, task.pid_namespace());
    base::MutexLock tree(task.kernel().tasks().mu);
    const ProcessGroup* of = id == 0 ? task.thread_group().process_group.get() : group.get();
    if (of != nullptr) {
      for (ThreadGroup* member : of->members) {
        for (Task* thread : member->tasks) found.emplace_back(thread);
      }
    }
  } else {
    const uint32_t uid = id == 0 ? task.creds().ruid : static_cast<uint32_t>(id);
    base::MutexLock tree(task.kernel().tasks().mu);
    for (auto& [tid, thread] : task.pid_namespace().tasks) {
      if (thread->SnapshotCreds()->ruid == uid) found.emplace_back(thread);
    }
  }
  if (found.empty()) return Errno(ESRCH);
  return found;
}

// set_one_prio()
Result<void> SetNice(Task& task, Task& target, int value) {
  if (!MayChangeScheduling(task, target)) return Errno(EPERM);
  // RLIMIT_NICE counts from 20 - nice.
  const int64_t floor = 20 - static_cast<int64_t>(std::min<uint64_t>(target.thread_group().Limit(RLIMIT_NICE), 40));
  if (value < target.nice.load() && value < floor && !task.Capable(CAP_SYS_NICE)) return Errno(EACCES);
  target.nice.store(value);
  return {};
}

Result<Who> IoprioWho(int which) {
  if (which < IOPRIO_WHO_PROCESS || which > IOPRIO_WHO_USER) return Errno(EINVAL);
  return static_cast<Who>(which - IOPRIO_WHO_PROCESS);
}

// __get_task_ioprio(): without one of its own it follows from the nice value.
int EffectiveIoprio(const Task& task) {
  const int own = task.ioprio.load();
  if (IOPRIO_PRIO_CLASS(own) != IOPRIO_CLASS_NONE) return own;
  const int io_class = task.sched_policy.load() == SCHED_IDLE ? IOPRIO_CLASS_IDLE : IOPRIO_CLASS_BE;
  return io_class << IOPRIO_CLASS_SHIFT | (task.nice.load() + 20) / 5;
}

}  // namespace

Result<int> SysGetpriority(Task& task, int which, int who) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  int best = 0;
  for (const RefPtr<Task>& target : TRY(Named(task, static_cast<Who>(which), who))) {
    best = std::max(best, 20 - target->nice.load());  // the raw call's encoding (man 2 getpriority, NOTES)
  }
  return best;
}

Result<void> SysSetpriority(Task& task, int which, int who, int value) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  value = std::clamp(value, -20, 19);
  Result<void> result;
  for (const RefPtr<Task>& target : TRY(Named(task, static_cast<Who>(which), who))) {
    Result<void> one = SetNice(task, *target, value);
    if (!one.ok()) result = one;
  }
  return result;
}

Result<int> SysIoprioGet(Task& task, int which, int who) {
  std::vector<RefPtr<Task>> targets = TRY(Named(task, TRY(IoprioWho(which)), who));
  if (which == IOPRIO_WHO_PROCESS) return targets[0]->ioprio.load();
  int best = EffectiveIoprio(*targets[0]);
  for (const RefPtr<Task>& target : targets) best = std::min(best, EffectiveIoprio(*target));
  return best;
}

Result<void> SysIoprioSet(Task& task, int which, int who, int value) {
  // ioprio_check_cap()
  const int level = value & (IOPRIO_NR_LEVELS - 1);
  switch (IOPRIO_PRIO_CLASS(value)) {
    case IOPRIO_CLASS_RT:
      if (!task.Capable(CAP_SYS_ADMIN) && !task.Capable(CAP_SYS_NICE)) return Errno(EPERM);
      break;
    case IOPRIO_CLASS_BE:
    case IOPRIO_CLASS_IDLE:
      break;
    case IOPRIO_CLASS_NONE:
      if (level != 0) return Errno(EINVAL);
      break;
    default:
      return Errno(EINVAL);
  }
  for (const RefPtr<Task>& target : TRY(Named(task, TRY(IoprioWho(which)), who))) {
    // set_task_ioprio(): the user counts, not the group.
    CredentialsRef theirs = target->SnapshotCreds();
    const Credentials& mine = task.creds();
    if (theirs->ruid != mine.euid && theirs->ruid != mine.ruid && !task.Capable(CAP_SYS_NICE)) return Errno(EPERM);
    target->ioprio.store(value);
  }
  return {};
}

}  // namespace sentry
