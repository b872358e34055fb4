#include "sentry/syscalls/sys_timerfd.h"

#include <linux/capability.h>
#include <sys/timerfd.h>

#include "sentry/fs/anon/timerfd.h"
#include "sentry/kernel/kernel.h"
#include "sentry/time/conversions.h"

namespace sentry {
namespace {

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif

bool IsAlarmClock(int clock) { return clock == kClockRealtimeAlarm || clock == kClockBoottimeAlarm; }

struct TimerRef {
  RefPtr<FileDescription> file;
  TimerFd* timer;
};

Result<TimerRef> GetTimer(Task& task, FdArg fd) {
  auto file = TRY(task.GetFile(Fd(fd)));
  auto* timer = dynamic_cast<TimerFd*>(file.get());
  if (timer == nullptr) return Errno(EINVAL);
  return TimerRef{std::move(file), timer};
}

abi::Itimerspec ToItimerspec(TimerFd::Setting setting) {
  return {ToTimespec(setting.interval_ns), ToTimespec(setting.value_ns)};
}

}  // namespace

Result<Fd> SysTimerfdCreate(Task& task, int32_t clock, uint32_t flags) {
  if ((flags & ~uint32_t{TFD_CLOEXEC | TFD_NONBLOCK}) != 0) return Errno(EINVAL);
  if (clock != kClockMonotonic && clock != kClockRealtime && clock != kClockBoottime && !IsAlarmClock(clock))
    return Errno(EINVAL);
  if (IsAlarmClock(clock) && !task.Capable(CAP_WAKE_ALARM)) return Errno(EPERM);
  Kernel& kernel = task.kernel();
  auto file = TRY(base::TryMakeRef<TimerFd>(kernel.scheduler().reactor(), kernel.time(), clock, flags & TFD_NONBLOCK));
  return task.InstallFile(std::move(file), (flags & TFD_CLOEXEC) != 0);
}

Result<void> SysTimerfdSettime(Task& task, FdArg fd, uint32_t flags, UserPtr<abi::Itimerspec> value,
                               UserPtr<abi::Itimerspec> old) {
  abi::Itimerspec spec = TRY(task.mm().Read(value));
  if ((flags & ~uint32_t{TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET}) != 0) return Errno(EINVAL);
  TimerFd::Setting setting;
  setting.value_ns = TRY(ToNs(spec.it_value));
  setting.interval_ns = TRY(ToNs(spec.it_interval));
  TimerRef ref = TRY(GetTimer(task, fd));
  TimerFd::Setting before =
      ref.timer->Set(setting, (flags & TFD_TIMER_ABSTIME) != 0, (flags & TFD_TIMER_CANCEL_ON_SET) != 0);
  if (old) return task.mm().Write(old, ToItimerspec(before));
  return {};
}

Result<void> SysTimerfdGettime(Task& task, FdArg fd, UserPtr<abi::Itimerspec> value) {
  TimerRef ref = TRY(GetTimer(task, fd));
  return task.mm().Write(value, ToItimerspec(ref.timer->Get()));
}

}  // namespace sentry
