// Waiting.
#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

Task::Wake Task::ParkInterruptible(base::MonotonicNs deadline) {
  if (SignalPending()) return Wake::kInterrupted;
  state_.store('S', std::memory_order_relaxed);
  switches_.fetch_add(1, std::memory_order_relaxed);
  const int64_t parked_at = base::MonotonicNow();
  bool woken = base::Fiber::ParkUntil(deadline);
  parked_ns_ += base::MonotonicNow() - parked_at;
  // A paused sandbox does not go on, but nothing of it may be visible as an interruption.
  WaitWhilePaused();
  state_.store('R', std::memory_order_relaxed);
  if (SignalPending()) return Wake::kInterrupted;
  return woken ? Wake::kWoken : Wake::kTimedOut;
}

Result<void> Task::BlockUntil(base::WaitQueue& queue, base::EventMask mask, const std::function<bool()>& ready,
                              base::MonotonicNs deadline) {
  if (ready()) return {};
  base::WaitEntry entry(mask);
  base::ScopedWait wait(queue, entry);
  for (;;) {
    if (ready()) return {};
    const Wake wake = ParkInterruptible(deadline);
    if (wake == Wake::kWoken) continue;
    if (ready()) return {};
    return Errno(wake == Wake::kTimedOut ? ETIMEDOUT : base::ERESTARTSYS_);
  }
}

void Task::WaitWhilePaused() {
  if (!kernel_.paused()) return;
  base::WaitEntry entry(base::kEventAll);
  base::ScopedWait wait(kernel_.pause_events(), entry);
  const int64_t parked_at = base::MonotonicNow();
  while (kernel_.paused()) base::Fiber::Park();
  parked_ns_ += base::MonotonicNow() - parked_at;
}

}  // namespace sentry
