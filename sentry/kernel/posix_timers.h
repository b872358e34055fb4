// Interval timers (setitimer, alarm) and POSIX timers (timer_create) of a process. (man 2 setitimer, timer_create)
#ifndef SENTRY_KERNEL_POSIX_TIMERS_H_
#define SENTRY_KERNEL_POSIX_TIMERS_H_

#include <map>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/ref_ptr.h"
#include "sentry/abi/types.h"
#include "sentry/kernel/signal.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;
class Task;
class ThreadGroup;

struct TimerSetting {
  int64_t value_ns = 0;  // until the next expiration; 0: disarmed
  int64_t interval_ns = 0;
};

// One timer. CPU-time clocks are polled at the time when they could expire at the earliest, and re-armed.
class PosixTimer final : public base::RefCounted {
 public:
  enum class Target { kProcess, kThread, kNone };
  PosixTimer(ThreadGroup& group, clockid_t clock, Target target, RefPtr<Task> thread, SignalInfo info);
  ~PosixTimer() override;
  // `absolute_ns` non-negative: TIMER_ABSTIME in the timer's clock. Returns the old setting.
  TimerSetting Set(TimerSetting setting, int64_t absolute_ns = -1);
  TimerSetting Get();
  // Expirations beyond the one that the last delivered signal told of.
  int overrun() const { return last_overrun_.load(std::memory_order_relaxed); }
  // Before the first Set: si_timerid, and the value when there was no sigevent.
  void SetId(int id) { info_.timer.tid = id; }
  void SetValue(uint64_t value) { info_.timer.value = value; }
  // The signal has been taken from the queue: remembers its overrun count. Siglock held.
  void OnDelivered(SignalInfo& info);
  // Stops it for good, before its process goes. Waits for a running callback: no locks may be held.
  void Shutdown();

 private:
  void OnExpired();
  int64_t NowLocked();
  void ArmLocked(int64_t now) REQUIRES(mu_);
  TimerSetting SettingLocked(int64_t now) REQUIRES(mu_);

  ThreadGroup* const group_;  // alive until Shutdown
  const clockid_t clock_;
  const Target target_;
  RefPtr<Task> thread_;  // kThread; cleared by Shutdown
  SignalInfo info_;      // changed only before the timer is armed
  std::atomic<int> last_overrun_{0};
  std::atomic<int> overrun_{0};
  base::Mutex mu_;  // not taken while signals are sent
  bool dead_ GUARDED_BY(mu_) = false;
  int64_t next_ns_ GUARDED_BY(mu_) = 0;  // in clock_; 0: disarmed
  int64_t interval_ns_ GUARDED_BY(mu_) = 0;
  std::unique_ptr<base::Timer> timer_;
};

class PosixTimers {
 public:
  explicit PosixTimers(ThreadGroup& group) : group_(group) {}
  // which: ITIMER_REAL 0, VIRTUAL 1, PROF 2.
  TimerSetting SetInterval(int which, TimerSetting setting);
  TimerSetting GetInterval(int which);
  // RLIMIT_CPU in seconds of CPU time: SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one
  // (man 2 getrlimit).
  void SetCpuLimit(const abi::Rlimit& limit);
  // EINVAL, EAGAIN (RLIMIT_SIGPENDING).
  Result<int> Create(RefPtr<PosixTimer> timer);
  Result<RefPtr<PosixTimer>> Find(int id);
  Result<void> Delete(int id);
  // exec: POSIX timers go, interval timers stay; exit: all go. No locks held.
  void OnExec();
  void OnExit();

 private:
  ThreadGroup& group_;
  base::Mutex mu_;
  std::array<RefPtr<PosixTimer>, 3> intervals_ GUARDED_BY(mu_);
  std::array<RefPtr<PosixTimer>, 2> cpu_limits_ GUARDED_BY(mu_);  // soft, hard
  std::map<int, RefPtr<PosixTimer>> timers_ GUARDED_BY(mu_);
  int next_id_ GUARDED_BY(mu_) = 0;
};

// The clock's value for a task, CPU-time clocks included. EINVAL.
Result<int64_t> ReadClock(Task& task, clockid_t clock);

}  // namespace sentry

#endif  // SENTRY_KERNEL_POSIX_TIMERS_H_
