#include "sentry/syscalls/sys_time.h"

#include <signal.h>
#include <time.h>

#include <algorithm>

#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"

namespace sentry {

namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int kAbsTime = 1;  // TIMER_ABSTIME

abi::Timespec ToTimespec(int64_t ns) { return {ns / kSecond, ns % kSecond}; }

// Nanoseconds, saturated; EINVAL for what is not normalised.
Result<int64_t> ToNs(const abi::Timespec& ts) {
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= kSecond) return Errno(EINVAL);
  int64_t ns;
  if (__builtin_mul_overflow(ts.tv_sec, kSecond, &ns) || __builtin_add_overflow(ns, ts.tv_nsec, &ns)) return INT64_MAX;
  return ns;
}

Result<int64_t> ToNs(const abi::Timeval& tv) {
  if (tv.tv_sec < 0 || tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Errno(EINVAL);
  return ToNs(abi::Timespec{tv.tv_sec, tv.tv_usec * 1000});
}

abi::Timeval ToTimeval(int64_t ns) { return {ns / kSecond, ns % kSecond / 1000}; }

int64_t SaturatingAdd(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// Sleeps until `deadline` of the monotonic clock; the rest of the time goes to `remain` when a signal ends it.
Result<int64_t> SleepUntil(Task& task, base::MonotonicNs deadline, Addr remain) {
  for (;;) {
    if (base::MonotonicNow() >= deadline) return 0;
    if (task.ParkInterruptible(deadline) != Task::Wake::kInterrupted) continue;
    const int64_t left = std::max<int64_t>(deadline - base::MonotonicNow(), 0);
    if (left == 0) return 0;
    if (remain != 0) TRY(task.mm().Write(UserPtr<abi::Timespec>{remain}, ToTimespec(left)));
    task.SetRestartBlock([deadline, remain](Task& t) { return SleepUntil(t, deadline, remain); });
    return Errno(base::ERESTART_RESTARTBLOCK_);
  }
}

}  // namespace

Result<void> SysClockGettime(Task& task, int clock, UserPtr<abi::Timespec> out) {
  int64_t now = TRY(ReadClock(task, clock));
  return task.mm().Write(out, ToTimespec(now));
}

Result<void> SysClockGetres(Task& task, int clock, UserPtr<abi::Timespec> out) {
  TRY(ReadClock(task, clock));
  const bool coarse = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE;
  if (!out) return {};
  return task.mm().Write(out, abi::Timespec{0, coarse ? 4'000'000 : 1});
}

Result<void> SysClockSettime(Task& task, int clock, UserPtr<abi::Timespec> in) {
  abi::Timespec ts = TRY(task.mm().Read(in));
  TRY(ToNs(ts));
  if (clock != CLOCK_REALTIME) return Errno(EINVAL);
  return Errno(EPERM);
}

Result<void> SysClockNanosleep(Task& task, int clock, int flags, UserPtr<abi::Timespec> request,
                               UserPtr<abi::Timespec> remain) {
  if (clock == CLOCK_THREAD_CPUTIME_ID) return Errno(EOPNOTSUPP);
  int64_t now = TRY(ReadClock(task, clock));
  if (clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE)
    return Errno(EOPNOTSUPP);
  abi::Timespec ts = TRY(task.mm().Read(request));
  const int64_t ns = TRY(ToNs(ts));
  if (clock == CLOCK_PROCESS_CPUTIME_ID || clock < 0) {
    // CPU time of a process: looked at whenever it could have been reached.
    const int64_t target = (flags & kAbsTime) ? ns : SaturatingAdd(now, ns);
    for (;;) {
      now = TRY(ReadClock(task, clock));
      if (now >= target) return {};
      const int64_t wait = std::max<int64_t>((target - now) / std::max(1, task.kernel().cpus()), 4'000'000);
      if (task.ParkInterruptible(SaturatingAdd(base::MonotonicNow(), wait)) == Task::Wake::kInterrupted) {
        return Errno((flags & kAbsTime) ? base::ERESTARTNOHAND_ : EINTR);
      }
    }
  }
  if (flags & kAbsTime) {
    for (;;) {
      now = TRY(ReadClock(task, clock));
      if (now >= ns) return {};
      const base::MonotonicNs deadline = SaturatingAdd(base::MonotonicNow(), ns - now);
      if (task.ParkInterruptible(deadline) == Task::Wake::kInterrupted) return Errno(base::ERESTARTNOHAND_);
    }
  }
  TRY(SleepUntil(task, SaturatingAdd(base::MonotonicNow(), ns), remain.addr));
  return {};
}

Result<void> SysNanosleep(Task& task, UserPtr<abi::Timespec> request, UserPtr<abi::Timespec> remain) {
  return SysClockNanosleep(task, CLOCK_MONOTONIC, 0, request, remain);
}

Result<void> SysGettimeofday(Task& task, UserPtr<abi::Timeval> tv, UserPtr<int64_t> tz) {
  if (tv) TRY(task.mm().Write(tv, ToTimeval(TRY(ReadClock(task, CLOCK_REALTIME)))));
  if (tz) TRY(task.mm().Write(tz, int64_t{0}));  // struct timezone: two ints
  return {};
}

Result<int64_t> SysTime(Task& task, UserPtr<int64_t> out) {
  const int64_t now = TRY(ReadClock(task, CLOCK_REALTIME)) / kSecond;
  if (out) TRY(task.mm().Write(out, now));
  return now;
}

Result<uint32_t> SysAlarm(Task& task, uint32_t seconds) {
  TimerSetting old = task.thread_group().timers().SetInterval(0, {int64_t{seconds} * kSecond, 0});
  uint32_t left = static_cast<uint32_t>(old.value_ns / kSecond);
  // man 2 alarm: a remainder is rounded, but never to 0.
  if (old.value_ns != 0 && (left == 0 || old.value_ns % kSecond >= kSecond / 2)) ++left;
  return left;
}

Result<void> SysGetitimer(Task& task, int which, UserPtr<abi::Itimerval> out) {
  if (which < 0 || which > 2) return Errno(EINVAL);
  TimerSetting s = task.thread_group().timers().GetInterval(which);
  return task.mm().Write(out, abi::Itimerval{ToTimeval(s.interval_ns), ToTimeval(s.value_ns)});
}

Result<void> SysSetitimer(Task& task, int which, UserPtr<abi::Itimerval> in, UserPtr<abi::Itimerval> out) {
  abi::Itimerval v{};
  if (in) v = TRY(task.mm().Read(in));  // Linux takes a null pointer as zero
  TimerSetting setting;
  setting.value_ns = TRY(ToNs(v.it_value));
  setting.interval_ns = TRY(ToNs(v.it_interval));
  if (which < 0 || which > 2) return Errno(EINVAL);
  TimerSetting old = task.thread_group().timers().SetInterval(which, setting);
  if (out) TRY(task.mm().Write(out, abi::Itimerval{ToTimeval(old.interval_ns), ToTimeval(old.value_ns)}));
  return {};
}

Result<void> SysTimerCreate(Task& task, int clock, UserPtr<Sigevent> event, UserPtr<int32_t> id) {
  TRY(ReadClock(task, clock));
  if (clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE)
    return Errno(EOPNOTSUPP);
  Sigevent e{};
  const bool given = static_cast<bool>(event);
  if (given) {
    e = TRY(task.mm().Read(event));
  } else {
    e.signo = kSIGALRM;
    e.notify = SIGEV_SIGNAL;
  }
  SignalInfo info{};
  info.si_signo = e.signo;
  info.si_code = kSiTimer;
  info.timer.value = e.value;
  PosixTimer::Target target = PosixTimer::Target::kProcess;
  RefPtr<Task> thread;
  switch (e.notify) {
    case SIGEV_SIGNAL:
      break;
    case SIGEV_NONE:
      target = PosixTimer::Target::kNone;
      break;
    case SIGEV_THREAD_ID:
      thread = task.kernel().FindTask(e.tid, task.pid_namespace());
      if (!thread || &thread->thread_group() != &task.thread_group()) return Errno(EINVAL);
      target = PosixTimer::Target::kThread;
      break;
    default:
      return Errno(EINVAL);
  }
  if (target != PosixTimer::Target::kNone && (e.signo < 1 || e.signo > kSignals)) return Errno(EINVAL);
  if (clock == CLOCK_THREAD_CPUTIME_ID && !thread) thread = RefPtr<Task>(&task);
  const bool id_is_value = !given;
  PosixTimers& timers = task.thread_group().timers();
  // Without a sigevent the value is the timer's id, which is known only afterwards: reserve, then make.
  RefPtr<PosixTimer> timer = TRY(base::TryMakeRef<PosixTimer>(task.thread_group(), clock, target, thread, info));
  int number = TRY(timers.Create(timer));
  if (id_is_value) timer->SetValue(static_cast<uint64_t>(number));
  timer->SetId(number);
  Result<void> written = task.mm().Write(id, number);
  if (!written.ok()) (void)timers.Delete(number);
  return written;
}

Result<void> SysTimerSettime(Task& task, int id, int flags, UserPtr<abi::Itimerspec> in, UserPtr<abi::Itimerspec> out) {
  if (!in) return Errno(EINVAL);
  abi::Itimerspec v = TRY(task.mm().Read(in));
  TimerSetting setting;
  setting.value_ns = TRY(ToNs(v.it_value));
  setting.interval_ns = TRY(ToNs(v.it_interval));
  RefPtr<PosixTimer> timer = TRY(task.thread_group().timers().Find(id));
  const bool absolute = (flags & kAbsTime) && setting.value_ns != 0;
  TimerSetting old = timer->Set(setting, absolute ? setting.value_ns : -1);
  if (out) TRY(task.mm().Write(out, abi::Itimerspec{ToTimespec(old.interval_ns), ToTimespec(old.value_ns)}));
  return {};
}

Result<void> SysTimerGettime(Task& task, int id, UserPtr<abi::Itimerspec> out) {
  RefPtr<PosixTimer> timer = TRY(task.thread_group().timers().Find(id));
  TimerSetting s = timer->Get();
  return task.mm().Write(out, abi::Itimerspec{ToTimespec(s.interval_ns), ToTimespec(s.value_ns)});
}

Result<int> SysTimerGetoverrun(Task& task, int id) {
  RefPtr<PosixTimer> timer = TRY(task.thread_group().timers().Find(id));
  return timer->overrun();
}

Result<void> SysTimerDelete(Task& task, int id) { return task.thread_group().timers().Delete(id); }

}  // namespace sentry
