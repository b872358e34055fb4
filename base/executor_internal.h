// The insides of executors and fibers, shared by executor.cc and fiber.cc.
//
// Who may touch what: a fiber belongs at any time to exactly one of: the executor that runs it, a run queue, or
// (parked) the one who clears kParked in its state. Its context is therefore never entered twice.
#ifndef BASE_EXECUTOR_INTERNAL_H_
#define BASE_EXECUTOR_INTERNAL_H_

#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/fiber_stack.h"
#include "base/host_thread.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "base/sanitizers.h"
#include "base/wait_queue.h"

namespace base {

using boost::context::detail::fcontext_t;

struct Scheduler::Shared {
  FiberStackCache stacks;
  std::atomic<uint32_t> live_fibers{0};  // the destructor sleeps on it
  std::atomic<bool> stopping{false};
  std::atomic<uint32_t> next_executor{0};   // where LeastLoaded begins to look
  std::atomic<uint32_t> idle_executors{0};  // a hint: those that sleep
};

struct Fiber::Impl {
  // Bits of `state`. A permit or a timeout that arrives while the fiber runs, is queued or is on its way out is kept
  // there; kParked is set only by the executor, once the fiber's registers are saved.
  static constexpr uint32_t kPermit = 1;
  static constexpr uint32_t kParked = 2;
  static constexpr uint32_t kTimeout = 4;

  Scheduler* scheduler = nullptr;     // valid until the fiber has finished
  std::atomic<Executor*> executor{};  // where it runs, is queued, or ran last
  std::atomic<bool> pinned{false};
  std::atomic<uint32_t> state{0};
  std::string name;
  std::function<void()> body;  // the fiber's own
  FiberStack stack;
  fcontext_t context = nullptr;  // while it does not run
  StackTracker tracker;
  std::unique_ptr<Timer> timer;  // of ParkUntil, made at the first one; the fiber's own

  // Guarded by the `mu` of the executor in whose queue it is.
  Fiber* next = nullptr;
  bool stealable = false;
  MonotonicNs queued_at = 0;

  WaitQueue joiners;
  std::atomic<uint32_t> done{0};  // host threads in Join sleep on it

  // Sets `bit`, and queues the fiber if it was parked. Any thread.
  void Wake(Fiber& fiber, uint32_t bit);
};

struct Executor::Impl {
  // What the loop does with a fiber that has switched away.
  enum class After : uint8_t { kPark, kYield, kMove, kFinish };

  Impl(Scheduler& scheduler, Scheduler::Shared& shared, int index, int cpu, std::unique_ptr<IdleStrategy> idle,
       bool default_idle);

  void Start();
  // Adds a runnable fiber, and wakes the executor if it sleeps. Any thread.
  void Enqueue(Fiber& fiber, bool stealable) EXCLUDES(mu);
  void Post(std::function<void()> work) EXCLUDES(mu);
  void Stop() EXCLUDES(mu);
  // Wakes the executor if it sleeps, for it to look whether there is something to steal. False if it did not sleep.
  bool Nudge() EXCLUDES(mu);

  // On this executor's thread, on a fiber: back to the loop. Returns when the fiber goes on, perhaps on another
  // executor.
  static void SwitchOut(Fiber& fiber, After after, Executor* target = nullptr);
  // True if a fiber has waited so long that the running one should make room for it.
  bool ShouldYield() EXCLUDES(mu);

  void Loop();
  void RunPosted() EXCLUDES(mu);
  Fiber* Pop() EXCLUDES(mu);
  Fiber* Steal();
  void WakeAThief();
  Fiber* GiveAway(MonotonicNs now) EXCLUDES(mu);
  void RunFiber(Fiber& fiber);
  void Finish(Fiber& fiber);
  void MaybePoll();
  // True if the executor may sleep: from then on, who adds work has to wake it.
  bool EnterIdle() EXCLUDES(mu);
  // Gives a new fiber its stack and its first context.
  void Prepare(Fiber& fiber, size_t stack_bytes);
  static const FiberStack& StackOf(const Fiber& fiber);
  static void FiberMain(boost::context::detail::transfer_t transfer);

  class Visit;
  std::atomic<uint32_t> visitors{0};  // threads that are in Enqueue or Post and are not this executor's

  Executor* self = nullptr;
  Scheduler& scheduler;
  Scheduler::Shared& shared;
  const int index;
  std::atomic<int> cpu;
  const std::unique_ptr<IdleStrategy> idle;
  const bool default_idle;
  HostThread thread;
  std::atomic<int> host_tid{0};
  std::atomic<uint32_t> started{0};
  std::atomic<size_t> queue_length{0};
  std::atomic<bool> busy{false};  // runs a fiber now; a hint for LeastLoaded

  Mutex mu;
  Fiber* head GUARDED_BY(mu) = nullptr;
  Fiber* tail GUARDED_BY(mu) = nullptr;
  int stealable GUARDED_BY(mu) = 0;  // fibers in the queue that another executor may take, when they have waited long
  std::vector<std::function<void()>> posted GUARDED_BY(mu);
  bool is_idle GUARDED_BY(mu) = false;
  bool stop GUARDED_BY(mu) = false;
  std::atomic<bool> has_posted{false};  // lets the loop skip the lock

  // The loop's own.
  Fiber* current = nullptr;
  fcontext_t loop_context = nullptr;
  StackTracker tracker;
  After after = After::kPark;
  Executor* move_target = nullptr;
  int fibers_since_poll = 0;
  MonotonicNs last_poll = 0;
};

// On a fiber: the guard page of its stack; for the fault handler's message. Signal-safe.
bool IsFiberStackOverflow(uint64_t fault_address);

}  // namespace base

#endif  // BASE_EXECUTOR_INTERNAL_H_
