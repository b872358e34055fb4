#include "sentry/arch/signal_frame.h"

#include <cstring>

namespace sentry::arch {
namespace {

using base::Errno;
using base::Result;

struct Sigcontext {  // include/uapi/asm/sigcontext.h, struct sigcontext_64
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
static_assert(sizeof(Sigcontext) == 256);

struct Ucontext {
  uint64_t uc_flags, uc_link;
  abi::StackT uc_stack;
  Sigcontext uc_mcontext;
  uint64_t uc_sigmask;
};
static_assert(sizeof(Ucontext) == 304);

struct RtSigframe {
  uint64_t pretcode;
  Ucontext uc;
  abi::Siginfo info;
};
static_assert(sizeof(RtSigframe) == 440);

struct FpxSwBytes {  // struct _fpx_sw_bytes, in the FXSAVE area's bytes for software
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, padding[7];
};
static_assert(sizeof(FpxSwBytes) == 48);

constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr size_t kFxsaveBytes = 512, kXsaveHeaderBytes = 64, kSwOffset = 464;
constexpr uint64_t kRedZone = 128;
constexpr uint32_t kSsDisable = 2, kSsAutoDisarm = 1u << 31;
constexpr uint64_t kSaSiginfo = 4, kSaOnStack = 0x08000000, kSaRestorer = 0x04000000;
constexpr uint16_t kUserCs = 0x33, kUserSs = 0x2b;
constexpr uint64_t kFlagTf = 0x100, kFlagDf = 0x400, kFlagRf = 0x10000;

constexpr uint64_t RoundDown(uint64_t x, uint64_t to) { return x & ~(to - 1); }

}  // namespace

bool OnAltStack(uint64_t sp, const abi::StackT& s) {
  // include/linux/sched/signal.h, on_sig_stack: one that disarms itself never counts.
  uint32_t flags = static_cast<uint32_t>(s.ss_flags);
  if (flags & (kSsAutoDisarm | kSsDisable)) return false;
  return sp > s.ss_sp && sp - s.ss_sp <= s.ss_size;
}

uint64_t MinSignalStackSize() {
  // arch/x86/kernel/signal.c, get_sigframe_size: the frame, the state with its end mark, both alignments.
  return sizeof(RtSigframe) + 16 + platform::XStateSize() + sizeof(uint32_t) + 63;
}

Result<void> PushSignalFrame(UserMemory& memory, platform::Registers& regs, std::span<const std::byte> xstate,
                             const SignalFrameArgs& args) {
  // 64-bit programs have to bring their own trampoline (x64_setup_rt_frame).
  if (!(args.action.flags & kSaRestorer)) return Errno(EFAULT);

  uint64_t sp = regs.rsp - kRedZone;
  const abi::StackT& alt = args.altstack;
  bool nested = OnAltStack(sp, alt);
  bool entering = false;
  if (args.action.flags & kSaOnStack) {
    bool usable = !(static_cast<uint32_t>(alt.ss_flags) & kSsDisable) && alt.ss_size != 0;
    if (usable && !nested) {
      sp = alt.ss_sp + alt.ss_size;
      entering = true;
    }
  }
  const size_t state_bytes = xstate.size() + sizeof(kMagic2);
  const uint64_t fp = RoundDown(sp - state_bytes, 64);
  const uint64_t frame_at = RoundDown(fp - sizeof(RtSigframe), 16) - 8;
  // A frame that would run over the end of the alternate stack is refused rather than written somewhere else.
  if ((nested || entering) && (frame_at < alt.ss_sp || frame_at - alt.ss_sp > alt.ss_size)) return Errno(EFAULT);
  if (frame_at > regs.rsp && !entering) return Errno(EFAULT);  // wrapped around

  RtSigframe frame{};
  frame.pretcode = args.action.restorer;
  Ucontext& uc = frame.uc;
  uc.uc_flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  uc.uc_stack = {.ss_sp = alt.ss_sp, .ss_flags = alt.ss_flags, .ss_size = alt.ss_size};
  uc.uc_sigmask = args.mask;
  Sigcontext& c = uc.uc_mcontext;
  c = {.r8 = regs.r8,
       .r9 = regs.r9,
       .r10 = regs.r10,
       .r11 = regs.r11,
       .r12 = regs.r12,
       .r13 = regs.r13,
       .r14 = regs.r14,
       .r15 = regs.r15,
       .rdi = regs.rdi,
       .rsi = regs.rsi,
       .rbp = regs.rbp,
       .rbx = regs.rbx,
       .rdx = regs.rdx,
       .rax = regs.rax,
       .rcx = regs.rcx,
       .rsp = regs.rsp,
       .rip = regs.rip,
       .rflags = regs.rflags,
       .cs = kUserCs,
       .gs = 0,
       .fs = 0,
       .ss = kUserSs,
       .err = args.error_code,
       .trapno = args.trap_number,
       .oldmask = args.mask,
       .cr2 = args.fault_address,
       .fpstate = fp};
  if (args.action.flags & kSaSiginfo) frame.info = args.info;

  std::vector<std::byte> state(state_bytes);
  memcpy(state.data(), xstate.data(), xstate.size());
  if (xstate.size() >= kFxsaveBytes + kXsaveHeaderBytes) {
    FpxSwBytes sw{.magic1 = kMagic1,
                  .extended_size = static_cast<uint32_t>(state_bytes),
                  .xfeatures = platform::XStateFeatures(),
                  .xstate_size = static_cast<uint32_t>(xstate.size())};
    memcpy(state.data() + kSwOffset, &sw, sizeof sw);
    // Legacy components are valid in the frame even where XSAVE left them out as initial (save_xstate_epilog).
    uint64_t features;
    memcpy(&features, state.data() + kFxsaveBytes, sizeof features);
    features |= 3;
    memcpy(state.data() + kFxsaveBytes, &features, sizeof features);
  }
  memcpy(state.data() + xstate.size(), &kMagic2, sizeof kMagic2);

  if (TRY(memory.CopyOut(fp, state)) != state.size()) return Errno(EFAULT);
  if (TRY(memory.CopyOut(frame_at, std::as_bytes(std::span(&frame, 1)))) != sizeof frame) return Errno(EFAULT);

  regs.rdi = static_cast<uint64_t>(args.info.si_signo);
  regs.rax = 0;  // for varargs handlers
  regs.rsi = frame_at + offsetof(RtSigframe, info);
  regs.rdx = frame_at + offsetof(RtSigframe, uc);
  regs.rip = args.action.handler;
  regs.rsp = frame_at;
  regs.cs = kUserCs;
  regs.ss = kUserSs;
  regs.rflags &= ~(kFlagDf | kFlagRf | kFlagTf);
  regs.orig_rax = ~uint64_t{0};
  return {};
}

namespace {

// fpu__restore_sig and check_xstate_in_sigframe: with both marks the whole area, otherwise the legacy part alone.
Result<std::vector<std::byte>> ReadXState(UserMemory& memory, Addr at) {
  const uint32_t size = platform::XStateSize();
  std::vector<std::byte> area(size);
  if (at == 0) {
    platform::InitXState(area.data());
    return area;
  }
  if (at & 63) return Errno(EFAULT);
  if (TRY(memory.CopyIn(std::span(area).first(kFxsaveBytes), at)) != kFxsaveBytes) return Errno(EFAULT);
  FpxSwBytes sw;
  memcpy(&sw, area.data() + kSwOffset, sizeof sw);
  bool extended = sw.magic1 == kMagic1 && sw.xstate_size >= kFxsaveBytes + kXsaveHeaderBytes &&
                  sw.xstate_size <= size && sw.xstate_size <= sw.extended_size;
  if (extended) {
    uint32_t magic2 = TRY(memory.Read(UserPtr<uint32_t>{at + sw.xstate_size}));
    extended = magic2 == kMagic2;
  }
  uint64_t features = 3;
  if (extended) {
    size_t rest = sw.xstate_size - kFxsaveBytes;
    if (TRY(memory.CopyIn(std::span(area).subspan(kFxsaveBytes, rest), at + kFxsaveBytes)) != rest)
      return Errno(EFAULT);
    memcpy(&features, area.data() + kFxsaveBytes, sizeof features);
    features &= sw.xfeatures;
  }
  memset(area.data() + kSwOffset, 0, sizeof sw);
  memcpy(area.data() + kFxsaveBytes, &features, sizeof features);
  if (!platform::SanitizeXState(area.data(), size)) return Errno(EFAULT);
  return area;
}

}  // namespace

Result<RestoredFrame> PopSignalFrame(UserMemory& memory, const platform::Registers& regs) {
  // The handler's return has taken pretcode off the stack.
  const Addr frame_at = regs.rsp - sizeof(uint64_t);
  Ucontext uc = TRY(memory.Read(UserPtr<Ucontext>{frame_at + offsetof(RtSigframe, uc)}));
  const Sigcontext& c = uc.uc_mcontext;
  RestoredFrame out;
  platform::Registers& r = out.registers;
  r = regs;
  r.r8 = c.r8;
  r.r9 = c.r9;
  r.r10 = c.r10;
  r.r11 = c.r11;
  r.r12 = c.r12;
  r.r13 = c.r13;
  r.r14 = c.r14;
  r.r15 = c.r15;
  r.rdi = c.rdi;
  r.rsi = c.rsi;
  r.rbp = c.rbp;
  r.rbx = c.rbx;
  r.rdx = c.rdx;
  r.rax = c.rax;
  r.rcx = c.rcx;
  r.rsp = c.rsp;
  r.rip = c.rip;
  r.rflags = c.rflags;
  r.orig_rax = ~uint64_t{0};
  platform::SanitizeRegisters(r);
  out.mask = uc.uc_sigmask;
  out.altstack = uc.uc_stack;
  out.xstate = TRY(ReadXState(memory, c.fpstate));
  return out;
}

}  // namespace sentry::arch
