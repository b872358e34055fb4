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
#include <list>
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

// A host thread that runs an executor's loop. An executor has one at a time; when that one is stuck, a stand-by takes
// the loop over, and the stuck one leaves as soon as its fiber gives way, to be the next stand-by.
struct Executor::Carrier {
  // What the loop does with a fiber that has switched away.
  enum class After : uint8_t { kPark, kYield, kMove, kFinish };
  // Values of `run` besides the numbers of its stays: even in the loop, odd in a fiber.
  static constexpr uint64_t kReplaced = UINT64_MAX;
  // Values of `turn`, on which a stand-by sleeps.
  static constexpr uint32_t kStandBy = 0, kGo = 1, kEnd = 2;

  explicit Carrier(Impl& executor) : executor(executor) {}
  [[nodiscard]] bool Start(uint32_t first_turn);
  void Main();
  void GiveTurn(uint32_t value);
  bool replaced() const { return run.load(std::memory_order_relaxed) == kReplaced; }
  // The one of this host thread, or null. Not to be kept across a switch.
  [[gnu::noinline]] static Carrier* Current();

  Impl& executor;
  HostThread thread;
  std::atomic<uint32_t> turn{kStandBy};
  // Which stay in a fiber or in the loop this is (a fiber that holds the thread counts as the loop). Who replaces the
  // carrier changes it from an odd number to kReplaced, which fails if the fiber has given way; so the loop is never
  // run by two.
  std::atomic<uint64_t> run{0};

  // The thread's own.
  Fiber* current = nullptr;
  fcontext_t loop_context = nullptr;
  StackTracker tracker;
  After after = After::kPark;
  Executor* move_target = nullptr;
};

struct Executor::Impl {
  using After = Carrier::After;

  Impl(Scheduler& scheduler, Scheduler::Shared& shared, int index, int cpu, std::unique_ptr<IdleStrategy> idle,
       bool default_idle, MonotonicNs replace_after_ns);

  void Start() EXCLUDES(mu);
  // Adds a runnable fiber, and wakes the executor if it sleeps. Any thread.
  void Enqueue(Fiber& fiber, bool stealable) EXCLUDES(mu);
  void Post(std::function<void()> work) EXCLUDES(mu);
  void Stop() EXCLUDES(mu);
  void Join() EXCLUDES(mu);  // after Stop
  // Wakes the executor if it sleeps, for it to look whether there is something to steal. False if it did not sleep.
  bool Nudge() EXCLUDES(mu);

  // On this executor's thread, on a fiber: back to the loop. Returns when the fiber goes on, perhaps on another
  // executor.
  static void SwitchOut(Fiber& fiber, After after, Executor* target = nullptr);
  // True if a fiber has waited so long that the running one should make room for it.
  bool ShouldYield() EXCLUDES(mu);

  // False: the carrier has been replaced. True: the executor ends.
  bool Loop(Carrier& carrier);
  void RunPosted() EXCLUDES(mu);
  Fiber* Pop() EXCLUDES(mu);
  Fiber* Steal();
  void WakeAThief();
  Fiber* GiveAway(MonotonicNs now) EXCLUDES(mu);
  // False if the carrier was replaced meanwhile.
  bool RunFiber(Carrier& carrier, Fiber& fiber);
  void Settle(Carrier& carrier, Fiber& fiber);
  void Finish(Fiber& fiber);
  void MaybePoll();
  // True if the executor may sleep: from then on, who adds work has to wake it.
  bool EnterIdle() EXCLUDES(mu);
  // Gives a new fiber its stack and its first context.
  void Prepare(Fiber& fiber, size_t stack_bytes);
  static const FiberStack& StackOf(const Fiber& fiber);
  static void FiberMain(boost::context::detail::transfer_t transfer);

  // carrier.cc: a tick while fibers wait behind one that runs.
  void Watch() EXCLUDES(mu);
  void WatchLocked() REQUIRES(mu);
  void OnWatch() EXCLUDES(mu);
  // False if the active carrier is not in this stay any more, or no thread can be had.
  bool ReplaceLocked(uint64_t run) REQUIRES(mu);
  // For a carrier that has been replaced: whether there may be another turn for it.
  bool StandBy(Carrier& carrier) EXCLUDES(mu);

  class Visit;
  std::atomic<uint32_t> visitors{0};  // threads that are in Enqueue or Post and are not this executor's

  Executor* self = nullptr;
  Scheduler& scheduler;
  Scheduler::Shared& shared;
  const int index;
  std::atomic<int> cpu;
  const std::unique_ptr<IdleStrategy> idle;
  const bool default_idle;
  const MonotonicNs replace_after_ns;  // 0: never
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
  std::list<std::unique_ptr<Carrier>> carriers GUARDED_BY(mu);
  Carrier* active GUARDED_BY(mu) = nullptr;
  std::vector<Carrier*> stand_bys GUARDED_BY(mu);
  std::atomic<bool> watched{false};  // the watch is set; changed under mu
  uint64_t watched_run GUARDED_BY(mu) = 0;
  std::unique_ptr<Timer> watch;  // set once, by Start; reset by Join

  // The loop's own.
  int fibers_since_poll = 0;
  MonotonicNs last_poll = 0;
};

// On a fiber: the guard page of its stack; for the fault handler's message. Signal-safe.
bool IsFiberStackOverflow(uint64_t fault_address);

}  // namespace base

#endif  // BASE_EXECUTOR_INTERNAL_H_
