// The general registers of a guest thread on amd64, laid out as the host's user_regs_struct (sys/user.h) so that a
// platform that gets them from ptrace copies nothing.
#ifndef PLATFORM_REGISTERS_H_
#define PLATFORM_REGISTERS_H_

#include <cstdint>

namespace platform {

struct Registers {
  uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
  uint64_t orig_rax;  // number of the system call after an exit for one; otherwise meaningless
  uint64_t rip, cs, rflags, rsp, ss;
  uint64_t fs_base, gs_base;
  uint64_t ds, es, fs, gs;
};
static_assert(sizeof(Registers) == 27 * 8);

// Makes registers that came from a guest (sigreturn, ptrace) safe to resume with: user-mode selectors, only the flags
// that user mode may set, canonical addresses for fs_base, gs_base. rip may be anything: the guest faults.
void SanitizeRegisters(Registers& regs);

// Bytes of the host's XSAVE area for the features that the sandbox shows to guests (CPUID leaf 0xD); 64-byte alignment.
uint32_t XStateSize();
// The features in XCR0 that guests see.
uint64_t XStateFeatures();
// Fills `area` (XStateSize bytes) with the state a new program starts with (FCW 0x37f, MXCSR 0x1f80).
void InitXState(void* area);
// True if the area is one that XRSTOR takes in the standard format; corrects what a guest may not set (reserved MXCSR
// bits, unknown features) and returns false when it cannot. `bytes` is what the guest gave.
bool SanitizeXState(void* area, uint32_t bytes);

}  // namespace platform

#endif  // PLATFORM_REGISTERS_H_
