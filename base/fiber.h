// Fiber: a stackful coroutine that runs on executors. Every guest thread is one.
//
// A fiber waits by parking. Parking is a permit, as in java.util.concurrent.LockSupport: Unpark stores one permit, Park
// consumes it or waits for it, so a wake-up that comes before the wait is not lost; a Park may return without cause,
// and callers loop over their condition.
#ifndef BASE_FIBER_H_
#define BASE_FIBER_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "base/ref_ptr.h"
#include "base/time.h"

namespace base {

class Executor;
class Scheduler;

class Fiber final : public RefCounted {
 public:
  struct Options {
    size_t stack_bytes = 128 << 10;  // rounded up to pages; a guard page lies below; untouched pages cost nothing
    Executor* executor = nullptr;    // where it starts; null: the current one, or the least loaded
    bool pinned = false;             // never stolen by another executor
    std::string name;
  };

  // Starts `body` on a fiber of `scheduler`. The returned reference is for Unpark and Join; the fiber lives on without
  // it.
  static RefPtr<Fiber> Spawn(Scheduler& scheduler, Options options, std::function<void()> body);

  // The fiber that is running on this host thread; null outside of fibers. Never cached across a Park by callers'
  // inlined code: not inlined (thread_local behind a function, DESIGN.md §3).
  [[gnu::noinline]] static Fiber* Current();

  // Waits for a permit and consumes it. Called on a fiber, with no Mutex held.
  static void Park();
  // The same with a deadline. False if the deadline passed without a permit.
  static bool ParkUntil(MonotonicNs deadline);
  // Goes to the end of the executor's run queue.
  static void Yield();
  // Continues on `executor` (a ptrace task has to run on its tracer). Pinned fibers included.
  static void MoveTo(Executor& executor);
  // The guest boundary: the only point at which another executor may take this fiber over, and where the executor runs
  // others that have waited long. True: there are some, and the fiber should Yield. Cheap when the queue is empty.
  static bool AtGuestBoundary();
  static void GuestBoundary() {
    if (AtGuestBoundary()) Yield();
  }

  // Gives the fiber a permit. Any thread, any fiber, signal-unsafe. Also callable with Mutexes held.
  void Unpark();
  // Waits until the body has returned. From a fiber: parks. From another host thread: blocks it.
  void Join();
  bool finished() const { return finished_.load(std::memory_order_acquire); }
  // The executor on which it last ran.
  Executor& executor() const;
  void set_pinned(bool pinned);
  // A word for whoever owns the fiber's body (the kernel: its Task). Set by the body itself, read by code that runs on
  // the fiber.
  void set_user_data(void* data) { user_data_ = data; }
  void* user_data() const { return user_data_; }

 private:
  friend class Executor;
  friend class Scheduler;
  struct Impl;
  Fiber();
  ~Fiber() override;
  std::atomic<bool> finished_{false};
  void* user_data_ = nullptr;
  std::unique_ptr<Impl> impl_;
};

// Runs `body` on a new fiber of a scheduler made for it and returns when it is done. For tests and tools.
void RunInFiber(std::function<void()> body, int executors = 1);

}  // namespace base

#endif  // BASE_FIBER_H_
