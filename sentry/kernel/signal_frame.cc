#include "sentry/kernel/signal_frame.h"

#include <cstring>

#include "sentry/kernel/signal.h"

namespace sentry {

namespace {

struct SigContext {  // struct sigcontext_64
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate;
  uint64_t reserved1[8];
};
static_assert(sizeof(SigContext) == 256);

struct UContext {
  uint64_t flags, link;
  abi::StackT stack;
  SigContext mcontext;
  uint64_t sigmask;
};

struct RtSigFrame {
  uint64_t pretcode;
  UContext uc;
  abi::Siginfo info;
};

// struct _fpx_sw_bytes, in the last 48 bytes of the 512-byte FXSAVE image.
struct FpxSwBytes {
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, padding[7];
};
static_assert(sizeof(FpxSwBytes) == 48);
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr size_t kSwBytesOffset = 464;
constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
constexpr uint64_t kRedZone = 128;
constexpr uint64_t kHandlerClears = 0x100 | 0x400 | 0x10000;  // TF, DF, RF

}  // namespace

Result<void> PushSignalFrame(UserMemory& memory, platform::Registers& regs, std::span<const std::byte> xstate,
                             const SignalFrameArgs& args) {
  constexpr uint32_t kSsAutodisarm = 1u << 31;
  const abi::StackT& alt = args.altstack;
  const bool on_alt = alt.ss_size != 0 && !(static_cast<uint32_t>(alt.ss_flags) & kSsAutodisarm) && regs.rsp > alt.ss_sp &&
                      regs.rsp - alt.ss_sp <= alt.ss_size;
  uint64_t sp = regs.rsp - kRedZone;
  const bool enter_alt = (args.action.flags & kSaOnStack) && alt.ss_size != 0 && !on_alt;
  if (enter_alt) sp = alt.ss_sp + alt.ss_size;

  // XSAVE area with magic2 behind it, 64-byte aligned; the frame below it, so that rsp + 8 is 16-byte aligned at entry.
  const uint64_t fp_size = xstate.size() + 4;
  const uint64_t fp = (sp - fp_size) & ~uint64_t{63};
  const uint64_t frame_addr = ((fp - sizeof(RtSigFrame)) & ~uint64_t{15}) - 8;
  if (frame_addr > regs.rsp && !enter_alt) return Errno(EFAULT);  // wrapped
  if ((enter_alt || on_alt) && frame_addr < alt.ss_sp) return Errno(EFAULT);

  std::vector<std::byte> image(xstate.begin(), xstate.end());
  FpxSwBytes sw{};
  sw.magic1 = kMagic1;
  sw.extended_size = static_cast<uint32_t>(fp_size);
  sw.xfeatures = platform::XStateFeatures();
  sw.xstate_size = static_cast<uint32_t>(xstate.size());
  std::memcpy(image.data() + kSwBytesOffset, &sw, sizeof(sw));
  image.resize(fp_size);
  std::memcpy(image.data() + xstate.size(), &kMagic2, sizeof(kMagic2));

  RtSigFrame frame{};
  frame.pretcode = args.action.restorer;
  frame.uc.flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  frame.uc.stack = alt;
  if (alt.ss_size == 0) {
    frame.uc.stack.ss_flags = 2;  // SS_DISABLE
  } else if (on_alt) {
    frame.uc.stack.ss_flags |= 1;  // SS_ONSTACK
  }
  SigContext& mc = frame.uc.mcontext;
  mc.r8 = regs.r8, mc.r9 = regs.r9, mc.r10 = regs.r10, mc.r11 = regs.r11, mc.r12 = regs.r12, mc.r13 = regs.r13, mc.r14 = regs.r14,
  mc.r15 = regs.r15, mc.di = regs.rdi, mc.si = regs.rsi, mc.bp = regs.rbp, mc.bx = regs.rbx, mc.dx = regs.rdx, mc.ax = regs.rax,
  mc.cx = regs.rcx, mc.sp = regs.rsp, mc.ip = regs.rip, mc.flags = regs.rflags;
  mc.cs = static_cast<uint16_t>(regs.cs);
  mc.ss = static_cast<uint16_t>(regs.ss);
  mc.oldmask = args.mask;
  if (args.info.si_signo == kSIGSEGV || args.info.si_signo == kSIGBUS) {
    mc.cr2 = args.info.fault.addr;
    mc.trapno = 14;
  }
  mc.fpstate = fp;
  frame.uc.sigmask = args.mask;
  frame.info = args.info;

  size_t n = TRY(memory.CopyOut(fp, image));
  if (n != image.size()) return Errno(EFAULT);
  TRY(memory.Write(UserPtr<RtSigFrame>{frame_addr}, frame));

  regs.rdi = args.info.si_signo;
  regs.rsi = frame_addr + offsetof(RtSigFrame, info);
  regs.rdx = frame_addr + offsetof(RtSigFrame, uc);
  regs.rax = 0;
  regs.rip = args.action.handler;
  regs.rsp = frame_addr;
  regs.rflags &= ~kHandlerClears;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  return {};
}

Result<RestoredFrame> PopSignalFrame(UserMemory& memory, const platform::Registers& regs) {
  const Addr frame_addr = regs.rsp - 8;  // the handler's `ret` took pretcode
  UContext uc = TRY(memory.Read(UserPtr<UContext>{frame_addr + offsetof(RtSigFrame, uc)}));
  RestoredFrame out;
  out.registers = regs;
  platform::Registers& r = out.registers;
  const SigContext& mc = uc.mcontext;
  r.r8 = mc.r8, r.r9 = mc.r9, r.r10 = mc.r10, r.r11 = mc.r11, r.r12 = mc.r12, r.r13 = mc.r13, r.r14 = mc.r14, r.r15 = mc.r15,
  r.rdi = mc.di, r.rsi = mc.si, r.rbp = mc.bp, r.rbx = mc.bx, r.rdx = mc.dx, r.rax = mc.ax, r.rcx = mc.cx, r.rsp = mc.sp,
  r.rip = mc.ip;
  constexpr uint64_t kRestorable = 0x50dd5;  // FIX_EFLAGS: AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF
  r.rflags = (regs.rflags & ~kRestorable) | (mc.flags & kRestorable);
  r.cs = mc.cs | 3;
  r.ss = mc.ss | 3;
  platform::SanitizeRegisters(r);

  out.xstate.resize(platform::XStateSize());
  platform::InitXState(out.xstate.data());
  if (mc.fpstate != 0) {
    std::vector<std::byte> image(platform::XStateSize());
    // At least the 512 bytes of FXSAVE; the rest counts only when both magic numbers are in place.
    constexpr size_t kFxsave = 512, kHeader = 64;
    size_t n = TRY(memory.CopyIn(std::span(image).first(kFxsave), mc.fpstate));
    if (n != kFxsave) return Errno(EFAULT);
    FpxSwBytes sw;
    std::memcpy(&sw, image.data() + kSwBytesOffset, sizeof(sw));
    uint32_t usable = kFxsave;
    if (sw.magic1 == kMagic1 && sw.xstate_size >= kFxsave + kHeader && sw.xstate_size <= image.size() &&
        sw.extended_size >= sw.xstate_size + 4) {
      Result<uint32_t> magic2 = memory.Read(UserPtr<uint32_t>{mc.fpstate + sw.xstate_size});
      if (magic2.ok() && *magic2 == kMagic2) {
        n = TRY(memory.CopyIn(std::span(image).first(sw.xstate_size), mc.fpstate));
        if (n != sw.xstate_size) return Errno(EFAULT);
        usable = sw.xstate_size;
      }
    }
    if (usable == kFxsave) {
      // Legacy frame: only x87 and SSE are in it.
      std::memset(image.data() + kFxsave, 0, image.size() - kFxsave);
      const uint64_t features = 3;
      std::memcpy(image.data() + kFxsave, &features, sizeof(features));
    }
    std::memset(image.data() + kSwBytesOffset, 0, sizeof(FpxSwBytes));
    if (!platform::SanitizeXState(image.data(), static_cast<uint32_t>(image.size()))) return Errno(EINVAL);
    out.xstate = std::move(image);
  }
  out.mask = uc.sigmask;
  out.altstack = uc.stack;
  out.altstack.ss_flags &= ~1;
  return out;
}

}  // namespace sentry
