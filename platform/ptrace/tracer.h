// Tracer: the part of the platform that lives on one executor's host thread: it waits for the tracees of that thread
// and hands each status to its Tracee. Everything but Wake and the atomics is for that thread only, from fibers and
// between them.
#ifndef PLATFORM_PTRACE_TRACER_H_
#define PLATFORM_PTRACE_TRACER_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/errno.h"
#include "base/executor.h"
#include "base/fiber_lock.h"
#include "base/ref_ptr.h"
#include "base/time.h"
#include "platform/ptrace/zygote.h"

namespace platform::ptrace {

class PtracePlatform;
class Stub;
class StubThread;

// A traced host thread.
class Tracee {
 public:
  // `status` is wait4's. After an exit status the thread is gone and the tracer has forgotten it.
  virtual void OnStatus(int status) = 0;

 protected:
  ~Tracee() = default;
};

class Tracer final : public base::IdleStrategy {
 public:
  Tracer(PtracePlatform& platform, int index);
  ~Tracer() override;

  // base::IdleStrategy
  void Attach(base::Executor& executor) override;
  void Poll() override;
  void Wait() override;
  void Wake() override;

  PtracePlatform& platform() { return platform_; }
  base::Executor& executor() { return *executor_; }
  // True on this tracer's host thread.
  bool IsCurrent() const { return base::Executor::Current() == executor_; }
  // Moves the calling fiber to this tracer's thread.
  void Enter();

  // Tracees by id.
  void Add(pid_t tid, Tracee& tracee);
  void Remove(pid_t tid);
  // Between the clone of a tracee and its Add its statuses are kept for it.
  void BeginBirth() { ++births_; }
  void EndBirth();
  // What the thread waits for: each tracee that runs counts once. Wait looks for statuses only while some do.
  void BeginActive() { ++active_; }
  void EndActive() { --active_; }

  // A stub with nothing mapped, from the pool or the zygote. Parks. EAGAIN, ENOMEM, EPERM of the host.
  base::Result<Stub*> TakeStub();
  // Takes back a stub without guest mappings, if there is room for one; else false.
  bool Pool(Stub& stub);
  void Forget(Stub& stub);  // the process is gone
  // Adopts a zygote for this thread and returns it. Parks.
  base::Result<Zygote*> EnsureZygote();
  Zygote* zygote() { return zygote_.get(); }
  // Any thread.
  bool has_zygote() const { return has_zygote_.load(std::memory_order_acquire); }

  // Guest threads that run in stubs of this tracer: the scheduling tick looks at them.
  void NoteRunning(StubThread& thread);
  void NoteStopped(StubThread& thread);
  int running() const { return running_count_.load(std::memory_order_relaxed); }
  // The executor's CPU; −1: it has none of its own.
  int cpu() const { return cpu_; }
  // Whether guest threads are bound to it and set free: there is more than one to choose from.
  bool binds() const { return binds_; }

 private:
  void Dispatch(pid_t tid, int status);
  void LoseAll();
  void ArmTimer(int64_t period_ns);
  void Tick();
  void TrimPool();

  PtracePlatform& platform_;
  base::Executor* executor_ = nullptr;  // set in Attach
  pid_t host_tid_ = 0;
  int cpu_ = -1;
  bool binds_ = false;

  // 0 awake, 1 woken, 2 waits on the futex, 3 waits in wait4.
  std::atomic<uint32_t> word_{0};

  std::unordered_map<pid_t, Tracee*> tracees_;
  std::unordered_map<pid_t, int> early_;  // empty unless births_
  int births_ = 0;
  int active_ = 0;

  std::unique_ptr<Zygote> zygote_;
  std::atomic<bool> has_zygote_{false};
  std::unordered_map<Stub*, base::RefPtr<Stub>> stubs_;  // all of this thread, until their leader is reaped
  std::vector<Stub*> pool_;
  base::MonotonicNs pool_used_ = 0;

  StubThread* running_ = nullptr;  // intrusive list
  std::atomic<int> running_count_{0};
  int timer_ = 0;  // the host's id of a POSIX timer
  bool have_timer_ = false;
  int64_t timer_period_ = 0;
  base::MonotonicNs next_tick_ = 0;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_TRACER_H_
