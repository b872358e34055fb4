// Vcpu: one virtual CPU. Between runs it stands in ring 0, at the instruction behind the exit, and the registers of
// ring 3 are in its state page; after a run that a signal ended it stands where it was.
//
// Used by one host thread at a time (the host's KVM allows any), except for Kick.
#ifndef PLATFORM_KVM_VCPU_H_
#define PLATFORM_KVM_VCPU_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "base/errno.h"
#include "base/unique_fd.h"
#include "platform/kvm/machine.h"
#include "platform/kvm/pcid_slots.h"
#include "platform/kvm/ring0_layout.h"
#include "platform/registers.h"

struct kvm_run;
struct kvm_sregs;

namespace platform::kvm {

// What calls without arguments return, for ring 0 or the gate (ring0_layout.h); neither ring 3 nor another virtual
// CPU's thread writes it.
struct AnswerBlock {
  uint32_t valid, pid, tid, ppid, uid, euid, gid, egid, pgid;
};
static_assert(offsetof(AnswerBlock, valid) == ANSWER_VALID && offsetof(AnswerBlock, pid) == ANSWER_PID &&
              offsetof(AnswerBlock, tid) == ANSWER_TID && offsetof(AnswerBlock, ppid) == ANSWER_PPID &&
              offsetof(AnswerBlock, uid) == ANSWER_UID && offsetof(AnswerBlock, euid) == ANSWER_EUID &&
              offsetof(AnswerBlock, gid) == ANSWER_GID && offsetof(AnswerBlock, egid) == ANSWER_EGID &&
              offsetof(AnswerBlock, pgid) == ANSWER_PGID);

// The state page (ring0_layout.h). Only ring 0 and the sentry can reach it.
struct StatePage {
  std::atomic<uint32_t> exited;
  uint32_t unused0;
  uint64_t load_cr3;
  uint64_t fs_base, gs_base;
  uint16_t ds, es, fs, gs;
  std::byte unused2[STATE_SYSRET - 0x28];
  uint32_t sysret, can_sysret, syscall_faults;
  std::atomic<uint32_t> xsaved;
  std::atomic<uint64_t> xsave_at, xload_at;
  std::byte unused3[STATE_ANSWERS - 0x68];
  AnswerBlock answers;
  std::byte unused1[STATE_GPRS - STATE_ANSWERS - sizeof(AnswerBlock)];
  uint64_t gprs[15];  // as in Registers
  uint64_t vector, error;
  uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(offsetof(StatePage, gprs) == STATE_GPRS && offsetof(StatePage, vector) == STATE_VECTOR &&
              offsetof(StatePage, ss) == STATE_SS && sizeof(StatePage) == STATE_STACK_TOP &&
              offsetof(StatePage, gs) == STATE_GS && offsetof(StatePage, answers) == STATE_ANSWERS &&
              offsetof(StatePage, sysret) == STATE_SYSRET && offsetof(StatePage, can_sysret) == STATE_CAN_SYSRET &&
              offsetof(StatePage, syscall_faults) == STATE_SYSCALL_FAULTS &&
              offsetof(StatePage, xsaved) == STATE_XSAVED && offsetof(StatePage, xsave_at) == STATE_XSAVE_AT &&
              offsetof(StatePage, xload_at) == STATE_XLOAD_AT);

class Vcpu {
 public:
  static base::Result<std::unique_ptr<Vcpu>> Create(Machine& machine, int index);
  ~Vcpu();

  enum class Outcome : uint8_t {
    kGate,         // ring 3 made a system call by the gate (UseGate), or was interrupted there before the gate had
                   // answered it: GateRegisters has the registers
    kMessage,      // ring 0 says that ring 3 came back: the state page has its registers, vector and error code
    kSignal,       // a signal, or Kick; nothing happened to the guest
    kWindow,       // the interrupt that InjectKick asked for can be given now
    kForeign,      // an exit that ring 3 made by itself (an I/O instruction, where the host does not check)
    kMemoryFault,  // the host has no memory behind what ring 3 touched: fault_physical() if it says where
    kBroken,       // anything else
  };
  Outcome Run();
  Physical fault_physical() const { return fault_physical_; }  // ~0 if it is not known
  // A virtual CPU that stands in ring 3, or in ring 0 on its way: makes the next Run end in kMessage with VECTOR_KICK,
  // unless something else happens first. After kSignal and kWindow.
  void InjectKick();
  // Any thread: the Run that goes on, or the next one, ends soon. `host_tid` is the thread that runs it, 0 if unknown.
  void Kick(int host_tid);
  // Forgets a Kick that has been seen.
  void ClearKick();

  StatePage& state() { return *state_; }
  // The address at which `syscall` enters.
  uint64_t syscall_entry() const { return syscall_entry_; }
  Machine& machine() { return machine_; }
  // Finds out what the host can do, by trying. On a virtual CPU that has run nothing else.
  base::Result<Machine::Traits> Try();
  // Tells ring 0 what was found out.
  base::Result<void> UseTraits();
  // On a host where `syscall` leaves ring 3 where it is: system calls enter a page with an `out` that ring 3 may
  // execute there, and what runs next is put into the processor by the host's KVM instead of ring 0. One exit and no
  // privilege change, where the way by a page fault has three and two. Before the `out` the page answers what it can.
  base::Result<void> UseGate();
  // What the thread's calls without arguments return, from the next Run on.
  void SetAnswers(const AnswerBlock& answers) {
    __atomic_store_n(&answers_->valid, 0, __ATOMIC_RELAXED);
    memcpy(&answers_->pid, &answers.pid, sizeof(answers) - offsetof(AnswerBlock, pid));
    __atomic_store_n(&answers_->valid, answers.valid, __ATOMIC_SEQ_CST);
  }
  // Nothing is answered any more. Any thread.
  void WithdrawAnswers() { __atomic_store_n(&answers_->valid, 0, __ATOMIC_SEQ_CST); }
  bool uses_gate() const { return uses_gate_; }
  // With the gate: what the next Run begins with.
  void LoadDirectly(const Registers& registers, Physical root);
  void GateRegisters(Registers& registers) const;

  // The root that is loaded; a different one is loaded by the next Run.
  Physical root() const { return root_; }
  // `id` is the address space's (Machine::NewAddressSpaceId).
  void LoadRoot(Physical root, uint64_t id);

  // The address of the last page fault.
  uint64_t FaultAddress();
  // After kForeign, kMemoryFault and kBroken: takes the registers of ring 3 out of the processor and brings it back to
  // ring 0. False if it was not in ring 3: the registers are lost.
  bool Extract(Registers& registers);

  // The vector state that is in the processor.
  void GetXState(std::span<std::byte> area);
  void SetXState(std::span<const std::byte> area);
  // The same by ring 0, on its way to ring 3: no call of the host. Prepare says what is to be loaded; Arm, in front of
  // a Run, that it is to be done, and whether what is there is to be saved first. After that Run, or from any other
  // thread during it, Saved and Loaded say whether it was done. What was not, after the Run, is called off by Disarm.
  bool moves_vectors() const { return save_page_ != nullptr; }
  void PrepareXState(std::span<const std::byte> area);
  void ArmXState(bool save);
  bool XStateSaved() const { return state_->xsaved.load(std::memory_order_acquire) != 0; }
  bool XStateLoaded() const { return state_->xload_at.load(std::memory_order_acquire) == 0; }
  void DisarmXState();
  void GetSavedXState(std::span<std::byte> area) const;

 private:
  explicit Vcpu(Machine& machine, int index) : machine_(machine), index_(index) {}
  base::Result<void> SetUp();
  base::Result<void> StandInRing0();
  void FillRing0(kvm_sregs& sregs) const;
  base::Result<void> SetModelRegisters();
  void MaskXState(std::byte* area) const;
  base::Result<void> MapVectors();
  // Runs two bytes of code in ring 3, at kProbeAddress, until something comes back.
  base::Result<Outcome> Probe(std::span<const uint8_t> code);

  Machine& machine_;
  const int index_;
  base::UniqueFd fd_;
  kvm_run* run_ = nullptr;
  StatePage* state_ = nullptr;
  AnswerBlock* answers_ = nullptr;         // in the state page, or behind the gate
  uint64_t text_ = 0, syscall_entry_ = 0;  // addresses in ring 0
  Physical root_ = 0, loaded_root_ = 0;    // the one of the next Run, and of the last
  Physical fault_physical_ = 0;
  bool uses_gate_ = false, probing_ = false;
  bool uses_pcids_ = false;
  PcidSlots pcids_;
  std::unique_ptr<std::byte[]> xsave_;
  size_t xsave_bytes_ = 0;
  std::byte *save_page_ = nullptr, *load_page_ = nullptr;  // if ring 0 handles vector state
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_VCPU_H_
