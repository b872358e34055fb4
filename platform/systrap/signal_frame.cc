#include "platform/systrap/signal_frame.h"

#include <signal.h>

#include <cstring>

#include "platform/systrap/platform_impl.h"

namespace platform::systrap {
namespace {

// include/uapi/asm/sigcontext.h, ucontext.h of arch/x86.
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr size_t kReservedOffset = 464;  // sw_reserved of struct _fpstate
constexpr uint64_t kFpXstate = 1, kSigcontextSs = 2, kStrictRestoreSs = 4;

struct SwBytes {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t state_size, pad[7];
};
static_assert(sizeof(SwBytes) == 48);

}  // namespace

uint64_t MarkedXStateSize() { return XStateSize() + sizeof(kMagic2); }

// fpu__alloc_mathframe and get_sigframe of arch/x86/kernel.
FrameLayout::FrameLayout(uint64_t slot) : slot_address(slot) {
  auto place = [](uint64_t end, uint64_t& frame, uint64_t& fpstate) {
    fpstate = (end - MarkedXStateSize()) & ~uint64_t{63};
    frame = ((fpstate - sizeof(HostFrame)) & ~uint64_t{15}) - 8;
  };
  constexpr uint64_t kRedZone = 128;
  place(kSlotBytes, frame, fpstate);
  constexpr uint64_t kMiddle = kSlotBytes / 2;
  const bool fits = frame >= kMiddle + kRedZone && kMiddle - kWordsEnd >= MarkedXStateSize() + sizeof(HostFrame) + 96;
  stack = fits ? kMiddle : kWordsEnd;
  if (fits) place(kMiddle, call_frame, call_fpstate);
}

void InitFrame(HostFrame& frame, const FrameLayout& layout) {
  frame = {};
  frame.flags = kFpXstate | kSigcontextSs | kStrictRestoreSs;
  frame.stack_address = layout.slot_address + layout.stack;
  frame.stack_bytes = kSlotBytes - layout.stack;
  // Signals that anybody may send to a process of theirs are not for guests.
  frame.mask = ~uint64_t{0};
  for (int signal : kStubSignals) frame.mask &= ~(uint64_t{1} << (signal - 1));
  frame.context.fpstate = layout.slot_address + layout.fpstate;
}

void ToRegisters(const HostSigcontext& from, Registers& to) {
  to.r15 = from.r15, to.r14 = from.r14, to.r13 = from.r13, to.r12 = from.r12;
  to.rbp = from.rbp, to.rbx = from.rbx, to.r11 = from.r11, to.r10 = from.r10;
  to.r9 = from.r9, to.r8 = from.r8, to.rax = from.rax, to.rcx = from.rcx;
  to.rdx = from.rdx, to.rsi = from.rsi, to.rdi = from.rdi, to.rip = from.rip;
  to.cs = from.cs, to.rflags = from.eflags, to.rsp = from.rsp, to.ss = from.ss;
}

void FromRegisters(const Registers& from, HostSigcontext& to) {
  to.r15 = from.r15, to.r14 = from.r14, to.r13 = from.r13, to.r12 = from.r12;
  to.rbp = from.rbp, to.rbx = from.rbx, to.r11 = from.r11, to.r10 = from.r10;
  to.r9 = from.r9, to.r8 = from.r8, to.rax = from.rax, to.rcx = from.rcx;
  to.rdx = from.rdx, to.rsi = from.rsi, to.rdi = from.rdi, to.rip = from.rip;
  to.eflags = from.rflags, to.rsp = from.rsp;
  to.cs = static_cast<uint16_t>(from.cs), to.ss = static_cast<uint16_t>(from.ss);
  to.gs = to.fs = 0;
}

void MarkXState(std::byte* area) {
  SwBytes sw = {};
  sw.magic1 = kMagic1;
  sw.extended_size = static_cast<uint32_t>(MarkedXStateSize());
  sw.features = XStateFeatures();
  sw.state_size = XStateSize();
  memcpy(area + kReservedOffset, &sw, sizeof(sw));
  memcpy(area + XStateSize(), &kMagic2, sizeof(kMagic2));
}

}  // namespace platform::systrap
