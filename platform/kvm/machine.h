// Machine: the virtual machine of a sandbox: its descriptors, its guest-physical memory, and what all of its virtual
// CPUs share (the text of ring 0, the interrupt table, the upper half of the address space).
//
// Guest-physical memory is made of slots of kSlotBytes, added when they are needed. Each is a reservation in the
// sentry's own address space: what is mapped there is what the guest's page tables can point to. The first ones are
// memory of ours (page tables, state pages); the others are windows onto files (file_windows.h). Changing a mapping
// inside a slot is a call of the host's mmap family, which makes the host's KVM forget every translation of it.
#ifndef PLATFORM_KVM_MACHINE_H_
#define PLATFORM_KVM_MACHINE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace platform::kvm {

struct CpuidList;

// An address in guest-physical memory.
using Physical = uint64_t;

// Bits of a page table entry (Intel SDM vol. 3, 4.5).
inline constexpr uint64_t kPtePresent = 1, kPteWrite = 2, kPteUser = 4, kPteAccessed = 0x20, kPteDirty = 0x40,
                          kPteNoExecute = uint64_t{1} << 63;
inline constexpr uint64_t kPteAddress = 0x000ffffffffff000;
inline constexpr int kTableEntries = 512;

class Machine {
 public:
  // Makes the machine with an open /dev/kvm, or opens it. ENOENT, EACCES …: the host's; ENOTSUP: its KVM lacks what we
  // need.
  static base::Result<std::unique_ptr<Machine>> Create(base::UniqueFd device);
  ~Machine();

  int fd() const { return vm_.get(); }
  int system_fd() const { return system_.get(); }
  size_t run_bytes() const { return run_bytes_; }
  const CpuidList& cpuid() const { return *cpuid_; }
  // What virtual CPUs have in XCR0: the features that guests see, as far as the host's KVM can give them. (Not MPX,
  // for example, since Linux 5.6.)
  uint64_t xstate_features() const { return xstate_features_; }
  // Of the area of KVM_GET_XSAVE2; 0 if the host has only KVM_GET_XSAVE.
  size_t xsave_bytes() const { return xsave_bytes_; }
  // Whether registers can be exchanged in the memory of kvm_run.
  bool can_sync_registers() const { return can_sync_registers_; }
  // Whether a KVM_RUN that fails with EFAULT says where.
  bool tells_faults() const { return tells_faults_; }

  // A zeroed page of our own memory, for tables and state. ENOMEM when the slot is used up or the host refuses.
  base::Result<Physical> TakePage() EXCLUDES(mu_);
  // The page tables of a tree that were in use. The host's KVM may keep shadows of them, made when it had seen their
  // contents, and does not see that we write to them: they are used again only after it was made to forget all shadows.
  void Retire(std::vector<Physical> tables, Physical root) EXCLUDES(mu_);
  std::byte* Host(Physical page) const { return pages_base_ + (page - kPagesPhysical); }
  uint64_t* Table(Physical page) const { return reinterpret_cast<uint64_t*>(Host(page)); }

  // One more slot, as an inaccessible reservation of kSlotBytes. `physical` and `host` are where it begins.
  struct Slot {
    Physical physical;
    std::byte* host;
  };
  base::Result<Slot> AddSlot() EXCLUDES(mu_);

  // The entry of every top table that maps ring 0.
  uint64_t kernel_entry() const { return kernel_entry_; }
  // A table with nothing but ring 0, for virtual CPUs that run nothing.
  Physical idle_root() const { return idle_root_; }
  // Maps the two pages of virtual CPU `index`. Returns its state page.
  base::Result<Physical> MapCpu(int index) EXCLUDES(mu_);
  // Maps the gate of virtual CPU `index`. Returns the page behind it, with its answer block.
  base::Result<Physical> MapGate(int index) EXCLUDES(mu_);

  // Maps the pages of virtual CPU `index` for vector state, which ring 0 can write. Returns the two.
  base::Result<std::pair<Physical, Physical>> MapVectors(int index) EXCLUDES(mu_);

  // Never given twice, never 0.
  uint64_t NewAddressSpaceId() { return 1 + last_id_.fetch_add(1, std::memory_order_relaxed); }

  // The root that a virtual CPU has loaded, and the one that it may load next, for Retire.
  void SetRoots(int cpu, Physical loaded, Physical next) {
    roots_[2 * cpu].store(loaded, std::memory_order_relaxed);
    roots_[2 * cpu + 1].store(next, std::memory_order_relaxed);
  }

  // What the host can do, as the first virtual CPU has found out by trying.
  struct Traits {
    bool syscall_faults = false;  // `syscall` leaves ring 3 where it is, and faults if ring 3 may not execute its entry
    bool gate = false;            // then system calls exit by the gate (Vcpu::UseGate)
    bool sysret = false;          // ring 0 can go back by `sysret`
    bool vectors = false;         // ring 0 can save and load vector state
    bool pcids = false;           // CR3 takes process-context identifiers
  };
  bool cpuid_has_pcids() const;
  const Traits& traits() const { return traits_; }
  void set_traits(const Traits& traits) { traits_ = traits; }

  // Says in the debug log, once for each, how `syscall` arrives on this host.
  void NoteSystemCallEntry(bool in_ring0) {
    std::atomic<bool>& seen = seen_entry_[in_ring0];
    if (!seen.load(std::memory_order_relaxed)) LogSystemCallEntry(in_ring0);
  }

  static constexpr uint64_t kSlotBytes = 256 << 20;

 private:
  Machine();
  base::Result<void> MakeSharedPages();
  // The table of the last level for ring 0's addresses around RING0_START + offset; made the first time.
  base::Result<Physical> Ring0Table(uint64_t offset, Physical& table);
  base::Result<void> ForgetShadows() REQUIRES(mu_);
  base::Result<Physical> TakePageLocked() REQUIRES(mu_);
  base::Result<void> SetSlot(uint32_t slot, Physical physical, const void* host, uint64_t bytes);

  // Above 4 GiB, where the host's KVM puts nothing of its own.
  static constexpr Physical kPagesPhysical = uint64_t{1} << 32;
  static constexpr uint64_t kPagesBytes = 16 * kSlotBytes;  // in slots that are added as they are needed
  static constexpr Physical kSlotsPhysical = kPagesPhysical + kPagesBytes;

  void LogSystemCallEntry(bool in_ring0);

  std::atomic<bool> seen_entry_[2] = {};
  std::atomic<uint64_t> last_id_{0};
  Traits traits_;  // set before the second virtual CPU is made
  base::UniqueFd system_, vm_;
  size_t run_bytes_ = 0;
  size_t xsave_bytes_ = 0;
  uint64_t xstate_features_ = 0;
  bool tells_faults_ = false, can_sync_registers_ = false;
  uint32_t max_slots_ = 0;
  std::unique_ptr<CpuidList> cpuid_;

  std::byte* pages_base_ = nullptr;
  uint64_t kernel_entry_ = 0;
  Physical idle_root_ = 0, ring0_table_ = 0, text_page_ = 0, gate_table_ = 0, gate_page_ = 0, vector_table_ = 0;
  std::atomic<Physical> roots_[512] = {};

  base::Mutex mu_;
  Physical next_page_ GUARDED_BY(mu_) = kPagesPhysical, pages_end_ GUARDED_BY(mu_) = kPagesPhysical + kSlotBytes;
  std::vector<Physical> free_pages_ GUARDED_BY(mu_);
  std::vector<Physical> retired_ GUARDED_BY(mu_);
  uint32_t slots_ GUARDED_BY(mu_) = 1;
  Physical next_slot_ GUARDED_BY(mu_) = kSlotsPhysical;
  std::vector<std::byte*> reservations_ GUARDED_BY(mu_);
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_MACHINE_H_
