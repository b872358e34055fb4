// Signals that files send: SIGIO and what F_SETSIG puts in its place (O_ASYNC, leases; fs/fcntl.c: send_sigio), SIGURG.
//
// An event is noticed under a wait queue's lock, and sending a signal takes the lock of the task tree, which comes
// first: so events are queued, and sent a moment later, at the latest when the system call that caused them returns.
#ifndef SENTRY_KERNEL_ASYNC_SIGNALS_H_
#define SENTRY_KERNEL_ASYNC_SIGNALS_H_

#include <atomic>
#include <deque>

#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/kernel/signal.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class Kernel;
class Task;

// si_code of SIGIO (POLL_IN …; include/uapi/asm-generic/siginfo.h).
enum class PollCode : int { kIn = 1, kOut, kMessage, kError, kPriority, kHangup };

class AsyncSignals final : public base::RefCounted {
 public:
  explicit AsyncSignals(Kernel& kernel) : kernel_(kernel) {}
  // The owner of `file`, if it has one, gets its signal. Any thread; under any lock but another AsyncSignals'.
  void Queue(FileDescription& file, PollCode code) { Push(file, code, /*urgent=*/false); }
  // SIGURG (send_sigurg).
  void QueueUrgent(FileDescription& file) { Push(file, PollCode::kPriority, /*urgent=*/true); }
  bool pending() const { return pending_.load(std::memory_order_acquire); }
  void Send() EXCLUDES(mu_);  // what is queued; no lock held
  void Stop();                // the kernel goes

 private:
  struct Event {
    RefPtr<base::RefCounted> target;
    int signal;  // 0: SIGIO without details
    SignalInfo info;
  };
  void Push(FileDescription& file, PollCode code, bool urgent) EXCLUDES(mu_);
  Kernel& kernel_;
  base::Mutex mu_;
  std::deque<Event> events_ GUARDED_BY(mu_);
  bool stopped_ GUARDED_BY(mu_) = false;
  std::atomic<bool> pending_{false};
};

// F_SETOWN: `type` is F_OWNER_TID, _PID or _PGRP, `id` in the task's PID namespace; 0: nobody. ESRCH.
Result<void> SetAsyncOwner(Task& task, FileDescription& file, int type, int id);
// O_ASYNC on or off, asked for under descriptor `fd`.
void SetAsync(Task& task, FileDescription& file, int fd, bool on);

}  // namespace sentry

#endif  // SENTRY_KERNEL_ASYNC_SIGNALS_H_
