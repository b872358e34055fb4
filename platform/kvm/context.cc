#include "platform/kvm/context.h"

#include <signal.h>

#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/fiber.h"

namespace platform::kvm {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kUpperHalf = 0xffff800000000000;
constexpr uint32_t kPageFaultVector = 14, kProtectionVector = 13;
// User mode, instruction fetch (arch/x86/include/asm/trap_pf.h).
constexpr uint32_t kUserFetch = 0x14;

}  // namespace

KvmContext::KvmContext(KvmPlatform& platform) : platform_(platform) {
  registers_.cs = SELECTOR_USER_CS;
  registers_.ss = SELECTOR_USER_SS;
  registers_.rflags = 0x202;
}

KvmContext::~KvmContext() {
  CHECK(place_ == Place::kNowhere);
  if (Cpu* cpu = vector_cpu_.load(std::memory_order_acquire)) {
    base::MutexLock lock(cpu->vector_mutex());
    if (cpu->vector_owner() == this) cpu->set_vector_owner(nullptr);
  }
}

base::Result<void> KvmContext::Prepare(AddressSpace& as) {
  if (static_cast<KvmAddressSpace&>(as).dead()) return base::Errno(ESRCH);
  return {};
}

void KvmContext::Start(AddressSpace& address_space, Completion& done) {
  auto& as = static_cast<KvmAddressSpace&>(address_space);
  Exit exit;
  guest_trap_flag_ = (registers_.rflags & kTrapFlag) != 0;
  const uint64_t rip = registers_.rip;
  Cpu* cpu = &platform_.CurrentCpu();
  Cpu* target = nullptr;
  {
    base::MutexLock lock(platform_.queues());
    if (cpu_ == nullptr && !cpu->Idle()) target = platform_.IdleCpu();
    if (std::exchange(moved_, false) && cpu_ != cpu) target = cpu_;
  }
  if (target != nullptr && target != cpu) {
    base::Fiber::MoveTo(target->executor());
    cpu = &platform_.CurrentCpu();
  }
  bool now = false;
  {
    base::MutexLock lock(platform_.queues());
    CHECK(place_ == Place::kNowhere);
    if (as.dead()) {
      now = true;
    } else if (interrupted_.exchange(false)) {
      exit.reason = ExitReason::kInterrupted;
      now = true;
    } else if (!kGuestRange.Contains(rip) && rip >= kGuestRange.end) {
      // Not for the processor: going back to such an address faults in ring 0, or is taken for something else.
      now = true;
      if (rip >= kUpperHalf) {
        exit.reason = ExitReason::kFault;
        exit.access = AccessType::kExecute;
        exit.address = rip;
        exit.trap_number = kPageFaultVector;
        exit.error_code = kUserFetch;
      } else {
        exit.reason = ExitReason::kException;
        exit.signo = SIGSEGV;
        exit.si_code = SI_KERNEL;
        exit.trap_number = kProtectionVector;
      }
    } else {
      as_ = &as;
      done_ = &done;
      platform_.CountRunning(1);
      cpu->Enqueue(*this);
    }
  }
  if (now) {
    done.Complete(exit);
  } else {
    // Almost always this is the executor's own thread; but another may have taken its place and wait already.
    cpu->Wake();
  }
}

void KvmContext::Interrupt() {
  Completion* done = nullptr;
  Cpu* cpu = nullptr;
  {
    base::MutexLock lock(platform_.queues());
    switch (place_) {
      case Place::kNowhere:
        interrupted_ = true;
        return;
      case Place::kQueued:
        cpu_->Remove(*this);
        place_ = Place::kNowhere;
        platform_.CountRunning(-1);
        done = std::exchange(done_, nullptr);
        break;
      case Place::kCurrent:
        interrupted_ = true;
        cpu = cpu_;
        break;
    }
  }
  if (cpu) {
    cpu->Wake();
    return;
  }
  Exit exit;
  exit.reason = ExitReason::kInterrupted;
  done->Complete(exit);
}

void KvmContext::SetAnswers(const CallAnswers& from) {
  answers_ = {from.valid, from.pid, from.tid, from.ppid, from.uid, from.euid, from.gid, from.egid, from.pgid};
  withdrawn_.store(false, std::memory_order_seq_cst);
}

// With Cpu::Load: each side writes its own, then reads the other's.
void KvmContext::WithdrawAnswers() {
  withdrawn_.store(true, std::memory_order_seq_cst);
  base::MutexLock lock(platform_.queues());
  if (place_ == Place::kCurrent) cpu_->vcpu().WithdrawAnswers();
}

// ---- vector state

std::span<std::byte> KvmContext::Area() {
  if (!xstate_) {
    xstate_.reset(static_cast<std::byte*>(aligned_alloc(64, (XStateSize() + 63) & ~size_t{63})));
    CHECK(xstate_ != nullptr);
  }
  return {xstate_.get(), XStateSize()};
}

std::span<const std::byte> KvmContext::XState() {
  while (Cpu* cpu = vector_cpu_.load(std::memory_order_acquire)) {
    {
      base::MutexLock lock(cpu->vector_mutex());
      if (cpu->FetchVectors(*this)) break;
    }
    cpu->AwaitVectors();
  }
  if (vectors_ == Vectors::kInitial) {
    InitXState(Area().data());
    vectors_ = Vectors::kBuffer;
  }
  return Area();
}

void KvmContext::SetXState(std::span<const std::byte> area) {
  CHECK(area.size() <= XStateSize());
  if (Cpu* cpu = vector_cpu_.load(std::memory_order_acquire)) {
    base::MutexLock lock(cpu->vector_mutex());
    if (cpu->vector_owner() == this) cpu->set_vector_owner(nullptr);
    vector_cpu_.store(nullptr, std::memory_order_release);
  }
  memset(Area().data(), 0, XStateSize());
  memcpy(Area().data(), area.data(), area.size());
  // The host's KVM refuses a state that the processor would.
  if (!SanitizeXState(Area().data(), static_cast<uint32_t>(area.size()))) InitXState(Area().data());
  vectors_ = Vectors::kBuffer;
}

}  // namespace platform::kvm
