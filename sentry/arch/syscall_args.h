// Where the amd64 system call ABI keeps its arguments (man 2 syscall).
#ifndef SENTRY_ARCH_SYSCALL_ARGS_H_
#define SENTRY_ARCH_SYSCALL_ARGS_H_

#include <array>

#include "platform/registers.h"

namespace sentry::arch {

inline constexpr uint32_t kAuditArch = 0xc000003e;  // AUDIT_ARCH_X86_64
inline constexpr uint64_t kSyscallInstructionBytes = 2;

inline uint64_t SyscallNumber(const platform::Registers& r) { return r.orig_rax; }
inline std::array<uint64_t, 6> SyscallArgs(const platform::Registers& r) {
  return {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
}
inline void SetSyscallReturn(platform::Registers& r, int64_t value) { r.rax = static_cast<uint64_t>(value); }
// Back to the instruction, with the number in rax again (arch_do_signal_or_restart).
inline void RestartSyscall(platform::Registers& r) {
  r.rax = r.orig_rax;
  r.rip -= kSyscallInstructionBytes;
}

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_SYSCALL_ARGS_H_
