// Signals.
#ifndef SENTRY_SYSCALLS_SYS_SIGNAL_H_
#define SENTRY_SYSCALLS_SYS_SIGNAL_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<void> SysRtSigaction(Task& task, int signo, UserPtr<abi::KSigaction> in, UserPtr<abi::KSigaction> out,
                            uint64_t size);
Result<void> SysRtSigprocmask(Task& task, int how, UserPtr<uint64_t> in, UserPtr<uint64_t> out, uint64_t size);
Result<void> SysRtSigpending(Task& task, UserPtr<uint64_t> out, uint64_t size);
Result<void> SysRtSigsuspend(Task& task, UserPtr<uint64_t> mask, uint64_t size);
Result<int> SysRtSigtimedwait(Task& task, UserPtr<uint64_t> set, UserPtr<abi::Siginfo> info,
                              UserPtr<abi::Timespec> timeout, uint64_t size);
Result<void> SysRtSigqueueinfo(Task& task, int pid, int signo, UserPtr<abi::Siginfo> info);
Result<void> SysRtTgsigqueueinfo(Task& task, int tgid, int tid, int signo, UserPtr<abi::Siginfo> info);
Result<int64_t> SysRtSigreturn(Task& task);
Result<void> SysSigaltstack(Task& task, UserPtr<abi::StackT> in, UserPtr<abi::StackT> out);
Result<void> SysKill(Task& task, int pid, int signo);
Result<void> SysTkill(Task& task, int tid, int signo);
Result<void> SysTgkill(Task& task, int tgid, int tid, int signo);
Result<void> SysPidfdSendSignal(Task& task, FdArg pidfd, int signo, UserPtr<abi::Siginfo> info, uint32_t flags);
Result<void> SysPause(Task& task);
Result<int64_t> SysRestartSyscall(Task& task);

inline constexpr Row kSignalRows[] = {
    SYSCALL(rt_sigaction, SysRtSigaction),
    SYSCALL(rt_sigprocmask, SysRtSigprocmask),
    SYSCALL(rt_sigpending, SysRtSigpending),
    SYSCALL(rt_sigsuspend, SysRtSigsuspend),
    SYSCALL(rt_sigtimedwait, SysRtSigtimedwait),
    SYSCALL(rt_sigqueueinfo, SysRtSigqueueinfo),
    SYSCALL(rt_tgsigqueueinfo, SysRtTgsigqueueinfo),
    SYSCALL(rt_sigreturn, SysRtSigreturn),
    SYSCALL(sigaltstack, SysSigaltstack),
    SYSCALL(kill, SysKill),
    SYSCALL(tkill, SysTkill),
    SYSCALL(tgkill, SysTgkill),
    SYSCALL(pidfd_send_signal, SysPidfdSendSignal),
    SYSCALL(pause, SysPause),
    SYSCALL(restart_syscall, SysRestartSyscall),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SIGNAL_H_
