#include "sentry/fs/anon/timerfd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "base/syscall_unsafe.h"
#include "sentry/time/conversions.h"

namespace sentry {

TimerFd::TimerFd(base::Reactor& reactor, TimeKeeper& keeper, int clock, uint32_t flags)
    : FileDescription(NewAnonymousPath("anon_inode:[timerfd]", 0600), O_RDWR | flags),
      reactor_(reactor),
      keeper_(keeper),
      clock_(clock),
      timer_(reactor, [this] { queue_.Notify(base::kEventIn | base::kEventRdNorm); }) {}

TimerFd::~TimerFd() {
  timer_.Cancel();
  host_watch_.reset();
}

void TimerFd::WatchHostClock() {
  base::FiberMutexLock lock(watching_);
  if (host_watch_) return;
  auto fd = base::Host(SYS_timerfd_create, CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (!fd.ok()) return;  // no descriptor is left: it does not cancel
  host_clock_ = base::UniqueFd(static_cast<int>(*fd));
  auto arm = [host = host_clock_.get()] {
    itimerspec never{};
    never.it_value.tv_sec = int64_t{1} << 40;
    (void)base::Host(SYS_timerfd_settime, host, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr).ok();
  };
  arm();
  host_watch_ = std::make_unique<base::FdWatch>(reactor_, host_clock_.get(), EPOLLIN, [this, arm](uint32_t) {
    uint64_t ticks;
    if (!base::Host(SYS_read, host_clock_.get(), &ticks, sizeof(ticks)).failed_with(ECANCELED)) return;
    arm();
    clock_changes_.fetch_add(1, std::memory_order_release);
    queue_.Notify(base::kEventIn | base::kEventRdNorm);
  });
}

uint64_t TimerFd::ExpirationsLocked(int64_t now) const {
  if (!armed_ || now < next_ns_) return 0;
  if (interval_ns_ == 0) return 1;
  return 1 + static_cast<uint64_t>((now - next_ns_) / interval_ns_);
}

// One shot per expiration that has to be told; a periodic timer goes on when it is read, as in timerfd_read: who does
// not read is not woken again, but every expiration is counted.
void TimerFd::ArmLocked() {
  base::MonotonicNs deadline = base::kNever;
  if (armed_) {
    auto host = keeper_.HostDeadline(clock_, next_ns_);
    if (host.ok()) deadline = *host;
  }
  timer_.Set(deadline);
}

TimerFd::Setting TimerFd::SettingLocked(int64_t now) const {
  Setting setting{0, interval_ns_};
  if (!armed_) return setting;
  if (now < next_ns_) {
    setting.value_ns = next_ns_ - now;
  } else if (interval_ns_ != 0) {
    setting.value_ns = interval_ns_ - (now - next_ns_) % interval_ns_;
  }
  return setting;
}

TimerFd::Setting TimerFd::Set(Setting setting, bool absolute, bool cancel_on_set) {
  cancel_on_set = cancel_on_set && absolute && (clock_ == kClockRealtime || clock_ == kClockRealtimeAlarm);
  if (cancel_on_set) WatchHostClock();
  int64_t now = Now();
  base::MutexLock lock(mu_);
  Setting old = SettingLocked(now);
  armed_ = setting.value_ns != 0;
  next_ns_ = absolute ? setting.value_ns : AddSaturated(now, setting.value_ns);
  interval_ns_ = setting.interval_ns;
  might_cancel_ = cancel_on_set;
  seen_changes_ = clock_changes_.load(std::memory_order_acquire);
  ArmLocked();
  return old;
}

TimerFd::Setting TimerFd::Get() {
  int64_t now = Now();
  base::MutexLock lock(mu_);
  return SettingLocked(now);
}

Result<size_t> TimerFd::Read(IoBuffer& to, const IoFlags&) {
  if (to.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
  int64_t now = Now();
  uint64_t ticks;
  {
    base::MutexLock lock(mu_);
    if (CancelledLocked()) {
      seen_changes_ = clock_changes_.load(std::memory_order_acquire);
      ArmLocked();  // the clock says something else now
      return Errno(ECANCELED);
    }
    ticks = ExpirationsLocked(now);
    if (ticks == 0) {
      // The host's timer may fire a little before the guest's clock says so: wait for the rest.
      ArmLocked();
      return Errno(EAGAIN);
    }
    if (interval_ns_ != 0) {
      next_ns_ += static_cast<int64_t>(ticks) * interval_ns_;
      ArmLocked();
    } else {
      armed_ = false;
    }
  }
  if (TRY(to.CopyOut(std::as_bytes(std::span(&ticks, 1)))) != sizeof(ticks)) return Errno(EFAULT);
  return sizeof(ticks);
}

base::EventMask TimerFd::Readiness() {
  int64_t now = Now();
  base::MutexLock lock(mu_);
  if (ExpirationsLocked(now) != 0 || CancelledLocked()) return base::kEventIn;
  if (armed_) ArmLocked();
  return 0;
}

std::string TimerFd::FdInfo() {
  int64_t now = Now();
  base::MutexLock lock(mu_);
  Setting setting = SettingLocked(now);
  char text[256];
  snprintf(text, sizeof(text),
           "clockid: %d\nticks: %lu\nsettime flags: 00\nit_value: (%ld, %ld)\nit_interval: (%ld, %ld)\n", clock_,
           ExpirationsLocked(now), setting.value_ns / kNsPerSec, setting.value_ns % kNsPerSec,
           setting.interval_ns / kNsPerSec, setting.interval_ns % kNsPerSec);
  return text;
}

}  // namespace sentry
