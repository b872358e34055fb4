// timerfd_create(2). (fs/timerfd.c)
#ifndef SENTRY_FS_ANON_TIMERFD_H_
#define SENTRY_FS_ANON_TIMERFD_H_

#include <atomic>
#include <memory>

#include "base/fiber_lock.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/unique_fd.h"
#include "base/wait_queue.h"
#include "sentry/time/time_keeper.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// TFD_TIMER_CANCEL_ON_SET: a guest cannot set the clock, but the host can. Such a timer has a timer of the host's
// beside it, far in the future, that is cancelled when that happens.
class TimerFd final : public FileDescription {
 public:
  // `clock`: realtime, monotonic, boottime or an alarm clock. `keeper` outlives the sandbox's files.
  TimerFd(base::Reactor& reactor, TimeKeeper& keeper, int clock, uint32_t flags);
  ~TimerFd() override;

  struct Setting {
    int64_t value_ns = 0;  // until the next expiration; 0: disarmed
    int64_t interval_ns = 0;
  };
  // Arms, or disarms with value_ns 0; returns what was set before. `absolute`: value_ns is a time of the clock.
  // `cancel_on_set`: a change of the realtime clock is told to the next reader, as ECANCELED. Parks with it, once.
  Setting Set(Setting setting, bool absolute, bool cancel_on_set) EXCLUDES(mu_);
  Setting Get() EXCLUDES(mu_);

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<size_t> Write(IoBuffer&, const IoFlags&) override { return Errno(EINVAL); }
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() override;

 private:
  int64_t Now() { return *keeper_.Now(clock_); }
  // Expirations that nobody has read yet.
  uint64_t ExpirationsLocked(int64_t now) const REQUIRES(mu_);
  void ArmLocked() REQUIRES(mu_);
  bool CancelledLocked() const REQUIRES(mu_) {
    return might_cancel_ && clock_changes_.load(std::memory_order_acquire) != seen_changes_;
  }
  void WatchHostClock();
  Setting SettingLocked(int64_t now) const REQUIRES(mu_);

  base::Reactor& reactor_;
  TimeKeeper& keeper_;
  const int clock_;
  base::Mutex mu_;
  bool armed_ GUARDED_BY(mu_) = false;
  int64_t next_ns_ GUARDED_BY(mu_) = 0;  // first expiration that nobody has read; in clock_'s time
  int64_t interval_ns_ GUARDED_BY(mu_) = 0;
  bool might_cancel_ GUARDED_BY(mu_) = false;
  uint64_t seen_changes_ GUARDED_BY(mu_) = 0;
  std::atomic<uint64_t> clock_changes_{0};  // of the host's clock, since it is watched
  base::WaitQueue queue_;
  base::FiberMutex watching_;  // held to make the two, once; read by host_watch_'s callback without it
  base::UniqueFd host_clock_;
  std::unique_ptr<base::FdWatch> host_watch_;
  base::Timer timer_;  // last: its callback notifies the queue
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_TIMERFD_H_
