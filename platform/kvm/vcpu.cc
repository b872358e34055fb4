#include "platform/kvm/vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/kvm/kick.h"
#include "platform/kvm/kvm_abi.h"

extern "C" {
extern const char runsc_kvm_text[], runsc_kvm_syscall[], runsc_kvm_enter[];
}

namespace platform::kvm {
namespace {

constexpr uint64_t kCr0 = 0x80050033;  // PE MP ET NE WP AM PG
constexpr uint64_t kCr4Pae = 1 << 5, kCr4Osfxsr = 1 << 9, kCr4Osxmmexcpt = 1 << 10, kCr4Fsgsbase = 1 << 16,
                   kCr4Osxsave = 1 << 18, kCr4Pke = 1 << 22;
constexpr uint64_t kEfer = 0x1 | 0x100 | 0x400 | 0x800;  // SCE LME LMA NXE
constexpr uint32_t kMsrStar = 0xc0000081, kMsrLstar = 0xc0000082, kMsrCstar = 0xc0000083, kMsrSyscallMask = 0xc0000084;
// What Linux clears at `syscall` (arch/x86/kernel/cpu/common.c, syscall_init).
constexpr uint64_t kSyscallMask = 0x257fd5;
constexpr uint64_t kXcr0Pkru = 1 << 9;
constexpr uint64_t kInitialFlags = 2;

kvm_segment Segment(uint16_t selector, uint8_t type, bool code) {
  kvm_segment s = {};
  s.selector = selector;
  s.limit = 0xffffffff;
  s.type = type;
  s.present = s.s = s.g = 1;
  s.dpl = selector & 3;
  s.l = code;
  s.db = !code;
  return s;
}

uint64_t Descriptor(uint8_t access, uint8_t flags) {
  return 0xffff | (uint64_t{0xf} << 48) | (static_cast<uint64_t>(access) << 40) | (static_cast<uint64_t>(flags) << 52);
}

// One descriptor each, accessed already, and the task state segment, of which only RSP0 and the stack of the double
// fault count (Intel SDM vol. 3, 8.7).
void FillDescriptors(std::byte* page, uint64_t address) {
  auto* gdt = reinterpret_cast<uint64_t*>(page + STATE_GDT);
  gdt[SELECTOR_KERNEL_CS / 8] = Descriptor(0x9b, 0xa);
  gdt[SELECTOR_KERNEL_SS / 8] = Descriptor(0x93, 0xc);
  gdt[SELECTOR_USER_SS / 8] = Descriptor(0xf3, 0xc);
  gdt[SELECTOR_USER_CS / 8] = Descriptor(0xfb, 0xa);
  const uint64_t tss = address + STATE_TSS;
  gdt[SELECTOR_TSS / 8] = 0x67 | (tss & 0xffffff) << 16 | uint64_t{0x8b} << 40 | (tss >> 24 & 0xff) << 56;
  gdt[SELECTOR_TSS / 8 + 1] = tss >> 32;
  const uint64_t stack = address + STATE_STACK_TOP, ist = address + STATE_IST_TOP;
  memcpy(page + STATE_TSS + 4, &stack, 8);
  memcpy(page + STATE_TSS + 36, &ist, 8);
  const uint16_t no_io_map = 0x68;
  memcpy(page + STATE_TSS + 102, &no_io_map, 2);
}

}  // namespace

base::Result<std::unique_ptr<Vcpu>> Vcpu::Create(Machine& machine, int index) {
  std::unique_ptr<Vcpu> v(new Vcpu(machine, index));
  TRY(v->SetUp());
  return v;
}

Vcpu::~Vcpu() {
  if (run_) (void)base::Host(SYS_munmap, run_, machine_.run_bytes());
}

base::Result<void> Vcpu::SetUp() {
  fd_.reset(static_cast<int>(TRY(base::HostRetry(SYS_ioctl, machine_.fd(), KVM_CREATE_VCPU, index_))));
  run_ = reinterpret_cast<kvm_run*>(
      TRY(base::Host(SYS_mmap, nullptr, machine_.run_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0)));
  xsave_bytes_ = std::max({machine_.xsave_bytes(), kXsaveBytes, size_t{XStateSize()}});
  xsave_ = std::make_unique<std::byte[]>(xsave_bytes_);

  const Physical state = TRY(machine_.MapCpu(index_));
  state_ = new (machine_.Host(state)) StatePage{};
  text_ = RING0_START + static_cast<uint64_t>(index_) * RING0_CPU_STRIDE;
  syscall_entry_ = text_ + static_cast<uint64_t>(runsc_kvm_syscall - runsc_kvm_text);
  FillDescriptors(machine_.Host(state), text_ + RING0_STATE_OFFSET);
  root_ = loaded_root_ = machine_.idle_root();
  machine_.SetRoots(index_, root_, root_);

  TRY(base::Host(SYS_ioctl, fd_.get(), kSetCpuid2, &machine_.cpuid()));
  TRY(StandInRing0());
  TRY(SetModelRegisters());
  return {};
}

base::Result<void> Vcpu::SetModelRegisters() {
  kvm_xcrs xcrs = {};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].xcr = 0;
  xcrs.xcrs[0].value = XStateFeatures();
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_XCRS, &xcrs));
  MsrList<4> msrs = {};
  msrs.entries[0] = {kMsrStar, 0, uint64_t{0x23} << 48 | uint64_t{SELECTOR_KERNEL_CS} << 32};
  msrs.entries[1] = {kMsrLstar, 0, syscall_entry_};
  msrs.entries[2] = {kMsrCstar, 0, syscall_entry_};
  msrs.entries[3] = {kMsrSyscallMask, 0, kSyscallMask};
  if (TRY(base::Host(SYS_ioctl, fd_.get(), kSetMsrs, &msrs)) != 4) return base::Errno(ENOTSUP);
  // The guest's clocks count with the host's: what it computes from the time stamp counter has to be right.
  uint64_t offset = 0;
  kvm_device_attr attr = {};
  attr.group = KVM_VCPU_TSC_CTRL;
  attr.attr = KVM_VCPU_TSC_OFFSET;
  attr.addr = reinterpret_cast<uint64_t>(&offset);
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_DEVICE_ATTR, &attr));
  return {};
}

base::Result<void> Vcpu::StandInRing0() {
  kvm_sregs s = {};
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_GET_SREGS, &s));
  const uint64_t state = text_ + RING0_STATE_OFFSET;
  s.cs = Segment(SELECTOR_KERNEL_CS, 0xb, true);
  s.ss = Segment(SELECTOR_KERNEL_SS, 0x3, false);
  s.ds = s.es = s.fs = s.gs = Segment(SELECTOR_USER_SS, 0x3, false);
  s.tr = {};
  s.tr.selector = SELECTOR_TSS;
  s.tr.base = state + STATE_TSS;
  s.tr.limit = 0x67;
  s.tr.type = 0xb;
  s.tr.present = 1;
  s.ldt = {};
  s.ldt.unusable = 1;
  s.gdt.base = state + STATE_GDT;
  s.gdt.limit = SELECTOR_TSS + 15;
  s.idt.base = RING0_START + RING0_IDT_OFFSET;
  s.idt.limit = 0xfff;
  s.cr0 = kCr0;
  s.cr3 = root_;
  s.cr4 = kCr4Pae | kCr4Osfxsr | kCr4Osxmmexcpt | kCr4Fsgsbase | kCr4Osxsave;
  if (XStateFeatures() & kXcr0Pkru) s.cr4 |= kCr4Pke;
  s.efer = kEfer;
  memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_SREGS, &s));
  kvm_regs r = {};
  r.rip = text_ + static_cast<uint64_t>(runsc_kvm_enter - runsc_kvm_text);
  r.rsp = state + STATE_GPRS;
  r.rflags = kInitialFlags;
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_REGS, &r));
  return {};
}

void Vcpu::LoadRoot(Physical root) {
  if (root == root_) return;
  root_ = root;
  state_->load_cr3 = root == loaded_root_ ? 0 : root;
  machine_.SetRoots(index_, loaded_root_, root_);
}

Vcpu::Outcome Vcpu::Run() {
  const long result = base::RawSyscall(SYS_ioctl, fd_.get(), KVM_RUN, 0);
  if (state_->exited.load(std::memory_order_relaxed) == 1) {
    // Ring 3 cannot write this word, and ring 0 writes it in front of its `out`; a signal may come in between.
    if (result == 0 && run_->exit_reason == KVM_EXIT_IO && run_->io.port == RING0_PORT) {
      state_->exited.store(0, std::memory_order_relaxed);
      state_->load_cr3 = 0;
      loaded_root_ = root_;
      machine_.SetRoots(index_, root_, root_);
      run_->request_interrupt_window = 0;
      return Outcome::kMessage;
    }
  }
  if (result == -EINTR || result == -EAGAIN) return Outcome::kSignal;
  if (result == -EFAULT) {
    const auto* fault = reinterpret_cast<const MemoryFault*>(&run_->hw);
    const bool told = machine_.tells_faults() && run_->exit_reason == kExitMemoryFault;
    fault_physical_ = told ? fault->physical : ~uint64_t{0};
    return Outcome::kMemoryFault;
  }
  if (result < 0) {
    LOG_ERROR("kvm: KVM_RUN: %s", base::ErrnoName(static_cast<int>(-result)));
    return Outcome::kBroken;
  }
  switch (run_->exit_reason) {
    case KVM_EXIT_INTR:
      return Outcome::kSignal;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return Outcome::kWindow;
    case KVM_EXIT_IO:
    case KVM_EXIT_HLT:
    case KVM_EXIT_HYPERCALL:
      return Outcome::kForeign;
    default:
      LOG_ERROR("kvm: unexpected exit %u (%u)", run_->exit_reason,
                run_->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run_->internal.suberror : 0);
      return Outcome::kBroken;
  }
}

void Vcpu::InjectKick() {
  if (run_->if_flag && run_->ready_for_interrupt_injection) {
    run_->request_interrupt_window = 0;
    kvm_interrupt interrupt = {VECTOR_KICK};
    if (base::Host(SYS_ioctl, fd_.get(), KVM_INTERRUPT, &interrupt).ok()) return;
  }
  run_->request_interrupt_window = 1;
}

void Vcpu::Kick(int host_tid) {
  __atomic_store_n(&run_->immediate_exit, 1, __ATOMIC_SEQ_CST);
  if (host_tid != 0) {
    (void)base::Host(SYS_tgkill, static_cast<int>(base::RawSyscall(SYS_getpid)), host_tid, kKickSignal);
  }
}

void Vcpu::ClearKick() { __atomic_store_n(&run_->immediate_exit, 0, __ATOMIC_SEQ_CST); }

uint64_t Vcpu::FaultAddress() {
  kvm_sregs s = {};
  CHECK(base::Host(SYS_ioctl, fd_.get(), KVM_GET_SREGS, &s).ok());
  return s.cr2;
}

bool Vcpu::Extract(Registers& registers) {
  kvm_sregs s = {};
  kvm_regs r = {};
  bool good = base::Host(SYS_ioctl, fd_.get(), KVM_GET_SREGS, &s).ok() &&
              base::Host(SYS_ioctl, fd_.get(), KVM_GET_REGS, &r).ok();
  const bool user = good && (s.cs.selector & 3) == 3;
  // An exit in the middle of an I/O instruction: the host wants to finish it. It changes registers that we do not use.
  Kick(0);
  (void)base::RawSyscall(SYS_ioctl, fd_.get(), KVM_RUN, 0);
  ClearKick();
  run_->request_interrupt_window = 0;
  kvm_vcpu_events events = {};
  events.flags = 0;
  (void)base::Host(SYS_ioctl, fd_.get(), KVM_SET_VCPU_EVENTS, &events);
  if (user) {
    registers.r15 = r.r15, registers.r14 = r.r14, registers.r13 = r.r13, registers.r12 = r.r12;
    registers.rbp = r.rbp, registers.rbx = r.rbx, registers.r11 = r.r11, registers.r10 = r.r10;
    registers.r9 = r.r9, registers.r8 = r.r8, registers.rax = r.rax, registers.rcx = r.rcx;
    registers.rdx = r.rdx, registers.rsi = r.rsi, registers.rdi = r.rdi, registers.rip = r.rip;
    registers.cs = s.cs.selector, registers.rflags = r.rflags, registers.rsp = r.rsp, registers.ss = s.ss.selector;
    registers.ds = s.ds.selector, registers.es = s.es.selector, registers.fs = s.fs.selector;
    registers.gs = s.gs.selector, registers.fs_base = s.fs.base, registers.gs_base = s.gs.base;
  }
  state_->load_cr3 = 0;
  state_->exited.store(0, std::memory_order_relaxed);
  root_ = loaded_root_ = machine_.idle_root();
  CHECK(StandInRing0().ok());
  machine_.SetRoots(index_, root_, root_);
  return user;
}

void Vcpu::GetXState(std::span<std::byte> area) {
  const unsigned long get = machine_.xsave_bytes() != 0 ? kGetXsave2 : kGetXsave;
  CHECK(base::Host(SYS_ioctl, fd_.get(), get, xsave_.get()).ok());
  memcpy(area.data(), xsave_.get(), std::min(area.size(), xsave_bytes_));
}

void Vcpu::SetXState(std::span<const std::byte> area) {
  memset(xsave_.get(), 0, xsave_bytes_);
  memcpy(xsave_.get(), area.data(), std::min(area.size(), xsave_bytes_));
  CHECK(base::Host(SYS_ioctl, fd_.get(), kSetXsave, xsave_.get()).ok());
}

}  // namespace platform::kvm
