// Context of the KVM platform.
#ifndef PLATFORM_KVM_CONTEXT_H_
#define PLATFORM_KVM_CONTEXT_H_

#include <atomic>
#include <cstdlib>
#include <memory>

#include "platform/kvm/platform_impl.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmContext final : public Context {
 public:
  explicit KvmContext(KvmPlatform& platform);
  ~KvmContext() override;

  base::Result<void> Prepare(AddressSpace& as) override;
  void Start(AddressSpace& as, Completion& done) override;
  void Interrupt() override;
  std::span<const std::byte> XState() override;
  void SetXState(std::span<const std::byte> area) override;
  void SetSingleStep(bool on) override { step_ = on; }
  void SetAnswers(const CallAnswers& answers) override;
  void WithdrawAnswers() override;
  int LastCpu() const override { return last_cpu_.load(std::memory_order_relaxed); }

 private:
  friend class Cpu;
  friend class KvmPlatform;

  enum class Place : uint8_t {
    kNowhere,  // not started
    kQueued,   // ready, in cpu_'s queue
    kCurrent,  // in cpu_'s virtual CPU
  };
  // Where the vector state is.
  enum class Vectors : uint8_t {
    kInitial,  // nowhere yet: that of a new program
    kVcpu,     // in the virtual CPU of vector_cpu_
    kBoth,     // there, and xstate_ is a copy
    kBuffer,   // in xstate_
  };
  std::span<std::byte> Area();

  KvmPlatform& platform_;
  bool step_ = false;
  AnswerBlock answers_{};
  std::atomic<bool> withdrawn_{false};  // answers_ is no longer true
  std::atomic<int> last_cpu_{0};

  // Guarded by KvmPlatform::queues().
  Place place_ = Place::kNowhere;
  Cpu* cpu_ = nullptr;
  bool moved_ = false;  // cpu_ was chosen for it by another CPU's tick: its fiber follows
  KvmContext *next_ = nullptr, *previous_ = nullptr;
  int64_t virtual_time_ = 0;
  // Set with the lock; read without it by the CPU's thread.
  std::atomic<bool> interrupted_{false};

  // Set by Start, for the CPU's thread.
  KvmAddressSpace* as_ = nullptr;
  Completion* done_ = nullptr;
  bool guest_trap_flag_ = false;

  // While vector_cpu_ is not null: with its vector mutex.
  std::atomic<Cpu*> vector_cpu_{nullptr};
  Vectors vectors_ = Vectors::kInitial;
  struct Free {
    void operator()(std::byte* p) const { free(p); }
  };
  std::unique_ptr<std::byte, Free> xstate_;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_CONTEXT_H_
