// The amd64 signal frame: what a handler finds on its stack, and what rt_sigreturn takes from there. (arch/x86/kernel/signal_64.c,
// arch/x86/include/uapi/asm/sigcontext.h)
#ifndef SENTRY_KERNEL_SIGNAL_FRAME_H_
#define SENTRY_KERNEL_SIGNAL_FRAME_H_

#include <cstddef>
#include <span>
#include <vector>

#include "platform/registers.h"
#include "sentry/abi/types.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

struct SignalFrameArgs {
  abi::Siginfo info;
  abi::KSigaction action;
  abi::StackT altstack;  // of the task, for SA_ONSTACK and uc_stack
  uint64_t mask = 0;     // to be restored by rt_sigreturn
};

// Pushes a frame and makes `regs` those with which the handler starts. EFAULT if the stack takes none; regs are unchanged then.
Result<void> PushSignalFrame(UserMemory& memory, platform::Registers& regs, std::span<const std::byte> xstate,
                             const SignalFrameArgs& args);

struct RestoredFrame {
  platform::Registers registers;
  std::vector<std::byte> xstate;  // sanitized; the initial state if the frame has none
  uint64_t mask = 0;
  abi::StackT altstack{};
};
// Reads the frame at regs.rsp − 8. Everything in it is the guest's: sanitized. EFAULT, EINVAL.
Result<RestoredFrame> PopSignalFrame(UserMemory& memory, const platform::Registers& regs);

}  // namespace sentry

#endif  // SENTRY_KERNEL_SIGNAL_FRAME_H_
