// Context of the systrap platform.
#ifndef PLATFORM_SYSTRAP_CONTEXT_H_
#define PLATFORM_SYSTRAP_CONTEXT_H_

#include <atomic>
#include <memory>

#include "base/mutex.h"
#include "platform/platform.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/guest_thread.h"
#include "platform/systrap/signal_frame.h"

namespace platform::systrap {

class SystrapContext final : public Context {
 public:
  explicit SystrapContext(SystrapPlatform& platform);
  ~SystrapContext() override;

  base::Result<void> Prepare(AddressSpace& as) override;
  void Start(AddressSpace& as, Completion& done) override;
  void Interrupt() override;
  std::span<const std::byte> XState() override;
  void SetXState(std::span<const std::byte> area) override;
  void SetSingleStep(bool on) override { step_ = on; }
  void SetAnswers(const CallAnswers& answers) override EXCLUDES(answers_mu_);
  void WithdrawAnswers() override EXCLUDES(answers_mu_);
  bool KeepsSignalMask() const override;
  void SetSignalMask(uint64_t mask) override;
  void AllowMaskChanges(bool allowed) override EXCLUDES(answers_mu_);
  uint64_t SignalMask() override EXCLUDES(answers_mu_);
  int64_t CpuTimeNs() override;
  int LastCpu() const override;

  // ---- not running
  // Its thread is the only one of the stub.
  bool IsAloneIn(const Stub& stub) const { return stub_.get() == &stub && stub.HasNoThreadBut(*thread_); }
  // Nothing that it was reaches the next run but registers(). After IsAloneIn.
  void Renew();

  // ---- on the thread of the bell of thread_, while it runs
  // `call`: what the slot has, of use if the event found it in the entry (entry.h).
  void OnEvent(const HostFrame& frame, const CallRegisters& call, int signal, uint64_t fs_base, uint64_t gs_base);
  // It has made a call through the entry.
  void OnCall(const CallRegisters& call, uint64_t fs_base, uint64_t gs_base);
  void OnThreadDead();
  // Interrupt was called and has had no effect yet.
  bool interrupted() const { return (run_.load(std::memory_order_acquire) & kInterrupted) != 0; }

  uint32_t address_space_changes() const { return stub_->changes(); }
  bool stub_is_alive() { return stub_->IsAlive(); }

 private:
  enum : uint32_t { kRunning = 1, kInterrupted = 2 };
  // Where the vector state is.
  enum class State : uint8_t {
    kInitial,  // nowhere yet: that of a new program
    kThread,   // in the thread's slot
    kBoth,     // in the slot, and xstate_ is a copy
    kBuffer,   // in xstate_
  };
  struct FreeArea {
    void operator()(std::byte* p) const { free(p); }
  };

  base::Result<void> Bind(SystrapAddressSpace& as) EXCLUDES(answers_mu_);
  void LeaveThread() EXCLUDES(answers_mu_);
  std::span<std::byte> Area();
  void Finish(Exit exit);
  // Whether the thread can go back from the call that it made through the entry as if the kernel had served it.
  bool CanReturn() const;
  // Lets the thread run on after a signal that was not for this context.
  void Ignore(StubPlace place);
  // Ends a run that never began.
  void Fail(Completion& done, ExitReason reason);

  SystrapPlatform& platform_;
  base::RefPtr<Stub> stub_;
  base::RefPtr<GuestThread> thread_;  // of stub_; written while not running, and under answers_mu_
  Completion* done_ = nullptr;
  bool step_ = false;
  bool guest_trap_flag_ = false;  // the guest's own, while step_ sets another
  bool called_ = false;           // the last exit was a call through the entry; its registers:
  Registers at_call_{};
  base::Mutex answers_mu_;  // before GuestThread::mu_
  CallAnswers answers_ GUARDED_BY(answers_mu_);
  bool mask_changes_ GUARDED_BY(answers_mu_) = false;
  std::atomic<uint64_t> mask_{0};  // of the next run, where there is no thread yet
  State state_ = State::kInitial;
  std::unique_ptr<std::byte, FreeArea> xstate_;
  int last_cpu_ = -1;

  // kRunning: a Start is between its look at kInterrupted and its completion. kInterrupted: Interrupt was called since
  // the last completion. Interrupt signals the host thread if it finds the former.
  std::atomic<uint32_t> run_{0};
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_CONTEXT_H_
