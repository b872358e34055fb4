// GuestThread: the sentry's side of a host process that runs guest code for one context at a time, and of its slot.
//
// At rest (its owner's fiber, or nobody's) or running (its bell's executor thread): `bell()` is null or not. Only Kill,
// Interrupt and the atomics are for others.
#ifndef PLATFORM_SYSTRAP_GUEST_THREAD_H_
#define PLATFORM_SYSTRAP_GUEST_THREAD_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/time.h"
#include "platform/platform.h"
#include "platform/registers.h"
#include "platform/systrap/signal_frame.h"
#include "platform/systrap/spin_meter.h"
#include "platform/systrap/stub_layout.h"
#include "platform/systrap/yield_meter.h"

namespace platform::systrap {

class Bell;
class SystrapContext;
class Stub;
class SystrapPlatform;

class GuestThread final : public base::RefCounted {
 public:
  // `cpu`: the one that it was made on and is bound to, or −1. `first`: the first slot of its address space.
  GuestThread(SystrapPlatform& platform, pid_t pid, uint32_t id, Slot& slot, ThreadState& state, uint64_t slot_address,
              int cpu, Slot& first);

  pid_t pid() const { return pid_; }
  uint32_t id() const { return id_; }
  uint64_t slot_address() const { return frame_.slot_address; }
  // At rest.
  void set_owner(SystrapContext* owner) EXCLUDES(mu_);
  Bell* bell() const { return bell_.load(std::memory_order_acquire); }

  // ---- at rest
  // Lets it run guest code; on the executor of `bell`. False if it is dead. With `returns` it goes on behind the call
  // that it made through runsc_systrap_entry: only rax is new, and its vector state is where it was.
  bool Run(Bell& bell, const Registers& regs, bool step, bool returns) EXCLUDES(mu_);
  // The vector state that it had at its last event (or when it was killed). `area` has XStateSize bytes.
  void CopyXState(std::span<std::byte> area) EXCLUDES(mu_);
  void LoadXState(std::span<const std::byte> area) EXCLUDES(mu_);
  // For a new program: what the old one left in the slot goes, and so will the thread's segments. Registers and vector
  // state are to be loaded.
  void Renew() EXCLUDES(mu_);
  void SetAnswers(const CallAnswers& answers) EXCLUDES(mu_);
  // The signals that it blocks (Context::SetSignalMask).
  void SetSignalMask(uint64_t mask) NO_THREAD_SAFETY_ANALYSIS { slot_.mask.store(mask, std::memory_order_relaxed); }
  // Whether it has slept in a host call since it was asked last: the stub's claim.
  bool TakeSlept() EXCLUDES(mu_);
  // It does not wait for the futex any more.
  void UncountWaiter(uint64_t address) EXCLUDES(mu_);
  int64_t CpuTimeNs() const;
  // True until it has run guest code: its vector state is the initial one.
  bool pristine() const { return pristine_; }

  // ---- running
  // Looks whether the guest thread has posted an event, and hands it to the owner.
  void CheckEvent();
  // Runs on after an event that was not for the owner: where the event found it.
  void RunOn();
  // The same with these registers, and the vector state of the event.
  void RunOn(const Registers& regs, bool step);
  // The event found it behind a call (StubPlace::kBehind): its vector state is that of the call, or what it was to go
  // on with.
  void IsBehindCall();
  // The owner has taken the event that ends this run.
  void EndRun();
  void OnTick(base::MonotonicNs now, bool check_life);
  // The host process is gone.
  void OnDead();
  // Not free to run on any CPU.
  bool bound() const { return place_ != Place::kFree; }
  bool apart() const { return place_ == Place::kApart; }
  // On the CPU of its executor.
  bool beside() const { return place_ == Place::kBeside; }
  // Whether its stub need not ring, because the executor looks at its slot before it sleeps.
  bool polled() const { return polled_; }
  void SetPolled(bool polled) NO_THREAD_SAFETY_ANALYSIS;
  // A look at the slot, from which nothing follows but CheckEvent: without the lock, so it may be another thread's by
  // now.
  bool HasEvent() const NO_THREAD_SAFETY_ANALYSIS;
  SpinMeter& meter() { return meter_; }
  // Around a yield of the executor: whether the thread has used the time that it took.
  void BeginYield(base::MonotonicNs now);
  bool UsedYield(base::MonotonicNs took_ns) { return yielded_.WasOwn(took_ns, CpuTimeNs()); }

  // ---- any thread
  // The stub answers nothing until the next SetAnswers. By a context that has it.
  void WithdrawAnswers() EXCLUDES(mu_);
  // Context::AllowMaskChanges and SignalMask, likewise.
  void AllowMaskChanges(bool allowed) EXCLUDES(mu_);
  uint64_t SignalMask() const NO_THREAD_SAFETY_ANALYSIS { return slot_.mask.load(std::memory_order_seq_cst); }
  void Interrupt();
  void SendKill();
  // SIGKILL, and reaps it; no guest code runs on it afterwards. Idempotent.
  void Kill();
  bool dead() const { return dead_.load(std::memory_order_seq_cst); }

 private:
  friend class Bell;
  // Those that the next resumption restores: the host's, or those of a call.
  HostFrame& frame() REQUIRES(mu_);
  std::byte* fpstate() REQUIRES(mu_);
  void InitFrameLocked() REQUIRES(mu_);
  // Frame and vector state of a new program.
  void InitLocked() REQUIRES(mu_);
  uint32_t Resumption() const REQUIRES(mu_);
  void LoadRegistersLocked(const Registers& regs, bool step) REQUIRES(mu_);
  void WakeLocked(uint32_t state) REQUIRES(mu_);
  // Where it runs next, by what its calls were like.
  void Settle(Bell& bell, base::MonotonicNs now) REQUIRES(mu_);
  enum class Place : uint8_t {
    kBeside,  // on the CPU of its executor
    kApart,   // on that of another executor, which lends it: this one's and the guest thread spin for each other
    kFree,    // on any
  };
  void MoveTo(Place place, int cpu) REQUIRES(mu_);
  void ReturnLease();
  // Its nice level, and how long it wants to run at a stretch.
  void SetSlice(int64_t slice_ns);
  // A tick finds it asleep in a host call.
  bool SleepsOn(base::MonotonicNs now) EXCLUDES(mu_);

  SystrapPlatform& platform_;
  const pid_t pid_;
  const uint32_t id_;
  const FrameLayout frame_;
  // Between Kill and the end of the stub the slot becomes another thread's: touched under the lock, and not when dead_.
  base::Mutex mu_;
  Slot& slot_ GUARDED_BY(mu_);
  ThreadState& state_ GUARDED_BY(mu_);
  Slot& first_ GUARDED_BY(mu_);
  bool at_call_ GUARDED_BY(mu_) = false;  // the last event left registers and vector state in the call frame's place
  bool renewed_ GUARDED_BY(mu_) = false;  // no code of the new program has run yet
  uint32_t slept_seen_ = 0;               // Slot::slept when it was looked at last
  uint32_t sleep_ = 0;                    // the sleep that a tick has found
  base::MonotonicNs sleeps_ = 0;          // and when
  std::vector<std::byte> last_xstate_ GUARDED_BY(mu_);  // of a thread that was killed at rest
  SystrapContext* owner_ = nullptr;                     // written at rest, under mu_
  std::atomic<Bell*> bell_{nullptr};
  std::atomic<bool> dead_{false};
  std::atomic<uint32_t> reaped_{0};
  size_t running_index_ = 0;  // of the bell
  bool pristine_ = true;
  Place place_ = Place::kBeside;
  int cpu_ = -1;            // the one it is bound to, unless kFree
  Bell* lender_ = nullptr;  // kApart: whose CPU that is
  bool polled_ = false;     // its bell's
  SpinMeter meter_;
  YieldedTime yielded_;
  uint32_t changes_ = 0;  // of the address space, when it last ran
  int misplaced_ = 0;     // runs in a row that speak for the other place
  base::MonotonicNs started_ = 0;
  bool long_slice_ = false;
  int64_t checked_cpu_ns_ = -1;        // its CPU time when a check of its life first saw this run; −1: none has
  base::MonotonicNs interrupted_ = 0;  // when a tick first saw that an interrupt has had no effect; 0: none
  int64_t interrupted_cpu_ns_ = 0;     // its CPU time then
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_GUEST_THREAD_H_
