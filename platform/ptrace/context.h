// Context of the ptrace platform.
#ifndef PLATFORM_PTRACE_CONTEXT_H_
#define PLATFORM_PTRACE_CONTEXT_H_

#include <atomic>
#include <memory>
#include <optional>

#include "platform/platform.h"
#include "platform/ptrace/address_space.h"
#include "platform/ptrace/stub.h"
#include "platform/ptrace/xstate.h"

namespace platform::ptrace {

// What of a context the home's thread touches. Counted by reference because that thread may have to let go of it after
// the Context itself is gone.
class ContextCore final : public base::RefCounted {
 public:
  explicit ContextCore(Registers& registers) : registers_(&registers) {}

  // ---- by the context's fiber (Prepare: by its creator's), or its destructor
  base::Result<void> Prepare(PtraceAddressSpace& as);
  void Start(PtraceAddressSpace& as, Completion& done);
  void Abandon();
  std::span<const std::byte> XState();
  void SetXState(std::span<const std::byte> area);
  void set_step(bool on) { step_ = on; }
  int LastCpu() const;

  // ---- any thread
  void Interrupt();

  // ---- on the thread of home_
  void OnStop(int status);
  void OnThreadDead();
  // Saves what only the thread has, and gives it back.
  void LeaveThread();

 private:
  enum : uint32_t { kRunning = 1, kInterrupted = 2 };
  // Where the vector state is.
  enum class State : uint8_t {
    kInitial,  // nowhere yet: that of a new program
    kThread,   // in the thread
    kBoth,     // in the thread, and xstate_ is a copy
    kBuffer,   // in xstate_
  };

  base::Result<void> Bind(PtraceAddressSpace& as);
  bool LoadXState();
  void FetchXState();
  void Finish(const Exit& exit);
  void OnSystemCall(Exit& exit);
  void OnSignal(int signo, Exit& exit);
  AccessType Access(uint64_t address, int si_code);

  Registers* registers_;  // the Context's; null after it is gone
  Tracer* home_ = nullptr;
  StubThread* thread_ = nullptr;
  Completion* done_ = nullptr;
  bool step_ = false;
  bool pinned_ = false;
  State state_ = State::kInitial;
  std::optional<XStateBuffer> xstate_;

  // kRunning: a Start is between its look at kInterrupted and its completion. kInterrupted: Interrupt was called since
  // the last completion. Interrupt signals the host thread if it finds the former; ids_ is set before kRunning.
  std::atomic<uint32_t> run_{0};
  std::atomic<uint64_t> ids_{0};  // tgid << 32 | tid

  struct {
    uint64_t rip = 0, address = 0;
    AccessType access = AccessType::kRead;
    bool valid = false;
  } last_fault_;
};

class PtraceContext final : public Context {
 public:
  PtraceContext() : core_(base::MakeRef<ContextCore>(registers_)) {
    registers_.cs = 0x33;
    registers_.ss = 0x2b;
    registers_.rflags = 0x202;
  }
  ~PtraceContext() override { core_->Abandon(); }

  base::Result<void> Prepare(AddressSpace& as) override { return core_->Prepare(static_cast<PtraceAddressSpace&>(as)); }
  void Start(AddressSpace& as, Completion& done) override { core_->Start(static_cast<PtraceAddressSpace&>(as), done); }
  void Interrupt() override { core_->Interrupt(); }
  std::span<const std::byte> XState() override { return core_->XState(); }
  void SetXState(std::span<const std::byte> area) override { core_->SetXState(area); }
  void SetSingleStep(bool on) override { core_->set_step(on); }
  int LastCpu() const override { return core_->LastCpu(); }

 private:
  base::RefPtr<ContextCore> core_;
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_CONTEXT_H_
