// timerfd_create(2). (fs/timerfd.c)
#ifndef SENTRY_FS_ANON_TIMERFD_H_
#define SENTRY_FS_ANON_TIMERFD_H_

#include "base/mutex.h"
#include "base/reactor.h"
#include "base/wait_queue.h"
#include "sentry/time/time_keeper.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// Differs from Linux: TFD_TIMER_CANCEL_ON_SET is taken, and since a guest cannot set the clock and the host's is not
// watched, never cancels.
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
  Setting Set(Setting setting, bool absolute) EXCLUDES(mu_);
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
  Setting SettingLocked(int64_t now) const REQUIRES(mu_);

  TimeKeeper& keeper_;
  const int clock_;
  base::Mutex mu_;
  bool armed_ GUARDED_BY(mu_) = false;
  int64_t next_ns_ GUARDED_BY(mu_) = 0;  // first expiration that nobody has read; in clock_'s time
  int64_t interval_ns_ GUARDED_BY(mu_) = 0;
  base::WaitQueue queue_;
  base::Timer timer_;  // last: its callback notifies the queue
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_TIMERFD_H_
