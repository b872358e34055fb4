#include "platform/kvm/vcpu.h"

#include <signal.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/kvm/kick.h"
#include "platform/kvm/kvm_abi.h"
#include "platform/memory_file.h"

extern "C" {
extern const char runsc_kvm_text[], runsc_kvm_syscall[], runsc_kvm_enter[], runsc_kvm_gate[], runsc_kvm_gate_out[];
// Parts of the gate: from the offset in the first word on, rax is no longer the number, which the second one is.
extern const uint32_t runsc_kvm_gate_tails[][2], runsc_kvm_gate_tails_end[][2];
}

namespace platform::kvm {
namespace {

constexpr uint64_t kCr0 = 0x80050033;  // PE MP ET NE WP AM PG
constexpr uint64_t kCr4Pae = 1 << 5, kCr4Osfxsr = 1 << 9, kCr4Osxmmexcpt = 1 << 10, kCr4Fsgsbase = 1 << 16,
                   kCr4Osxsave = 1 << 18, kCr4Pcide = 1 << 17, kCr4Pke = 1 << 22;
constexpr uint64_t kEfer = 0x1 | 0x100 | 0x400 | 0x800;  // SCE LME LMA NXE
constexpr uint32_t kMsrTsc = 0x10;
constexpr uint32_t kMsrStar = 0xc0000081, kMsrLstar = 0xc0000082, kMsrCstar = 0xc0000083, kMsrSyscallMask = 0xc0000084;
// What Linux clears at `syscall` (arch/x86/kernel/cpu/common.c, syscall_init).
constexpr uint64_t kSyscallMask = 0x257fd5;
// In front of the gate: only TF, which the gate leaves to the sentry. In ring 3 nothing could set IF again.
constexpr uint64_t kGateSyscallMask = 0x100;
constexpr uint64_t kXcr0Pkru = 1 << 9;
constexpr uint64_t kInitialFlags = 2;
constexpr uint64_t kOutBytes = 2;
constexpr size_t kXsaveHeader = 512;  // Intel SDM vol. 1, 13.4.2: which parts are there

// Of the task state segment: up to and without its I/O permission bits, and with those of the first 72 ports.
constexpr uint16_t kTssBytes = 0x68, kTssBytesWithPorts = kTssBytes + 10;

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

// One descriptor each, accessed already, and the task state segment, of which only the stacks count (Intel SDM vol. 3,
// 8.7).
void FillDescriptors(std::byte* page, uint64_t address) {
  auto* gdt = reinterpret_cast<uint64_t*>(page + STATE_GDT);
  gdt[SELECTOR_KERNEL_CS / 8] = Descriptor(0x9b, 0xa);
  gdt[SELECTOR_KERNEL_SS / 8] = Descriptor(0x93, 0xc);
  gdt[SELECTOR_USER_SS / 8] = Descriptor(0xf3, 0xc);
  gdt[SELECTOR_USER_CS / 8] = Descriptor(0xfb, 0xa);
  const uint64_t tss = address + STATE_TSS;
  gdt[SELECTOR_TSS / 8] = 0x67 | (tss & 0xffffff) << 16 | uint64_t{0x8b} << 40 | (tss >> 24 & 0xff) << 56;
  gdt[SELECTOR_TSS / 8 + 1] = tss >> 32;
  const uint64_t stack = address + STATE_STACK_TOP;
  const uint64_t own_stacks[] = {address + STATE_IST_TOP, address + STATE_DEBUG_STACK_TOP,
                                 address + STATE_NMI_STACK_TOP, address + STATE_MACHINE_STACK_TOP};
  memcpy(page + STATE_TSS + 4, &stack, 8);
  memcpy(page + STATE_TSS + 36, own_stacks, sizeof(own_stacks));
  const uint16_t no_io_map = kTssBytes;
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
  answers_ = &state_->answers;
  text_ = RING0_START + static_cast<uint64_t>(index_) * RING0_CPU_STRIDE;
  syscall_entry_ = text_ + static_cast<uint64_t>(runsc_kvm_syscall - runsc_kvm_text);
  FillDescriptors(machine_.Host(state), text_ + RING0_STATE_OFFSET);
  root_ = loaded_root_ = machine_.idle_root();
  machine_.SetRoots(index_, root_, root_);

  TRY(base::Host(SYS_ioctl, fd_.get(), kSetCpuid2, &machine_.cpuid()));
  TRY(UseTraits());
  if (machine_.traits().gate) return UseGate();
  if (!uses_pcids_) TRY(StandInRing0());
  TRY(SetModelRegisters());
  return {};
}

base::Result<void> Vcpu::SetModelRegisters() {
  kvm_xcrs xcrs = {};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].xcr = 0;
  xcrs.xcrs[0].value = machine_.xstate_features();
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_XCRS, &xcrs));
  MsrList<4> msrs = {};
  msrs.entries[0] = {kMsrStar, 0, uint64_t{0x23} << 48 | uint64_t{SELECTOR_KERNEL_CS} << 32};
  msrs.entries[1] = {kMsrLstar, 0, syscall_entry_};
  msrs.entries[2] = {kMsrCstar, 0, syscall_entry_};
  msrs.entries[3] = {kMsrSyscallMask, 0, uses_gate_ ? kGateSyscallMask : kSyscallMask};
  if (TRY(base::Host(SYS_ioctl, fd_.get(), kSetMsrs, &msrs)) != 4) return base::Errno(ENOTSUP);
  // The guest's clocks count with the host's: what it computes from the time stamp counter has to be right.
  uint64_t offset = 0;
  kvm_device_attr attr = {};
  attr.group = KVM_VCPU_TSC_CTRL;
  attr.attr = KVM_VCPU_TSC_OFFSET;
  attr.addr = reinterpret_cast<uint64_t>(&offset);
  if (base::Host(SYS_ioctl, fd_.get(), KVM_SET_DEVICE_ATTR, &attr).ok()) return {};
  // Before Linux 5.16: the host's KVM takes what is written within a second for the same moment.
  MsrList<1> counter = {};
  counter.entries[0] = {kMsrTsc, 0, __rdtsc()};
  TRY(base::Host(SYS_ioctl, fd_.get(), kSetMsrs, &counter));
  return {};
}

base::Result<void> Vcpu::StandInRing0() {
  kvm_sregs s = {};
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_GET_SREGS, &s));
  FillRing0(s);
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_SREGS, &s));
  kvm_regs r = {};
  r.rip = text_ + static_cast<uint64_t>(runsc_kvm_enter - runsc_kvm_text);
  r.rsp = text_ + RING0_STATE_OFFSET + STATE_GPRS;
  r.rflags = kInitialFlags;
  TRY(base::Host(SYS_ioctl, fd_.get(), KVM_SET_REGS, &r));
  run_->kvm_dirty_regs = 0;
  return {};
}

void Vcpu::FillRing0(kvm_sregs& s) const {
  const uint64_t state = text_ + RING0_STATE_OFFSET;
  s.cs = Segment(SELECTOR_KERNEL_CS, 0xb, true);
  s.ss = Segment(SELECTOR_KERNEL_SS, 0x3, false);
  s.ds = s.es = s.fs = s.gs = Segment(SELECTOR_USER_SS, 0x3, false);
  s.tr = {};
  s.tr.selector = SELECTOR_TSS;
  s.tr.base = state + STATE_TSS;
  s.tr.limit = (uses_gate_ ? kTssBytesWithPorts : kTssBytes) - 1;
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
  if (machine_.xstate_features() & kXcr0Pkru) s.cr4 |= kCr4Pke;
  if (uses_pcids_) s.cr4 |= kCr4Pcide;
  s.efer = kEfer;
  memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
}

base::Result<void> Vcpu::UseGate() {
  answers_ = reinterpret_cast<AnswerBlock*>(machine_.Host(TRY(machine_.MapGate(index_))));
  syscall_entry_ = RING0_START + RING0_GATE_OFFSET + static_cast<uint64_t>(index_) * RING0_GATE_STRIDE;
  uses_gate_ = true;
  auto* page = reinterpret_cast<std::byte*>(state_);
  auto* ports = reinterpret_cast<uint8_t*>(page + STATE_TSS + kTssBytes);
  memset(ports, 0xff, kTssBytesWithPorts - kTssBytes);
  ports[RING0_GATE_PORT / 8] &= static_cast<uint8_t>(~(1u << (RING0_GATE_PORT % 8)));
  // The limit in the descriptor, should anybody load the task register again.
  *reinterpret_cast<uint16_t*>(page + STATE_GDT + SELECTOR_TSS) = kTssBytesWithPorts - 1;
  TRY(StandInRing0());
  TRY(SetModelRegisters());
  run_->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  return {};
}

void Vcpu::LoadDirectly(const Registers& from, Physical root) {
  kvm_sregs& s = run_->s.regs.sregs;
  kvm_regs& r = run_->s.regs.regs;
  FillRing0(s);
  auto data = [](uint64_t selector) {
    kvm_segment segment = Segment(static_cast<uint16_t>(selector), 0x3, false);
    if (selector == 0) segment.present = 0, segment.unusable = 1;
    return segment;
  };
  s.cs = Segment(SELECTOR_USER_CS, 0xb, true);
  s.ss = Segment(SELECTOR_USER_SS, 0x3, false);
  s.ds = data(from.ds), s.es = data(from.es), s.fs = data(from.fs), s.gs = data(from.gs);
  s.fs.base = from.fs_base, s.gs.base = from.gs_base;
  s.cr3 = root;
  r.r15 = from.r15, r.r14 = from.r14, r.r13 = from.r13, r.r12 = from.r12, r.rbp = from.rbp, r.rbx = from.rbx;
  r.r11 = from.r11, r.r10 = from.r10, r.r9 = from.r9, r.r8 = from.r8, r.rax = from.rax, r.rcx = from.rcx;
  r.rdx = from.rdx, r.rsi = from.rsi, r.rdi = from.rdi, r.rip = from.rip, r.rflags = from.rflags, r.rsp = from.rsp;
  run_->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  state_->load_cr3 = 0;
  machine_.SetRoots(index_, loaded_root_, root);
  root_ = loaded_root_ = root;
}

void Vcpu::GateRegisters(Registers& to) const {
  const kvm_sregs& s = run_->s.regs.sregs;
  const kvm_regs& r = run_->s.regs.regs;
  to.r15 = r.r15, to.r14 = r.r14, to.r13 = r.r13, to.r12 = r.r12, to.rbp = r.rbp, to.rbx = r.rbx;
  to.r11 = r.r11, to.r10 = r.r10, to.r9 = r.r9, to.r8 = r.r8, to.rax = r.rax, to.rcx = r.rcx;
  to.rdx = r.rdx, to.rsi = r.rsi, to.rdi = r.rdi, to.rip = r.rcx, to.rflags = r.r11, to.rsp = r.rsp;
  const uint64_t at = r.rip - syscall_entry_;
  if (at != static_cast<uint64_t>(runsc_kvm_gate_out - runsc_kvm_gate) + kOutBytes) {
    for (const auto* tail = runsc_kvm_gate_tails; tail != runsc_kvm_gate_tails_end; ++tail) {
      if (at >= (*tail)[0]) to.rax = (*tail)[1];
    }
  }
  to.cs = SELECTOR_USER_CS, to.ss = SELECTOR_USER_SS, to.ds = s.ds.selector, to.es = s.es.selector;
  to.fs = s.fs.selector, to.gs = s.gs.selector, to.fs_base = s.fs.base, to.gs_base = s.gs.base;
}

void Vcpu::LoadRoot(Physical root, uint64_t id) {
  if (root == root_) return;
  root_ = root;
  state_->load_cr3 = root == loaded_root_ ? 0 : root | (uses_pcids_ ? pcids_.Choose(id) : 0);
  machine_.SetRoots(index_, loaded_root_, root_);
}

Vcpu::Outcome Vcpu::Run() {
  const long result = base::RawSyscall(SYS_ioctl, fd_.get(), KVM_RUN, 0);
  if (state_->exited.load(std::memory_order_relaxed) == 1) {
    // Ring 3 cannot write this word, and ring 0 writes it in front of its `out`; a signal may come in between.
    if (result == 0 && run_->exit_reason == KVM_EXIT_IO && run_->io.port == RING0_PORT) {
      state_->exited.store(0, std::memory_order_relaxed);
      if (uses_pcids_ && state_->load_cr3 != 0) pcids_.Loaded();
      state_->load_cr3 = 0;
      state_->sysret = 0;
      loaded_root_ = root_;
      machine_.SetRoots(index_, root_, root_);
      run_->request_interrupt_window = 0;
      return Outcome::kMessage;
    }
  }
  // Any code of ring 3 may use the port; from the gate it is a system call, from elsewhere a fault. Who is interrupted
  // in the gate makes the system call: nobody goes on there on another virtual CPU, whose answers would be another
  // thread's. Now and then the host carries `syscall` out itself, and it does enter ring 0: nothing else gets there in
  // ring 0.
  const bool interrupted = result == -EINTR || result == -EAGAIN;
  if (uses_gate_ && (interrupted || result == 0) && run_->s.regs.regs.rip - syscall_entry_ < kPageSize) {
    const bool out = result == 0 && run_->exit_reason == KVM_EXIT_IO;
    const uint64_t behind =
        run_->s.regs.regs.rip - syscall_entry_ - static_cast<uint64_t>(runsc_kvm_gate_out - runsc_kvm_gate);
    const bool window =
        result == 0 && (run_->exit_reason == KVM_EXIT_INTR || run_->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN);
    if (interrupted || window || (out && run_->io.port == RING0_GATE_PORT && (behind == 0 || behind == kOutBytes))) {
      run_->request_interrupt_window = 0;
      machine_.SetRoots(index_, root_, root_);
      return Outcome::kGate;
    }
  }
  if (interrupted) return Outcome::kSignal;
  if (result == -EFAULT) {
    const auto* fault = reinterpret_cast<const MemoryFault*>(&run_->hw);
    const bool told = machine_.tells_faults() && run_->exit_reason == kExitMemoryFault;
    fault_physical_ = told ? fault->physical : ~uint64_t{0};
    return Outcome::kMemoryFault;
  }
  if (result < 0) {
    if (!probing_) LOG_ERROR("kvm: KVM_RUN: %s", base::ErrnoName(static_cast<int>(-result)));
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
      if (!probing_) {
        LOG_ERROR("kvm: unexpected exit %u (%u)", run_->exit_reason,
                  run_->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run_->internal.suberror : 0);
      }
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
  state_->sysret = 0;
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

// A guest may have claimed features that it does not have, in a signal frame.
void Vcpu::MaskXState(std::byte* area) const {
  uint64_t present;
  memcpy(&present, area + kXsaveHeader, sizeof(present));
  present &= machine_.xstate_features();
  memcpy(area + kXsaveHeader, &present, sizeof(present));
}

void Vcpu::SetXState(std::span<const std::byte> area) {
  memset(xsave_.get(), 0, xsave_bytes_);
  memcpy(xsave_.get(), area.data(), std::min(area.size(), xsave_bytes_));
  MaskXState(xsave_.get());
  CHECK(base::Host(SYS_ioctl, fd_.get(), kSetXsave, xsave_.get()).ok());
}

base::Result<void> Vcpu::MapVectors() {
  if (save_page_ != nullptr) return {};
  const auto [save, load] = TRY(machine_.MapVectors(index_));
  save_page_ = machine_.Host(save), load_page_ = machine_.Host(load);
  return {};
}

void Vcpu::PrepareXState(std::span<const std::byte> area) {
  memcpy(load_page_, area.data(), area.size());
  MaskXState(load_page_);
}

void Vcpu::ArmXState(bool save) {
  const uint64_t pages = RING0_START + RING0_VECTOR_OFFSET + static_cast<uint64_t>(index_) * RING0_VECTOR_STRIDE;
  // What is not in use may be left out: nothing of whoever was saved before must show.
  if (save) memset(save_page_, 0, XStateSize());
  state_->xsaved.store(0, std::memory_order_relaxed);
  state_->xsave_at.store(save ? pages : 0, std::memory_order_relaxed);
  state_->xload_at.store(pages + kPageSize, std::memory_order_release);
}

void Vcpu::DisarmXState() {
  state_->xsave_at.store(0, std::memory_order_relaxed);
  state_->xload_at.store(0, std::memory_order_relaxed);
}

void Vcpu::GetSavedXState(std::span<std::byte> area) const { memcpy(area.data(), save_page_, area.size()); }

}  // namespace platform::kvm
