// The host's signal frame of amd64 (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h) at its canonical place: the
// top of a slot, where the host puts it as long as the guest leaves the alternate stack alone.
#ifndef PLATFORM_SYSTRAP_SIGNAL_FRAME_H_
#define PLATFORM_SYSTRAP_SIGNAL_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "platform/registers.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {

struct HostSigcontext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};

struct HostSiginfo {
  int32_t signo, error, code, pad;
  uint64_t address;  // of a fault; the instruction after a system call
  int32_t syscall;   // SIGSYS
  uint32_t arch;     // SIGSYS
  uint8_t rest[96];
};
static_assert(sizeof(HostSiginfo) == 128);

struct HostFrame {
  uint64_t restorer;
  uint64_t flags, link;
  uint64_t stack_address;
  uint32_t stack_flags, stack_pad;
  uint64_t stack_bytes;
  HostSigcontext context;
  uint64_t mask;
  HostSiginfo info;
};
static_assert(sizeof(HostFrame) == 440 && offsetof(HostFrame, context) == 48);

// Where things are in the slot at `address` of a stub: offsets in the slot.
struct FrameLayout {
  explicit FrameLayout(uint64_t slot_address);
  uint64_t slot_address;
  // The alternate stack, from here to the end of the slot.
  uint64_t stack;
  // The frame that the host puts there for a signal, and its vector state.
  uint64_t frame;
  uint64_t fpstate;
  // Below the stack, where no signal reaches: the same for a thread that waits after a call through the entry, where
  // signals are not blocked. 0 if the slot is too small for both.
  uint64_t call_frame = 0;
  uint64_t call_fpstate = 0;
  bool has_call_frame() const { return call_frame != 0; }
  // The words of the handoff end here.
  static constexpr uint64_t kWordsEnd = 512;
};

// Writes what does not change from event to event: the alternate stack, the mask of blocked signals.
void InitFrame(HostFrame& frame, const FrameLayout& layout);
// The registers that a frame has; fs_base and gs_base are elsewhere.
void ToRegisters(const HostSigcontext& from, Registers& to);
void FromRegisters(const Registers& from, HostSigcontext& to);
// Makes an XSAVE area one that the host restores: `area` is followed by what marks its end.
void MarkXState(std::byte* area);
// Bytes with the mark.
uint64_t MarkedXStateSize();

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SIGNAL_FRAME_H_
