#include "sentry/syscalls/sys_misc.h"

#include <linux/sched.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/time.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

Result<RefPtr<Task>> Target(Task& task, int pid) {
  if (pid < 0) return Errno(EINVAL);
  if (pid == 0 || pid == task.tid()) return RefPtr<Task>(&task);
  RefPtr<Task> target = task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  return target;
}

bool MayChange(Task& task, Task& target) {
  CredentialsRef theirs = target.SnapshotCreds();
  return task.creds().euid == theirs->euid || task.creds().euid == theirs->ruid || task.Capable(CAP_SYS_NICE);
}

uint64_t CpuMask(Task& task) { return task.kernel().cpu_mask(); }

constexpr uint64_t kResetOnFork = 1, kKeepPolicy = 8, kKeepParams = 0x10;  // SCHED_FLAG_*

bool IsNormalPolicy(int policy) { return policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE; }
bool IsRealtimePolicy(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }

Result<void> SetName(Task& task, uint64_t name, int length, bool host) {
  if (!task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  if (length < 0 || length > 64) return Errno(EINVAL);
  std::string text(static_cast<size_t>(length), '\0');
  size_t n = TRY(task.mm().CopyIn(std::as_writable_bytes(std::span(text)), name));
  if (n != text.size()) return Errno(EFAULT);
  {
    base::MutexLock l(task.uts().mu);
    (host ? task.uts().hostname : task.uts().domainname) = text.c_str();
  }
  task.kernel().ChangeAnswers();
  return {};
}

}  // namespace

Result<void> SysUname(Task& task, UserPtr<Utsname> out) { return task.mm().Write(out, task.uts().Describe()); }

Result<void> SysSethostname(Task& task, uint64_t name, int length) { return SetName(task, name, length, true); }
Result<void> SysSetdomainname(Task& task, uint64_t name, int length) { return SetName(task, name, length, false); }

Result<void> SysSysinfo(Task& task, UserPtr<Sysinfo> out) {
  Sysinfo info{};
  info.uptime = base::HostClockNs(CLOCK_BOOTTIME) / 1'000'000'000;
  const uint64_t total = task.kernel().options().total_memory;
  const uint64_t used = task.kernel().memory_file().usage() + base::ChargedMemory::used();
  info.totalram = total;
  info.freeram = total > used ? total - used : 0;
  info.mem_unit = 1;
  const LoadAverage::Values loads = task.kernel().SampleLoad();
  for (size_t i = 0; i < loads.size(); ++i) info.loads[i] = loads[i];
  {
    base::MutexLock tree(task.kernel().tasks().mu);
    info.procs = static_cast<uint16_t>(std::min(task.kernel().tasks().live_tasks, 65535));
  }
  return task.mm().Write(out, info);
}

Result<size_t> SysGetrandom(Task& task, uint64_t buffer, uint64_t length, uint32_t flags) {
  if (flags & ~uint32_t{GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE}) return Errno(EINVAL);
  if ((flags & GRND_RANDOM) && (flags & GRND_INSECURE)) return Errno(EINVAL);
  length = std::min<uint64_t>(length, 0x1ffffff);  // man 2 getrandom: 32 MiB − 1 at most
  std::byte chunk[4096];
  size_t done = 0;
  while (done < length) {
    const size_t n = std::min(sizeof(chunk), length - done);
    task.kernel().GetRandom(std::span(chunk, n));
    Result<size_t> copied = task.mm().CopyOut(buffer + done, std::span<const std::byte>(chunk, n));
    if (!copied.ok()) return done != 0 ? Result<size_t>(done) : copied;
    done += *copied;
    if (*copied != n || task.SignalPending()) break;
  }
  return done;
}

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
  RefPtr<Task> target = TRY(Target(task, pid));
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
  RefPtr<Task> target = TRY(Target(task, pid));
  if (!MayChange(task, *target)) return Errno(EPERM);
  if ((bits & CpuMask(task)) == 0) return Errno(EINVAL);
  target->affinity.store(bits & CpuMask(task));
  target->ChangeAnswers();
  return {};
}

Result<int> SysSchedGetscheduler(Task& task, int pid) {
  RefPtr<Task> target = TRY(Target(task, pid));
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
    if (!MayChange(task, target)) return Errno(EPERM);
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
  RefPtr<Task> target = TRY(Target(task, pid));
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
  TRY(Target(task, pid));
  return task.mm().Write(param, 0);
}

Result<void> SysSchedSetparam(Task& task, int pid, UserPtr<int32_t> param) {
  if (!param) return Errno(EINVAL);
  int32_t priority = TRY(task.mm().Read(param));
  TRY(Target(task, pid));
  return priority == 0 ? Result<void>() : Errno(EINVAL);
}

Result<void> SysSchedGetattr(Task& task, int pid, UserPtr<SchedAttr> attr, uint32_t size, uint32_t flags) {
  if (!attr || size < sizeof(SchedAttr) || size > kPageSize || flags != 0) return Errno(EINVAL);
  RefPtr<Task> target = TRY(Target(task, pid));
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
  RefPtr<Task> target = TRY(Target(task, pid));
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
  TRY(Target(task, pid));
  return task.mm().Write(out, abi::Timespec{0, 4'000'000});
}

Result<int> SysGetpriority(Task& task, int which, int who) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  RefPtr<Task> target(&task);
  if (which == PRIO_PROCESS && who != 0) target = TRY(Target(task, who));
  return 20 - target->nice.load();  // the raw call's encoding (man 2 getpriority, NOTES)
}

Result<void> SysSetpriority(Task& task, int which, int who, int value) {
  if (which < PRIO_PROCESS || which > PRIO_USER) return Errno(EINVAL);
  RefPtr<Task> target(&task);
  if (which == PRIO_PROCESS && who != 0) target = TRY(Target(task, who));
  value = std::clamp(value, -20, 19);
  if (!MayChange(task, *target)) return Errno(EPERM);
  const int64_t floor = 20 - static_cast<int64_t>(std::min<uint64_t>(target->thread_group().Limit(RLIMIT_NICE), 40));
  if (value < target->nice.load() && value < floor && !task.Capable(CAP_SYS_NICE)) return Errno(EACCES);
  target->nice.store(value);
  return {};
}

Result<int> SysIoprioGet(Task& task, int which, int who) {
  if (which < 1 || which > 3) return Errno(EINVAL);
  return 0;
}

Result<void> SysIoprioSet(Task& task, int which, int who, int value) {
  if (which < 1 || which > 3) return Errno(EINVAL);
  const int io_class = value >> 13;
  if (io_class < 0 || io_class > 3) return Errno(EINVAL);
  if (io_class == 1 && !task.Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  return {};
}

Result<int64_t> SysSyslog(Task& task, int type, uint64_t buffer, int length) {
  if (type < 0 || type > 10) return Errno(EINVAL);
  if (type == 2 || type == 3 || type == 4) {
    if (buffer == 0 || length < 0) return Errno(EINVAL);
  }
  return 0;
}

Result<void> SysVhangup(Task& task) { return task.Capable(CAP_SYS_TTY_CONFIG) ? Result<void>() : Errno(EPERM); }

}  // namespace sentry
