// The platform object behind kvm::New, and the lock of its run queues.
#ifndef PLATFORM_KVM_PLATFORM_IMPL_H_
#define PLATFORM_KVM_PLATFORM_IMPL_H_

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "platform/kvm/address_space.h"
#include "platform/kvm/cpu.h"
#include "platform/kvm/file_windows.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/kvm/machine.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmPlatform final : public Platform {
 public:
  static base::Result<std::unique_ptr<KvmPlatform>> Create(Options options);
  ~KvmPlatform() override;

  std::string_view name() const override { return "kvm"; }
  base::Range GuestRange() const override { return kGuestRange; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  base::Result<std::unique_ptr<Context>> NewContext() override;
  std::unique_ptr<base::IdleStrategy> NewIdleStrategy(int index) override;
  int RunningContexts() const override { return running_.load(std::memory_order_relaxed); }

  Machine& machine() { return *machine_; }
  FileWindows& windows() { return *windows_; }
  // Of the current executor.
  Cpu& CurrentCpu();
  // Whether fibers or guest threads wait for the current executor.
  bool OthersWait() EXCLUDES(queues());
  // A CPU with nothing to do; null if there is none.
  Cpu* IdleCpu() REQUIRES(queues());

  // Entries of the address space's tables have been taken out: returns when no virtual CPU is in the middle of using
  // what it read of them. Blocks the host thread for as long as it takes to get them out of the guest.
  void Interrupt(KvmAddressSpace& as);
  // The address space is dead: completes what runs or waits in it, and returns when none runs.
  void EndContexts(KvmAddressSpace& as) EXCLUDES(queues());

  // Guards the run queues of all CPUs and where each context is. Short sections only.
  base::Mutex& queues() RETURN_CAPABILITY(queues_) { return queues_; }
  void CountRunning(int change) { running_.fetch_add(change, std::memory_order_relaxed); }

 private:
  KvmPlatform() = default;

  // In the order of their destruction, the last first.
  std::unique_ptr<Machine> machine_;
  std::unique_ptr<FileWindows> windows_;
  base::Mutex queues_;
  std::vector<std::unique_ptr<Cpu>> cpus_;  // by executor; complete when the scheduler starts
  std::atomic<int> running_{0};
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_PLATFORM_IMPL_H_
