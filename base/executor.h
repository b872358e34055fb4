// Executor: a host thread, one per CPU that the sandbox may use, with a run queue of fibers. Scheduler: all of them,
// with the timers, the reactor for host descriptors and the blocking workers.
#ifndef BASE_EXECUTOR_H_
#define BASE_EXECUTOR_H_

#include <functional>
#include <memory>
#include <vector>

#include "base/fiber.h"
#include "base/time.h"

namespace base {

class Reactor;
class WorkerPool;

// How an executor waits when it has nothing to run. The default sleeps on a futex. A platform whose completions reach
// the host thread itself (ptrace: wait4) replaces it. All but Wake are called on the executor's thread only.
class IdleStrategy {
 public:
  virtual ~IdleStrategy() = default;
  // Called on the executor's thread before its first fiber; again on a thread that takes its place.
  virtual void Attach(Executor& executor) {}
  // Whether another host thread may take the executor over, and fibers of the executor go on at the same time on the
  // one that it had (Scheduler::Options::replace_stuck_after_ns). Not where the host binds guests to a thread (ptrace).
  virtual bool MayMove() const { return false; }
  // Collects what has happened without waiting (completions that unpark fibers of this executor). Called between
  // fibers, so it has to be cheap; `busy_ns` is how long ago it was last called.
  virtual void Poll() {}
  // Whether Wait would do more than wait, or guests may want something of it, so that a fiber that does not come back
  // is in the way (as in that of other fibers; MayMove). A hint; any thread.
  virtual bool HasWork() const { return false; }
  // Waits until an event of its own happened or Wake was called. A Wake before the wait must make it return at once.
  virtual void Wait() = 0;
  // Ends a Wait, from any thread. Idempotent.
  virtual void Wake() = 0;
};

class Executor {
 public:
  // The executor that runs on this host thread, or null. Not inlined for the same reason as Fiber::Current.
  [[gnu::noinline]] static Executor* Current();

  int index() const;            // 0 … Scheduler::executors().size() − 1
  int cpu() const;              // the host CPU it prefers, −1 if the thread is not bound
  int host_tid() const;         // of the thread that runs its queue now
  size_t queue_length() const;  // a hint; any thread
  Scheduler& scheduler() const;
  // Runs `work` on this executor's thread, outside of any fiber, soon. It must not park or block. Any thread.
  void Post(std::function<void()> work);
  IdleStrategy& idle() const;

  struct Impl;
  struct Carrier;
  explicit Executor(std::unique_ptr<Impl> impl);
  ~Executor();
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// On a fiber: keeps its executor on the host thread that the fiber is on, so that what belongs to the executor's thread
// (an idle strategy) may be touched. For a moment: no parking, nothing that may be stuck. If the executor has left the
// thread already, the constructor gives way first, and the fiber goes on where the executor is.
class ThreadHold {
 public:
  ThreadHold();
  ~ThreadHold();
  ThreadHold(const ThreadHold&) = delete;
  ThreadHold& operator=(const ThreadHold&) = delete;

 private:
  Executor::Carrier* carrier_ = nullptr;  // null: the executor always keeps it
};

class Scheduler {
 public:
  struct Options {
    int executors = 0;      // 0: one per CPU in sched_getaffinity
    bool bind_cpus = true;  // executor i prefers the i-th CPU of the affinity mask
    std::function<std::unique_ptr<IdleStrategy>(int index)> idle;  // null: the futex one
    int max_workers = 8;
    // An executor whose fiber has not given way for so long while others or guests wait, most likely because it is in a
    // host call that takes its time, goes on with a stand-by thread. 0: never. Only for strategies that may move.
    MonotonicNs replace_stuck_after_ns = 0;
  };
  // Starts the host threads. Before the seccomp filter; threads that are started later (workers) need only clone and
  // mmap.
  explicit Scheduler(Options options);
  // Every fiber has to have finished.
  ~Scheduler();

  const std::vector<std::unique_ptr<Executor>>& executors() const { return executors_; }
  Executor& LeastLoaded();
  Reactor& reactor() { return *reactor_; }
  WorkerPool& workers() { return *workers_; }

 private:
  friend class Executor;
  struct Shared;
  std::unique_ptr<Shared> shared_;  // outlives the executors
  std::vector<std::unique_ptr<Executor>> executors_;
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<Reactor> reactor_;
};

}  // namespace base

#endif  // BASE_EXECUTOR_H_
