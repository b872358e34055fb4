// Cpu: an executor's virtual CPU, and the guest threads that are ready to run on it.
//
// An executor that has no fiber to run waits here, and waits by running guest code. The guest thread that has used the
// least time goes first (its virtual time, as Linux' fair scheduler counts it); while others wait, a tick sees to it
// that none runs on for long. Wake, called when there is a fiber to run, takes the executor out of the guest; the guest
// thread stays in the virtual CPU and goes on when the executor is idle again, unless another one's turn has come.
//
// On what thread: Wait on the executor's; Wake and Interrupt on any.
#ifndef PLATFORM_KVM_CPU_H_
#define PLATFORM_KVM_CPU_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/time.h"
#include "platform/kvm/vcpu.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmAddressSpace;
class KvmContext;
class KvmPlatform;

class Cpu {
 public:
  Cpu(KvmPlatform& platform, std::unique_ptr<Vcpu> vcpu) : platform_(platform), vcpu_(std::move(vcpu)) {}
  ~Cpu();

  // ---- of the idle strategy
  void Attach(base::Executor& executor);
  void Wait();
  void Wake();
  // Between fibers, when more of them are to come: guest threads that have waited for long behind them go to another
  // CPU, or get a tick's time.
  void Poll();
  // Guest threads are ready to run here. A hint.
  bool HasWork() const { return ready_.load(std::memory_order_relaxed); }
  void Detach();

  base::Executor& executor() { return *executor_.load(std::memory_order_relaxed); }
  // The executor has nothing to run, neither fibers nor guests.
  bool Sleeps() const { return word_.load(std::memory_order_relaxed) == kSleeping; }
  Vcpu& vcpu() { return *vcpu_; }

  // ---- with KvmPlatform::queues() held (the annotation cannot name it from here)
  // Adds a context that is ready.
  void Enqueue(KvmContext& context);
  void Remove(KvmContext& context);
  // Nothing runs or waits here.
  bool Idle() const { return head_ == nullptr && current_ == nullptr; }
  KvmContext* current() const { return current_; }
  KvmContext* head() const { return head_; }

  // ---- any thread
  // True if the virtual CPU is in the guest, in this address space; `stay` says which stay it is.
  bool IsIn(const KvmAddressSpace& as, uint32_t& stay) const;
  void KickOut();
  // Until that stay is over.
  void AwaitExit(uint32_t stay);

  // The context whose vector state is in the virtual CPU. For a context's own fiber and for the CPU's thread.
  base::Mutex& vector_mutex() { return vector_mutex_; }
  // With the mutex held: gets the vector state of `context` into its buffer, if it has it in this virtual CPU only.
  // False if the virtual CPU is about to save it: call AwaitVectors without the mutex, and try again.
  bool FetchVectors(KvmContext& context);
  void AwaitVectors();
  KvmContext* vector_owner() const { return vector_owner_; }
  void set_vector_owner(KvmContext* context) { vector_owner_ = context; }

 private:
  // Values of word_.
  static constexpr uint32_t kAwake = 0, kWoken = 1, kSleeping = 2, kInGuest = 3;

  // Where the registers of current_ are.
  enum class Where : uint8_t {
    kContext,    // in the context
    kLoaded,     // in the context, and ready to be run with
    kFrame,      // in the state page; the virtual CPU stands in ring 0
    kProcessor,  // wherever a signal interrupted the virtual CPU
  };

  // Makes the context whose turn it is current. False if there is none.
  bool Choose();
  bool OthersTurn();
  void NoteReady() { ready_.store(!Idle(), std::memory_order_relaxed); }  // after head_ or current_ has changed
  // Runs the current context until it is not current any more or the executor is wanted; with `bounded`, at most until
  // the next tick. True: the executor is wanted.
  bool RunCurrent(bool bounded);
  // Gives the first in the queue to a CPU that has nothing to do. False if there is none.
  bool GiveAway();
  Vcpu::Outcome Stay(KvmContext& context);
  void Load(KvmContext& context);
  void LoadVectors(KvmContext& context);
  // Around a stay, where ring 0 moves vector state: that of pending_ is to be loaded, for what it replaces.
  void ArmVectors();
  void SettleVectors();
  // With the mutex held: takes what ring 0 has saved.
  void TakeSavedVectors();
  void Store(KvmContext& context);
  // Takes the current context's registers out of the virtual CPU. An exit if it made one on the way. Leaves them where
  // they are if the address space is dead.
  std::optional<Exit> Evict(KvmContext& context);
  // What a stay in the guest ended with: the exit if the sentry has to see one; none: the context goes on, or may.
  std::optional<Exit> OnOutcome(KvmContext& context, Vcpu::Outcome outcome);
  std::optional<Exit> OnMessage(KvmContext& context);
  std::optional<Exit> OnPageFault(KvmContext& context, uint32_t error);
  std::optional<Exit> OnMemoryFault(KvmContext& context);
  Exit OnSystemCall(KvmContext& context);  // with its registers
  Exit OnForeign(KvmContext& context);
  Exit OnException(KvmContext& context, uint32_t vector, uint32_t error);
  int FloatingPointCode(KvmContext& context, bool simd);
  // Puts the current context back into the queue.
  void Requeue(KvmContext& context);
  void Finish(KvmContext& context, const Exit& exit);
  void ArmTick(bool on);

  KvmPlatform& platform_;
  std::unique_ptr<Vcpu> vcpu_;
  std::atomic<base::Executor*> executor_{nullptr};
  std::atomic<int> host_tid_{0};
  std::atomic<uint32_t> word_{kAwake};

  // Guarded by KvmPlatform::queues(): contexts that are ready, in the order of their virtual time; the one that is in
  // the virtual CPU, running or not; the virtual time up to which this CPU has come.
  KvmContext* head_ = nullptr;
  KvmContext* current_ = nullptr;
  int64_t virtual_time_ = 0;
  std::atomic<bool> ready_{false};  // !Idle(), for others to read

  // Where the virtual CPU is, for others. Odd: in KVM_RUN, or about to be.
  mutable std::atomic<uint32_t> stays_{0};
  std::atomic<const KvmAddressSpace*> in_{nullptr};
  mutable std::atomic<uint32_t> awaited_{0};  // how many sleep on stays_

  // The CPU's thread's own.
  Where where_ = Where::kContext;
  base::MonotonicNs last_stay_ = 0;  // when it ended
  int timer_ = 0;
  bool have_timer_ = false, ticking_ = false;
  uint64_t last_fault_ = 0;
  int same_faults_ = 0;  // in a row

  base::Mutex vector_mutex_;
  KvmContext* vector_owner_ = nullptr;
  KvmContext* pending_vectors_ = nullptr;  // the current context, if ring 0 is to load its state; the thread's own
  bool saving_vectors_ = false;            // ring 0 was told to save the owner's state; with the mutex
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_CPU_H_
