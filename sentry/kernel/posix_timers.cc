#include "sentry/kernel/posix_timers.h"

#include <sys/resource.h>
#include <time.h>

#include <algorithm>

#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

// kernel: include/linux/posix-timers.h. A CPU clock id is (~pid << 3) | 4 (thread) | which.
bool IsCpuClock(clockid_t clock) {
  return clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
}
constexpr clockid_t kVirtualClock = 100, kProfClock = 101;  // ours: what ITIMER_VIRTUAL and ITIMER_PROF count

}  // namespace

Result<int64_t> ReadClock(Task& task, clockid_t clock) {
  switch (clock) {
    case CLOCK_PROCESS_CPUTIME_ID: {
      Usage u = task.thread_group().TotalUsage();
      return u.user_ns + u.system_ns;
    }
    case CLOCK_THREAD_CPUTIME_ID: {
      Usage u = task.usage();
      return u.user_ns + u.system_ns;
    }
    default:
      break;
  }
  if (clock >= 0) return task.kernel().time().Now(clock);
  const int which = clock & 3;
  const bool per_thread = clock & 4;
  const int pid = ~(clock >> 3);
  if (which == 3) return Errno(EINVAL);  // dynamic clocks (CLOCKFD)
  RefPtr<Task> target = pid == 0 ? RefPtr<Task>(&task) : task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(EINVAL);
  if (per_thread && &target->thread_group() != &task.thread_group()) return Errno(EINVAL);
  Usage u = per_thread ? target->usage() : target->thread_group().TotalUsage();
  return which == 1 ? u.user_ns : u.user_ns + u.system_ns;
}

PosixTimer::PosixTimer(ThreadGroup& group, clockid_t clock, Target target, RefPtr<Task> thread, SignalInfo info)
    : group_(&group), clock_(clock), target_(target), thread_(std::move(thread)), info_(info) {
  timer_ = std::make_unique<base::Timer>(group.kernel().scheduler().reactor(), [this] { OnExpired(); });
}

PosixTimer::~PosixTimer() = default;

int64_t PosixTimer::NowLocked() {
  if (clock_ == kVirtualClock || clock_ == kProfClock || IsCpuClock(clock_)) {
    Usage u = (clock_ == CLOCK_THREAD_CPUTIME_ID && thread_) ? thread_->usage() : group_->TotalUsage();
    return clock_ == kVirtualClock ? u.user_ns : u.user_ns + u.system_ns;
  }
  return group_->kernel().time().Now(clock_).value_or(0);
}

void PosixTimer::ArmLocked(int64_t now) {
  if (dead_ || next_ns_ == 0) {
    timer_->Cancel();
    return;
  }
  // On a CPU-time clock this is the earliest moment at which it can expire; OnExpired looks again. A process that
  // sleeps must not be looked at all the time: at least 4 ms, a tick, between two looks.
  int64_t wait = std::max<int64_t>(next_ns_ - now, 0);
  if (IsCpuClock(clock_) || clock_ >= kVirtualClock)
    wait = std::max<int64_t>(wait / std::max(1, group_->kernel().cpus()), 4'000'000);
  timer_->Set(base::MonotonicNow() + wait);
}

TimerSetting PosixTimer::SettingLocked(int64_t now) {
  if (next_ns_ == 0) return {0, interval_ns_};
  return {std::max<int64_t>(next_ns_ - now, 1), interval_ns_};
}

TimerSetting PosixTimer::Set(TimerSetting setting, int64_t absolute_ns) {
  const int64_t now = NowLocked();
  base::MutexLock l(mu_);
  TimerSetting old = SettingLocked(now);
  interval_ns_ = setting.interval_ns;
  if (absolute_ns >= 0) {
    next_ns_ = std::max<int64_t>(absolute_ns, 1);
  } else if (setting.value_ns == 0) {
    next_ns_ = 0;
  } else if (__builtin_add_overflow(now, setting.value_ns, &next_ns_)) {
    next_ns_ = INT64_MAX;
  }
  if (next_ns_ == 0) old.interval_ns = old.value_ns == 0 ? 0 : old.interval_ns;
  overrun_.store(0);
  last_overrun_.store(0);
  ArmLocked(now);
  return old;
}

TimerSetting PosixTimer::Get() {
  const int64_t now = NowLocked();
  base::MutexLock l(mu_);
  return SettingLocked(now);
}

void PosixTimer::OnExpired() {
  const int64_t now = NowLocked();
  int64_t expirations = 0;
  RefPtr<Task> thread;
  {
    base::MutexLock l(mu_);
    if (dead_ || next_ns_ == 0) return;
    if (now < next_ns_) {
      ArmLocked(now);
      return;
    }
    expirations = 1;
    if (interval_ns_ > 0) {
      expirations += (now - next_ns_) / interval_ns_;
      next_ns_ += expirations * interval_ns_;
    } else {
      next_ns_ = 0;
    }
    ArmLocked(now);
    thread = thread_;
  }
  if (target_ == Target::kNone) return;
  const int extra = static_cast<int>(std::min<int64_t>(expirations - 1, INT32_MAX));
  base::MutexLock tree(group_->kernel().tasks().mu);
  RefPtr<SignalHandlers> handlers = group_->handlers;
  {
    base::MutexLock sig(handlers->mu);
    PendingSignals& queue = thread ? thread->PendingForTimers() : group_->pending;
    if (queue.FindTimer(this) != nullptr) {
      // The last notification has not been taken: man 2 timer_getoverrun.
      overrun_.fetch_add(static_cast<int>(std::min<int64_t>(expirations, INT32_MAX)));
      return;
    }
    overrun_.store(extra);
  }
  RefPtr<base::RefCounted> self(this);
  // Interval timers send plain kernel signals; POSIX timers are recognised while they are queued.
  if (info_.si_code != kSiTimer) self.reset();
  if (thread) {
    (void)thread->SendSignalLocked(info_, self);
  } else {
    (void)Task::SendGroupSignalLocked(*group_, info_, self);
  }
}

void PosixTimer::OnDelivered(SignalInfo& info) {
  int n = overrun_.exchange(0);
  last_overrun_.store(n);
  info.timer.overrun = n;
}

void PosixTimer::Shutdown() {
  {
    base::MutexLock l(mu_);
    dead_ = true;
    next_ns_ = 0;
    thread_.reset();
  }
  timer_.reset();  // waits for a callback that runs
}

TimerSetting PosixTimers::SetInterval(int which, TimerSetting setting) {
  RefPtr<PosixTimer> timer;
  {
    base::MutexLock l(mu_);
    if (!intervals_[which]) {
      if (setting.value_ns == 0) return {};
      const clockid_t clock = which == 0 ? CLOCK_MONOTONIC : (which == 1 ? kVirtualClock : kProfClock);
      const int signo = which == 0 ? kSIGALRM : (which == 1 ? kSIGVTALRM : kSIGPROF);
      intervals_[which] =
          base::MakeRef<PosixTimer>(group_, clock, PosixTimer::Target::kProcess, nullptr, KernelSignal(signo));
    }
    timer = intervals_[which];
  }
  TimerSetting old = timer->Set(setting);
  return old;
}

TimerSetting PosixTimers::GetInterval(int which) {
  RefPtr<PosixTimer> timer;
  {
    base::MutexLock l(mu_);
    timer = intervals_[which];
  }
  if (!timer) return {};
  return timer->Get();
}

void PosixTimers::SetCpuLimit(const abi::Rlimit& limit) {
  constexpr int64_t kSecond = 1'000'000'000;
  const std::pair<uint64_t, int> wanted[2] = {{limit.rlim_cur, kSIGXCPU}, {limit.rlim_max, kSIGKILL}};
  for (int i = 0; i < 2; ++i) {
    const auto [seconds, signo] = wanted[i];
    const bool limited = seconds < static_cast<uint64_t>(INT64_MAX / kSecond);
    RefPtr<PosixTimer> timer;
    {
      base::MutexLock l(mu_);
      if (!cpu_limits_[i] && limited) {
        cpu_limits_[i] =
            base::MakeRef<PosixTimer>(group_, kProfClock, PosixTimer::Target::kProcess, nullptr, KernelSignal(signo));
      }
      timer = cpu_limits_[i];
    }
    if (!timer) continue;
    // A limit of 0 is one of a second (kernel/sys.c).
    if (limited) {
      timer->Set({1, kSecond}, static_cast<int64_t>(std::max<uint64_t>(seconds, 1)) * kSecond);
    } else {
      timer->Set({0, 0});
    }
  }
}

Result<int> PosixTimers::Create(RefPtr<PosixTimer> timer) {
  base::MutexLock l(mu_);
  if (timers_.size() >= std::min<uint64_t>(group_.Limit(RLIMIT_SIGPENDING), 32'768)) return Errno(EAGAIN);
  while (timers_.contains(next_id_)) next_id_ = next_id_ == INT32_MAX ? 0 : next_id_ + 1;
  const int id = next_id_;
  next_id_ = next_id_ == INT32_MAX ? 0 : next_id_ + 1;
  timers_[id] = std::move(timer);
  return id;
}

Result<RefPtr<PosixTimer>> PosixTimers::Find(int id) {
  base::MutexLock l(mu_);
  auto it = timers_.find(id);
  if (it == timers_.end()) return Errno(EINVAL);
  return it->second;
}

Result<void> PosixTimers::Delete(int id) {
  RefPtr<PosixTimer> timer;
  {
    base::MutexLock l(mu_);
    auto it = timers_.find(id);
    if (it == timers_.end()) return Errno(EINVAL);
    timer = std::move(it->second);
    timers_.erase(it);
  }
  timer->Shutdown();
  return {};
}

void PosixTimers::OnExec() {
  std::map<int, RefPtr<PosixTimer>> gone;
  {
    base::MutexLock l(mu_);
    gone.swap(timers_);
  }
  for (auto& [id, timer] : gone) timer->Shutdown();
}

void PosixTimers::OnExit() {
  OnExec();
  std::array<RefPtr<PosixTimer>, 3> intervals;
  std::array<RefPtr<PosixTimer>, 2> limits;
  {
    base::MutexLock l(mu_);
    intervals.swap(intervals_);
    limits.swap(cpu_limits_);
  }
  for (RefPtr<PosixTimer>& timer : limits) {
    if (timer) timer->Shutdown();
  }
  for (RefPtr<PosixTimer>& timer : intervals) {
    if (timer) timer->Shutdown();
  }
}

}  // namespace sentry
