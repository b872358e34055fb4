// signalfd(2): signals as something to read. (fs/signalfd.c)
#ifndef SENTRY_FS_ANON_SIGNALFD_H_
#define SENTRY_FS_ANON_SIGNALFD_H_

#include <atomic>
#include <list>

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// Reads and polls see the signals of the task that asks, not of the one that made the descriptor, as on Linux.
class SignalFd final : public FileDescription {
 public:
  SignalFd(SignalSet mask, uint32_t flags);
  ~SignalFd() override;

  void SetMask(SignalSet mask);
  SignalSet mask() const { return SignalSet(mask_.load(std::memory_order_relaxed)); }
  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer&, const IoFlags&) override { return Errno(EINVAL); }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  base::EventMask Readiness() override;
  // A queue of its own, which hears of the signals of every task that has asked for it: an epoll set keeps it longer
  // than a task may live.
  base::WaitQueue* wait_queue() override;
  std::string FdInfo() override;

 private:
  struct Subscription {
    explicit Subscription(SignalFd& owner, RefPtr<Task> t)
        : task(std::move(t)), entry(base::kEventAll, [&owner](base::EventMask) {
            owner.queue_.Notify(base::kEventIn | base::kEventRdNorm);
          }) {}
    RefPtr<Task> task;
    base::WaitEntry entry;
  };
  std::atomic<uint64_t> mask_;
  base::WaitQueue queue_;
  base::Mutex mu_;
  std::list<Subscription> subscriptions_ GUARDED_BY(mu_);
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_SIGNALFD_H_
