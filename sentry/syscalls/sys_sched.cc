#include "sentry/syscalls/sys_sched.h"

#include <linux/sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sentry/kernel/kernel.h"

namespace sentry {

Result<RefPtr<Task>> SchedulingTarget(Task& task, int pid) {
  if (pid < 0) return Errno(EINVAL);
  if (pid == 0 || pid == task.tid()) return RefPtr<Task>(&task);
  RefPtr<Task> target = task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  return target;
}

bool MayChangeScheduling(Task& task, Task& target) {
  CredentialsRef theirs = target.SnapshotCreds();
  return task.creds().euid == theirs->euid || task.creds().euid == theirs->ruid || task.Capable(CAP_SYS_NICE);
}

namespace {

uint64_t CpuMask(Task& task) { return task.kernel().cpu_mask(); }

constexpr uint64_t kResetOnFork = 1, kKeepPolicy = 8, kKeepParams = 0x10;  // SCHED_FLAG_*

bool IsNormalPolicy(int policy) { return policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE; }
bool IsRealtimePolicy(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

}  // namespace

Result<void> SysGetcpu(Task& task, UserPtr<uint32_t> cpu, UserPtr<uint32_t> node) {
  // Only numbers that the guest may see: the host's CPU is folded into them, and into those that the task asked for.
  uint32_t last = static_cast<uint32_t>(std::max(task.context().LastCpu(), 0) % std::max(task.kernel().cpus(), 1));
  const uint64_t allowed = task.affinity.load() & CpuMask(task);
  if (allowed != 0 && !(allowed >> last & 1)) last = static_cast<uint32_t>(std::countr_zero(allowed));
  if (cpu) TRY(task.mm().Write(cpu, last));
  if (node) TRY(task.mm().Write(node, 0u));
  return {};
}

Result<void> SysSchedYield(Task& task) {
  base::Fiber::Yield();
  return {};
}

Result<int> SysSchedGetaffinity(Task& task, int pid, uint32_t size, UserPtr<uint8_t> mask) {
  if (size % 8 != 0 || size * 8 < static_cast<uint32_t>(task.kernel().cpus())) return Errno(EINVAL);
  if (pid < 0) return Errno(ESRCH);  // not EINVAL, as its neighbours
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  uint64_t bits = target->affinity.load() & CpuMask(task);
  if (bits == 0) bits = CpuMask(task);
  TRY(task.mm().Write(UserPtr<uint64_t>{mask.addr}, bits));
  return 8;
}

Result<void> SysSchedSetaffinity(Task& task, int pid, uint32_t size, UserPtr<uint8_t> mask) {
  uint64_t bits = 0;
  const size_t n = std::min<size_t>(size, 8);
  std::vector<uint8_t> raw = TRY(task.mm().ReadArray(mask, n));
  std::memcpy(&bits, raw.data(), raw.size());
  if (pid < 0) return Errno(ESRCH);
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  if (!MayChangeScheduling(task, *target)) return Errno(EPERM);
  if ((bits & CpuMask(task)) == 0) return Errno(EINVAL);
  target->affinity.store(bits & CpuMask(task));
  target->ChangeAnswers();
  return {};
}

Result<int> SysSchedGetscheduler(Task& task, int pid) {
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  return target->sched_policy.load() | (target->sched_reset_on_fork.load() ? SCHED_RESET_ON_FORK : 0);
}

namespace {

// kernel/sched/syscalls.c: user_check_sched_setscheduler, for the policies without real time.
Result<void> SetPolicy(Task& task, Task& target, int policy, bool reset_on_fork, int nice) {
  if (!task.Capable(CAP_SYS_NICE)) {
    // RLIMIT_NICE counts from 20 - nice; idle counts as the end of the scale.
    const int64_t floor = 20 - static_cast<int64_t>(std::min<uint64_t>(target.thread_group().Limit(RLIMIT_NICE), 40));
    if (nice < target.nice.load() && nice < floor) return Errno(EPERM);
    if (target.sched_policy.load() == SCHED_IDLE && policy != SCHED_IDLE && nice < floor) return Errno(EPERM);
    if (!MayChangeScheduling(task, target)) return Errno(EPERM);
    if (target.sched_reset_on_fork.load() && !reset_on_fork) return Errno(EPERM);
  }
  target.sched_policy.store(policy);
  target.sched_reset_on_fork.store(reset_on_fork);
  target.nice.store(nice);
  return {};
}

}  // namespace

Result<void> SysSchedSetscheduler(Task& task, int pid, int policy, UserPtr<int32_t> param) {
  if (!param || policy < 0) return Errno(EINVAL);
  int32_t priority = TRY(task.mm().Read(param));
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  const bool reset_on_fork = policy & SCHED_RESET_ON_FORK;
  policy &= ~SCHED_RESET_ON_FORK;
  if (IsNormalPolicy(policy)) {
    if (priority != 0) return Errno(EINVAL);
    return SetPolicy(task, *target, policy, reset_on_fork, target->nice.load());
  }
  if (!IsRealtimePolicy(policy) || priority < 1 || priority > 99) return Errno(EINVAL);
  return Errno(EPERM);
}

Result<void> SysSchedGetparam(Task& task, int pid, UserPtr<int32_t> param) {
  if (!param) return Errno(EINVAL);
  TRY(SchedulingTarget(task, pid));
  return task.mm().Write(param, 0);
}

Result<void> SysSchedSetparam(Task& task, int pid, UserPtr<int32_t> param) {
  if (!param) return Errno(EINVAL);
  int32_t priority = TRY(task.mm().Read(param));
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  if (!MayChangeScheduling(task, *target)) return Errno(EPERM);
  return priority == 0 ? Result<void>() : Errno(EINVAL);
}

Result<void> SysSchedGetattr(Task& task, int pid, UserPtr<SchedAttr> attr, uint32_t size, uint32_t flags) {
  if (!attr || size < sizeof(SchedAttr) || size > kPageSize || flags != 0) return Errno(EINVAL);
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  SchedAttr a{};
  a.size = sizeof(a);
  a.sched_policy = static_cast<uint32_t>(target->sched_policy.load());
  if (target->sched_reset_on_fork.load()) a.sched_flags |= kResetOnFork;
  a.sched_nice = target->nice.load();
  return task.mm().Write(attr, a);
}

Result<void> SysSchedSetattr(Task& task, int pid, UserPtr<SchedAttr> attr, uint32_t flags) {
  if (!attr || flags != 0) return Errno(EINVAL);
  SchedAttr a = TRY(task.mm().Read(attr));
  RefPtr<Task> target = TRY(SchedulingTarget(task, pid));
  if (a.sched_flags & kKeepPolicy) a.sched_policy = static_cast<uint32_t>(target->sched_policy.load());
  if (a.sched_flags & kKeepParams) a.sched_nice = target->nice.load();
  if (!IsNormalPolicy(static_cast<int>(a.sched_policy)))
    return Errno(IsRealtimePolicy(static_cast<int>(a.sched_policy)) ? EPERM : EINVAL);
  return SetPolicy(task, *target, static_cast<int>(a.sched_policy), (a.sched_flags & kResetOnFork) != 0,
                   std::clamp(a.sched_nice, -20, 19));
}

Result<int> SysSchedGetPriorityMax(Task& task, int policy) {
  if (IsRealtimePolicy(policy)) return 99;
  if (IsNormalPolicy(policy) || policy == SCHED_DEADLINE) return 0;
  return Errno(EINVAL);
}

Result<int> SysSchedGetPriorityMin(Task& task, int policy) {
  if (IsRealtimePolicy(policy)) return 1;
  if (IsNormalPolicy(policy) || policy == SCHED_DEADLINE) return 0;
  return Errno(EINVAL);
}

Result<void> SysSchedRrGetInterval(Task& task, int pid, UserPtr<abi::Timespec> out) {
  TRY(SchedulingTarget(task, pid));
  return task.mm().Write(out, abi::Timespec{0, 4'000'000});
}

}  // namespace sentry
