#include "platform/kvm/machine.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/kvm/kvm_abi.h"
#include "platform/kvm/ring0_layout.h"
#include "platform/memory_file.h"
#include "platform/registers.h"

extern "C" {
extern const char runsc_kvm_text[], runsc_kvm_text_end[], runsc_kvm_stubs[], runsc_kvm_gate[], runsc_kvm_gate_end[];
}

namespace platform::kvm {
namespace {

constexpr uint32_t kCpuidXState = 0xd;
constexpr size_t kHugePage = 2 << 20;
constexpr size_t kMaxRetired = 4096, kManyRetired = 256;  // pages

// A gate of the interrupt descriptor table: to ring 0, interrupts off (Intel SDM vol. 3, 6.14.1).
struct Gate {
  uint16_t offset_low, selector;
  uint8_t ist, type;
  uint16_t offset_middle;
  uint32_t offset_high, reserved;
};
static_assert(sizeof(Gate) == 16);

// The number of the stack in the task state segment (Vcpu's FillDescriptors) for vectors that may come while ring 0 is
// on ring 3's stack: debug, NMI, machine check; and for the double fault.
uint8_t StackOf(uint64_t vector) {
  switch (vector) {
    case 8:
      return 1;
    case 1:
      return 2;
    case 2:
      return 3;
    case 18:
      return 4;
    default:
      return 0;
  }
}

void FillIdt(Gate* idt) {
  const uint64_t stubs = RING0_START + static_cast<uint64_t>(runsc_kvm_stubs - runsc_kvm_text);
  for (uint64_t vector = 0; vector < RING0_STUBS; ++vector) {
    const uint64_t handler = stubs + vector * RING0_STUB_BYTES;
    Gate& gate = idt[vector];
    gate.offset_low = static_cast<uint16_t>(handler);
    gate.offset_middle = static_cast<uint16_t>(handler >> 16);
    gate.offset_high = static_cast<uint32_t>(handler >> 32);
    gate.selector = SELECTOR_KERNEL_CS;
    gate.ist = StackOf(vector);
    // Ring 3 may use int3 and into; every other `int n` is a general protection fault.
    gate.type = vector == 3 || vector == 4 ? 0xee : 0x8e;
  }
}

// What ring 3 must not reach is the last level's to say.
constexpr uint64_t kLink = kPtePresent | kPteWrite | kPteUser | kPteAccessed;

constexpr int TableIndex(uint64_t address, int level) { return static_cast<int>(address >> (12 + 9 * level) & 511); }

}  // namespace

Machine::Machine() = default;

base::Result<std::unique_ptr<Machine>> Machine::Create(base::UniqueFd device) {
  std::unique_ptr<Machine> m(new Machine());
  m->system_ = std::move(device);
  if (!m->system_.valid())
    m->system_.reset(static_cast<int>(TRY(base::Host(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC))));
  const int kvm = m->system_.get();
  if (TRY(base::Host(SYS_ioctl, kvm, KVM_GET_API_VERSION, 0)) != KVM_API_VERSION) return base::Errno(ENOTSUP);
  m->vm_.reset(static_cast<int>(TRY(base::HostRetry(SYS_ioctl, kvm, KVM_CREATE_VM, 0))));
  auto has = [&](long cap) { return base::Host(SYS_ioctl, m->vm_.get(), KVM_CHECK_EXTENSION, cap).value_or(0); };
  for (long cap : {KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_USER_MEMORY, KVM_CAP_XCRS, KVM_CAP_XSAVE}) {
    if (has(cap) <= 0) return base::Errno(ENOTSUP);
  }
  // The hypercall instruction of the other vendor's processors is an invalid opcode, and not rewritten in place.
  if (has(kCapDisableQuirks2) & static_cast<long>(kQuirkFixHypercall)) {
    kvm_enable_cap quirk = {};
    quirk.cap = static_cast<uint32_t>(kCapDisableQuirks2);
    quirk.args[0] = kQuirkFixHypercall;
    (void)base::Host(SYS_ioctl, m->vm_.get(), KVM_ENABLE_CAP, &quirk);
  }
  constexpr long kSynced = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  m->can_sync_registers_ = (has(KVM_CAP_SYNC_REGS) & kSynced) == kSynced;
  m->tells_faults_ = has(kCapMemoryFaultInfo) > 0;
  m->xsave_bytes_ = static_cast<size_t>(has(kCapXsave2));
  m->max_slots_ = static_cast<uint32_t>(std::max(has(KVM_CAP_NR_MEMSLOTS), 32l));
  m->run_bytes_ = static_cast<size_t>(TRY(base::Host(SYS_ioctl, kvm, KVM_GET_VCPU_MMAP_SIZE, 0)));

  m->cpuid_ = std::make_unique<CpuidList>();
  TRY(base::Host(SYS_ioctl, kvm, kGetSupportedCpuid, m->cpuid_.get()));

  m->xstate_features_ = XStateFeatures();
  for (uint32_t i = 0; i < m->cpuid_->count; ++i) {
    const kvm_cpuid_entry2& e = m->cpuid_->entries[i];
    if (e.function != kCpuidXState || e.index != 0) continue;
    // A host without processor support says nothing here, and lets guests use what the processor has.
    if (const uint64_t given = uint64_t{e.edx} << 32 | e.eax; given != 0) m->xstate_features_ &= given;
  }

  const long pages = TRY(base::Host(SYS_mmap, nullptr, kPagesBytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  m->pages_base_ = reinterpret_cast<std::byte*>(pages);
  TRY(m->SetSlot(0, kPagesPhysical, m->pages_base_, kSlotBytes));
  TRY(m->MakeSharedPages());
  return m;
}

Machine::~Machine() {
  vm_.reset();
  base::MutexLock lock(mu_);
  if (pages_base_) (void)base::Host(SYS_munmap, pages_base_, kPagesBytes);
  for (std::byte* r : reservations_) (void)base::Host(SYS_munmap, r, kSlotBytes);
}

base::Result<void> Machine::SetSlot(uint32_t slot, Physical physical, const void* host, uint64_t bytes) {
  kvm_userspace_memory_region region = {};
  region.slot = slot;
  region.guest_phys_addr = physical;
  region.memory_size = bytes;
  region.userspace_addr = reinterpret_cast<uint64_t>(host);
  TRY(base::HostRetry(SYS_ioctl, vm_.get(), KVM_SET_USER_MEMORY_REGION, &region));
  return {};
}

base::Result<void> Machine::MakeSharedPages() {
  text_page_ = TRY(TakePage());
  memcpy(Host(text_page_), runsc_kvm_text, static_cast<size_t>(runsc_kvm_text_end - runsc_kvm_text));
  const Physical idt = TRY(TakePage());
  FillIdt(reinterpret_cast<Gate*>(Host(idt)));

  const Physical level3 = TRY(TakePage()), level2 = TRY(TakePage());
  ring0_table_ = TRY(TakePage());
  idle_root_ = TRY(TakePage());
  kernel_entry_ = level3 | kLink;
  Table(idle_root_)[TableIndex(RING0_START, 3)] = kernel_entry_;
  Table(level3)[TableIndex(RING0_START, 2)] = level2 | kLink;
  Table(level2)[TableIndex(RING0_START, 1)] = ring0_table_ | kLink;
  Table(ring0_table_)[TableIndex(RING0_START + RING0_IDT_OFFSET, 0)] = idt | kPtePresent | kPteAccessed | kPteNoExecute;
  return {};
}

base::Result<Physical> Machine::MapCpu(int index) {
  if (index < 0 || index >= RING0_MAX_CPUS) return base::Errno(EAGAIN);
  const Physical state = TRY(TakePage());
  const uint64_t address = RING0_START + static_cast<uint64_t>(index) * RING0_CPU_STRIDE;
  uint64_t* table = Table(ring0_table_);
  table[TableIndex(address, 0)] = text_page_ | kPtePresent | kPteAccessed;
  table[TableIndex(address + RING0_STATE_OFFSET, 0)] =
      state | kPtePresent | kPteWrite | kPteAccessed | kPteDirty | kPteNoExecute;
  return state;
}

base::Result<Physical> Machine::Ring0Table(uint64_t offset, Physical& table) {
  if (table == 0) {
    table = TRY(TakePage());
    const Physical level2 = Table(kernel_entry_ & kPteAddress)[TableIndex(RING0_START, 2)] & kPteAddress;
    Table(level2)[TableIndex(RING0_START + offset, 1)] = table | kLink;
  }
  return table;
}

base::Result<std::pair<Physical, Physical>> Machine::MapVectors(int index) {
  const Physical save = TRY(TakePage()), load = TRY(TakePage());
  const uint64_t address = RING0_START + RING0_VECTOR_OFFSET + static_cast<uint64_t>(index) * RING0_VECTOR_STRIDE;
  uint64_t* table = Table(TRY(Ring0Table(RING0_VECTOR_OFFSET, vector_table_)));
  constexpr uint64_t kBits = kPtePresent | kPteWrite | kPteAccessed | kPteDirty | kPteNoExecute;
  table[TableIndex(address, 0)] = save | kBits;
  table[TableIndex(address + kPageSize, 0)] = load | kBits;
  return std::pair(save, load);
}

base::Result<Physical> Machine::MapGate(int index) {
  if (gate_page_ == 0) {
    gate_page_ = TRY(TakePage());
    memcpy(Host(gate_page_), runsc_kvm_gate, static_cast<size_t>(runsc_kvm_gate_end - runsc_kvm_gate));
  }
  const Physical answers = TRY(TakePage());
  const uint64_t address = RING0_START + RING0_GATE_OFFSET + static_cast<uint64_t>(index) * RING0_GATE_STRIDE;
  uint64_t* table = Table(TRY(Ring0Table(RING0_GATE_OFFSET, gate_table_)));
  table[TableIndex(address, 0)] = gate_page_ | kPtePresent | kPteUser | kPteAccessed;
  table[TableIndex(address + RING0_GATE_ANSWERS, 0)] = answers | kPtePresent | kPteUser | kPteAccessed | kPteNoExecute;
  return answers;
}

bool Machine::cpuid_has_pcids() const {
  constexpr uint32_t kPcid = 1 << 17;  // of ecx, leaf 1
  for (uint32_t i = 0; i < cpuid_->count; ++i) {
    if (cpuid_->entries[i].function == 1) return cpuid_->entries[i].ecx & kPcid;
  }
  return false;
}

base::Result<Physical> Machine::TakePage() {
  base::MutexLock lock(mu_);
  return TakePageLocked();
}

base::Result<Physical> Machine::TakePageLocked() {
  if (free_pages_.empty() && next_page_ == pages_end_) {
    if (retired_.size() >= kManyRetired) TRY(ForgetShadows());
    if (free_pages_.empty() && pages_end_ < kPagesPhysical + kPagesBytes && slots_ + 1 < max_slots_) {
      TRY(SetSlot(slots_, pages_end_, Host(pages_end_), kSlotBytes));
      ++slots_;
      pages_end_ += kSlotBytes;
    } else if (free_pages_.empty()) {
      TRY(ForgetShadows());
    }
  }
  if (!free_pages_.empty()) {
    const Physical page = free_pages_.back();
    free_pages_.pop_back();
    memset(Host(page), 0, kPageSize);
    return page;
  }
  if (next_page_ == pages_end_) return base::Errno(ENOMEM);
  return std::exchange(next_page_, next_page_ + kPageSize);
}

void Machine::Retire(std::vector<Physical> tables, Physical root) {
  // Their memory goes back to the host now; nothing looks at it any more. Except for the root: a virtual CPU may stand
  // in ring 0 with it.
  std::sort(tables.begin(), tables.end());
  for (size_t i = 0; i < tables.size();) {
    size_t run = 1;
    while (i + run < tables.size() && tables[i + run] == tables[i] + run * kPageSize) ++run;
    (void)base::Host(SYS_madvise, Host(tables[i]), run * kPageSize, MADV_DONTNEED);
    i += run;
  }
  base::MutexLock lock(mu_);
  // So that they are taken again in ascending order.
  retired_.insert(retired_.end(), tables.rbegin(), tables.rend());
  retired_.push_back(root);
  if (retired_.size() >= kMaxRetired) {
    auto forgotten = ForgetShadows();
    if (!forgotten.ok()) LOG_WARNING("kvm: %s when tables are recycled", base::ErrnoName(forgotten.error().value()));
  }
}

// The end of a memory slot makes the host's KVM drop every shadow page of the machine (kvm_arch_flush_shadow_memslot,
// arch/x86/kvm/mmu/mmu.c). Ours is a page that nothing maps, in a slot of its own.
base::Result<void> Machine::ForgetShadows() {
  constexpr Physical kSpare = uint64_t{2} << 30;
  const uint32_t slot = max_slots_ - 1;
  TRY(SetSlot(slot, kSpare, pages_base_, kPageSize));
  TRY(SetSlot(slot, kSpare, pages_base_, 0));
  std::vector<Physical> kept;
  for (Physical page : retired_) {
    bool loaded = false;
    for (auto& root : roots_) loaded = loaded || root.load(std::memory_order_relaxed) == page;
    (loaded ? kept : free_pages_).push_back(page);
  }
  retired_ = std::move(kept);
  return {};
}

void Machine::LogSystemCallEntry(bool in_ring0) {
  if (seen_entry_[in_ring0].exchange(true)) return;
  LOG_DEBUG("kvm: `syscall` %s", in_ring0 ? "enters ring 0"
                                          : "stays in ring 3 on this host, and is taken as the fault "
                                            "that follows");
}

base::Result<Machine::Slot> Machine::AddSlot() {
  base::MutexLock lock(mu_);
  if (slots_ + 1 >= max_slots_) return base::Errno(ENOMEM);
  // Aligned like its physical address, so that the host's KVM can use huge pages where the host has some.
  auto* reserved = reinterpret_cast<std::byte*>(TRY(base::Host(SYS_mmap, nullptr, kSlotBytes + kHugePage, PROT_NONE,
                                                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)));
  const size_t head = -reinterpret_cast<uintptr_t>(reserved) & (kHugePage - 1);
  if (head != 0) (void)base::Host(SYS_munmap, reserved, head);
  std::byte* host = reserved + head;
  (void)base::Host(SYS_munmap, host + kSlotBytes, kHugePage - head);
  const Physical physical = next_slot_;
  auto set = SetSlot(slots_, physical, host, kSlotBytes);
  if (!set.ok()) {
    (void)base::Host(SYS_munmap, host, kSlotBytes);
    return set.error();
  }
  ++slots_;
  next_slot_ += kSlotBytes;
  reservations_.push_back(host);
  return Slot{physical, host};
}

}  // namespace platform::kvm
