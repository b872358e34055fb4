// What the host's KVM does with some instructions is found out by trying them, on the first virtual CPU.
#include <cstring>
#include <vector>

#include "platform/kvm/vcpu.h"
#include "platform/memory_file.h"
#include "platform/registers.h"

namespace platform::kvm {
namespace {

constexpr uint64_t kProbeAddress = 0x400000;
constexpr uint64_t kInvalidOpcode = 6, kPageFault = 14;
constexpr uint64_t kUserFlags = 0x202;

}  // namespace

base::Result<Vcpu::Outcome> Vcpu::Probe(std::span<const uint8_t> code) {
  std::vector<Physical> pages;
  for (int i = 0; i < 5; ++i) pages.push_back(TRY(machine_.TakePage()));
  memcpy(machine_.Host(pages[4]), code.data(), code.size());
  machine_.Table(pages[0])[kTableEntries - 1] = machine_.kernel_entry();
  for (int level = 3; level >= 0; --level) {
    machine_.Table(pages[3 - level])[kProbeAddress >> (12 + 9 * level) & 511] =
        pages[4 - level] | kPtePresent | kPteUser | (level > 0 ? kPteWrite : 0);
  }
  state_->rip = state_->gprs[offsetof(Registers, rcx) / 8] = kProbeAddress;
  state_->rflags = state_->gprs[offsetof(Registers, r11) / 8] = kUserFlags;
  state_->cs = SELECTOR_USER_CS, state_->ss = SELECTOR_USER_SS;
  LoadRoot(pages[0], machine_.NewAddressSpaceId());
  probing_ = true;
  Outcome outcome;
  do {
    outcome = Run();
  } while (outcome == Outcome::kSignal);
  probing_ = false;
  state_->exited.store(0, std::memory_order_relaxed);
  state_->load_cr3 = 0;
  state_->sysret = 0;
  const bool armed = save_page_ != nullptr && !XStateLoaded();
  DisarmXState();
  root_ = loaded_root_ = machine_.idle_root();
  TRY(StandInRing0());
  machine_.SetRoots(index_, root_, root_);
  const Physical root = pages.front();
  pages.erase(pages.begin());
  machine_.Retire(std::move(pages), root);
  return armed ? Outcome::kBroken : outcome;
}

base::Result<Machine::Traits> Vcpu::Try() {
  Machine::Traits traits;
  constexpr uint8_t kSyscall[] = {0x0f, 0x05}, kUd2[] = {0x0f, 0x0b};
  if (TRY(Probe(kSyscall)) != Outcome::kMessage) return base::Errno(ENOTSUP);
  traits.syscall_faults = state_->vector == kPageFault && state_->rip == syscall_entry_;
  // Some hosts carry out what ring 0 does by themselves, and do not know this instruction.
  state_->sysret = 1;
  traits.sysret = TRY(Probe(kUd2)) == Outcome::kMessage && state_->vector == kInvalidOpcode &&
                  state_->rip == kProbeAddress && state_->cs == SELECTOR_USER_CS && state_->ss == SELECTOR_USER_SS &&
                  (state_->rflags & kUserFlags) == kUserFlags;
  if (machine_.cpuid_has_pcids()) {
    uses_pcids_ = true;
    traits.pcids = StandInRing0().ok() && TRY(Probe(kUd2)) == Outcome::kMessage && state_->vector == kInvalidOpcode;
    uses_pcids_ = false;
    TRY(StandInRing0());
  }
  if (machine_.xstate_features() != 0 && XStateSize() <= kPageSize) {
    std::vector<std::byte> area(XStateSize());
    InitXState(area.data());
    TRY(MapVectors());
    PrepareXState(area);
    ArmXState(true);
    traits.vectors = TRY(Probe(kUd2)) == Outcome::kMessage && state_->vector == kInvalidOpcode && XStateSaved();
  }
  return traits;
}

base::Result<void> Vcpu::UseTraits() {
  // Not where ring 0 is left out.
  if (machine_.traits().vectors && !machine_.traits().gate) {
    TRY(MapVectors());
  } else {
    save_page_ = nullptr;
  }
  if (machine_.traits().pcids && !machine_.traits().gate) {
    uses_pcids_ = true;
    TRY(StandInRing0());
  }
  state_->syscall_faults = machine_.traits().syscall_faults;
  state_->can_sysret = machine_.traits().sysret;
  return {};
}

}  // namespace platform::kvm
