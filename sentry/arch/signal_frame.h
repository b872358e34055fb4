// The frame that a signal handler runs on, as amd64 Linux lays it out (arch/x86/kernel/signal_64.c,
// arch/x86/kernel/fpu/signal.c, include/uapi/asm/sigcontext.h). Programs unwind through it and edit it: every byte is
// ABI.
#ifndef SENTRY_ARCH_SIGNAL_FRAME_H_
#define SENTRY_ARCH_SIGNAL_FRAME_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "platform/registers.h"
#include "sentry/abi/types.h"
#include "sentry/mm/user_memory.h"

namespace sentry::arch {

struct SignalFrameArgs {
  abi::Siginfo info{};       // si_signo is the signal
  abi::KSigaction action{};  // handler, flags, restorer
  uint64_t mask = 0;         // what sigreturn restores
  abi::StackT altstack{};    // as set by sigaltstack(2); ss_flags may hold SS_DISABLE or SS_AUTODISARM
  // Of the fault that caused the signal, kept by Linux from the last one; 0 without.
  uint64_t trap_number = 0, error_code = 0, fault_address = 0;
};

// Writes the frame and makes `regs` those the handler starts with. `regs` are the interrupted ones, restart already
// arranged; `xstate` the interrupted XSAVE area. The caller then sets the context's XSTATE to the initial one
// (platform::InitXState), adds to the blocked set, and with SS_AUTODISARM in altstack.ss_flags disables the alternate
// stack. EFAULT: no room for the frame, or no restorer: the process gets SIGSEGV; nothing in `regs` was changed.
base::Result<void> PushSignalFrame(UserMemory& memory, platform::Registers& regs, std::span<const std::byte> xstate,
                                   const SignalFrameArgs& args);

struct RestoredFrame {
  platform::Registers registers{};  // sanitised; orig_rax −1, so that no system call is restarted
  uint64_t mask = 0;                // the caller removes SIGKILL and SIGSTOP
  abi::StackT altstack{};           // to be set as by sigaltstack(2), errors ignored
  std::vector<std::byte> xstate;    // XStateSize bytes, sanitised: for Context::SetXState
};
// rt_sigreturn(2): reads the frame that rsp points behind. Everything in it is a guest's. EFAULT: SIGSEGV.
base::Result<RestoredFrame> PopSignalFrame(UserMemory& memory, const platform::Registers& regs);

// Whether `sp` lies on the alternate stack (man 2 sigaltstack: EPERM for changing it, SS_ONSTACK).
bool OnAltStack(uint64_t sp, const abi::StackT& altstack);

// AT_MINSIGSTKSZ: the largest frame there can be, with the red zone left out as Linux does.
uint64_t MinSignalStackSize();

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_SIGNAL_FRAME_H_
