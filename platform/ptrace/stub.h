// Stub: the host process behind an AddressSpace, and its threads. All of it is touched on its home tracer's thread
// only.
#ifndef PLATFORM_PTRACE_STUB_H_
#define PLATFORM_PTRACE_STUB_H_

#include <sys/types.h>

#include <memory>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/ref_ptr.h"
#include "base/time.h"
#include "platform/ptrace/ptrace_calls.h"
#include "platform/ptrace/stub_layout.h"
#include "platform/ptrace/tracer.h"
#include "platform/ptrace/zygote.h"
#include "platform/registers.h"

namespace platform::ptrace {

class ContextCore;
class Stub;

// A host thread that runs guest code for one context at a time. Stopped unless running().
class StubThread final : public Tracee {
 public:
  StubThread(Stub& stub, pid_t tid) : stub_(stub), tid_(tid) {}

  void OnStatus(int status) override;

  Stub& stub() { return stub_; }
  pid_t tid() const { return tid_; }
  ContextCore* owner() const { return owner_; }
  void set_owner(ContextCore* owner) { owner_ = owner; }

  // Lets it run guest code with these registers, which it may have already (`known` is what it has).
  void Run(const Registers& regs, Resume how);
  // Continues after a stop that was not for the owner.
  void RunOn();
  // The registers after a stop. False if the thread is being killed: its exit status will come.
  bool Fetch(Registers& regs);
  // The owner has seen the stop that ends this run.
  void EndRun();
  bool running() const { return running_; }

  // True until it has run guest code: its XSAVE state is the initial one.
  bool pristine() const { return pristine_; }
  // Binds it to the tracer's CPU, or lets it run on any.
  void SetBound(bool bound);
  bool bound() const { return bound_; }
  base::MonotonicNs started() const { return started_; }

 private:
  friend class Stub;
  friend class Tracer;  // the list of running threads
  Stub& stub_;
  const pid_t tid_;
  ContextCore* owner_ = nullptr;
  Registers known_{};
  bool have_known_ = false;
  bool born_ = false, exiting_ = false, running_ = false, pristine_ = true, bound_ = true;
  Resume how_ = Resume::kSystemCalls;
  int misplaced_runs_ = 0;  // runs in a row that speak for the other place
  base::MonotonicNs started_ = 0;
  struct Birth {
    Event done;
    bool died = false;
  };
  Birth* birth_ = nullptr;  // of the fiber that waits for it
  StubThread* next_ = nullptr;
  StubThread* prev_ = nullptr;
};

class Stub final : public base::RefCounted, public Tracee {
 public:
  Stub(Tracer& home, pid_t pid, uint32_t page) : home_(home), pid_(pid), page_index_(page) {}

  Tracer& home() { return home_; }
  pid_t pid() const { return pid_; }
  bool dead() const { return dead_; }

  // Waits for the newborn's first stop. Parks.
  base::Result<void> Begin();

  struct Outcome {
    size_t done;  // operations that succeeded; all if the batch did
    long result;  // of the last one that ran: a value or −errno. −ESRCH if the stub is dead.
  };
  // Has the helper execute the operations until one fails, one round trip per page of them. Parks.
  Outcome Execute(std::span<const HostOp> ops);

  // A thread without owner: a spare one, or a new one. Parks. EAGAIN, ENOMEM; ESRCH if the stub is dead.
  base::Result<StubThread*> TakeThread();
  // Takes back a stopped thread whose owner has left it.
  void GiveThread(StubThread& thread);
  // Makes every context leave its thread (their states are saved). False if one of them is running or about to.
  bool DetachAll();
  // Unmaps all of the guest's memory. Parks. False on failure.
  bool Clear();
  // Kills the process; it is reaped by and by.
  void Kill();

  void OnStatus(int status) override;
  void OnThreadExit(StubThread& thread);
  ~Stub() override;

 private:
  static constexpr size_t kSpareThreads = 8;
  void EndThread(StubThread& thread);
  void EndBatch();

  Tracer& home_;
  const pid_t pid_;
  const uint32_t page_index_;
  bool born_ = false, dead_ = false, killed_ = false, busy_ = false;
  Event stopped_;
  Registers helper_{};     // of the helper at the end of a batch
  base::FiberMutex lock_;  // one batch at a time
  int takers_ = 0;         // fibers in TakeThread
  std::vector<std::unique_ptr<StubThread>> threads_;
  std::vector<StubThread*> spare_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_STUB_H_
