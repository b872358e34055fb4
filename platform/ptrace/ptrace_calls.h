// ptrace(2) as raw calls that return −errno. The one header that names its requests.
#ifndef PLATFORM_PTRACE_PTRACE_CALLS_H_
#define PLATFORM_PTRACE_PTRACE_CALLS_H_

#include <linux/elf.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/syscall_unsafe.h"
#include "platform/registers.h"

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif
#ifndef PTRACE_SYSEMU_SINGLESTEP
#define PTRACE_SYSEMU_SINGLESTEP 32
#endif

namespace platform::ptrace {

enum class Resume { kSystemCalls, kStep, kHost };

inline long PtraceCall(long request, pid_t tid, uint64_t address, const void* data) {
  return base::RawSyscall(SYS_ptrace, request, tid, static_cast<long>(address), reinterpret_cast<long>(data));
}

// SYSGOOD tells the stop of a system call from a SIGTRAP; EXITKILL: stubs die with the executor that traces them.
inline constexpr uint64_t kTraceOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

inline long Seize(pid_t tid) { return PtraceCall(PTRACE_SEIZE, tid, 0, reinterpret_cast<void*>(kTraceOptions)); }
inline long InterruptTracee(pid_t tid) { return PtraceCall(PTRACE_INTERRUPT, tid, 0, nullptr); }

// Continues a stopped tracee without the signal it stopped for. kHost: its system calls reach the host.
inline long Continue(pid_t tid, Resume how) {
  long request = how == Resume::kSystemCalls ? PTRACE_SYSEMU
                 : how == Resume::kStep      ? PTRACE_SYSEMU_SINGLESTEP
                                             : PTRACE_CONT;
  return PtraceCall(request, tid, 0, nullptr);
}

inline long GetRegisters(pid_t tid, Registers& regs) { return PtraceCall(PTRACE_GETREGS, tid, 0, &regs); }
inline long SetRegisters(pid_t tid, const Registers& regs) { return PtraceCall(PTRACE_SETREGS, tid, 0, &regs); }
inline long PokeUser(pid_t tid, size_t offset, uint64_t value) {
  return PtraceCall(PTRACE_POKEUSR, tid, offset, reinterpret_cast<void*>(value));
}
inline long GetSignalInfo(pid_t tid, siginfo_t& info) { return PtraceCall(PTRACE_GETSIGINFO, tid, 0, &info); }
// One word of the tracee's memory.
inline long PeekWord(pid_t tid, uint64_t address, uint64_t& word) {
  return PtraceCall(PTRACE_PEEKTEXT, tid, address, &word);
}
// The XSAVE area in the standard format; the size has to be the host's exactly when it is set. Returns bytes or −errno.
inline long GetXState(pid_t tid, void* area, size_t bytes) {
  iovec iov{area, bytes};
  long r = PtraceCall(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov);
  return r < 0 ? r : static_cast<long>(iov.iov_len);
}
inline long SetXState(pid_t tid, const void* area, size_t bytes) {
  iovec iov{const_cast<void*>(area), bytes};
  return PtraceCall(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &iov);
}

// Architecture of the system call at which the tracee stopped (AUDIT_ARCH_…), 0 if it is not at one.
inline uint32_t SystemCallArch(pid_t tid) {
  ptrace_syscall_info info{};
  long r = PtraceCall(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info);
  return r < 0 ? 0 : info.arch;
}

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_PTRACE_CALLS_H_
