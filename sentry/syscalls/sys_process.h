// Processes and threads: fork, exec, exit, wait, ids, sessions, limits, prctl.
#ifndef SENTRY_SYSCALLS_SYS_PROCESS_H_
#define SENTRY_SYSCALLS_SYS_PROCESS_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int> SysFork(Task& task);
Result<int> SysVfork(Task& task);
Result<int> SysClone(Task& task, uint64_t flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid, uint64_t tls);
Result<int> SysClone3(Task& task, UserPtr<abi::CloneArgs> args, uint64_t size);
Result<void> SysExecve(Task& task, UserPath path, UserPtr<uint64_t> argv, UserPtr<uint64_t> envp);
Result<void> SysExecveat(Task& task, FdArg dirfd, UserPath path, UserPtr<uint64_t> argv, UserPtr<uint64_t> envp,
                         int flags);
Result<void> SysExit(Task& task, int status);
Result<void> SysExitGroup(Task& task, int status);
Result<int> SysWait4(Task& task, int pid, UserPtr<int32_t> status, int options, UserPtr<abi::Rusage> usage);
Result<void> SysWaitid(Task& task, int which, int id, UserPtr<abi::Siginfo> info, int options,
                       UserPtr<abi::Rusage> usage);
Result<int> SysGetpid(Task& task);
Result<int> SysGettid(Task& task);
Result<int> SysGetppid(Task& task);
Result<int> SysGetpgrp(Task& task);
Result<int> SysGetpgid(Task& task, int pid);
Result<void> SysSetpgid(Task& task, int pid, int pgid);
Result<int> SysGetsid(Task& task, int pid);
Result<int> SysSetsid(Task& task);
Result<int> SysSetTidAddress(Task& task, uint64_t addr);
Result<void> SysUnshare(Task& task, uint64_t flags);
Result<void> SysGetrlimit(Task& task, uint32_t resource, UserPtr<abi::Rlimit> out);
Result<void> SysSetrlimit(Task& task, uint32_t resource, UserPtr<abi::Rlimit> in);
Result<void> SysPrlimit64(Task& task, int pid, uint32_t resource, UserPtr<abi::Rlimit> in, UserPtr<abi::Rlimit> out);
Result<void> SysGetrusage(Task& task, int who, UserPtr<abi::Rusage> out);
Result<int64_t> SysTimes(Task& task, UserPtr<int64_t> out);
Result<int64_t> SysPrctl(Task& task, int option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);
Result<int64_t> SysArchPrctl(Task& task, int code, uint64_t addr);
Result<int64_t> SysPersonality(Task& task, uint32_t persona);
Result<int> SysPidfdOpen(Task& task, int pid, uint32_t flags);

abi::Rusage ToRusage(const Usage& usage);

inline constexpr Row kProcessRows[] = {
    SYSCALL(fork, SysFork),
    SYSCALL(vfork, SysVfork),
    SYSCALL_PARTIAL(clone, SysClone, "user, network and cgroup namespaces cannot be made inside"),
    SYSCALL_PARTIAL(clone3, SysClone3, "user, network and cgroup namespaces cannot be made inside"),
    SYSCALL(execve, SysExecve),
    SYSCALL(execveat, SysExecveat),
    SYSCALL(exit, SysExit),
    SYSCALL(exit_group, SysExitGroup),
    SYSCALL(wait4, SysWait4),
    SYSCALL(waitid, SysWaitid),
    SYSCALL(getpid, SysGetpid),
    SYSCALL(gettid, SysGettid),
    SYSCALL(getppid, SysGetppid),
    SYSCALL(getpgrp, SysGetpgrp),
    SYSCALL(getpgid, SysGetpgid),
    SYSCALL(setpgid, SysSetpgid),
    SYSCALL(getsid, SysGetsid),
    SYSCALL(setsid, SysSetsid),
    SYSCALL(set_tid_address, SysSetTidAddress),
    SYSCALL_PARTIAL(unshare, SysUnshare, "files, fs, mount, IPC and UTS namespaces only"),
    SYSCALL(getrlimit, SysGetrlimit),
    SYSCALL(setrlimit, SysSetrlimit),
    SYSCALL(prlimit64, SysPrlimit64),
    SYSCALL(getrusage, SysGetrusage),
    SYSCALL(times, SysTimes),
    SYSCALL_PARTIAL(prctl, SysPrctl, "options that need what the sandbox does not have fail with EINVAL"),
    SYSCALL_PARTIAL(arch_prctl, SysArchPrctl, "CPUID faulting and shadow stacks are not offered"),
    SYSCALL_PARTIAL(personality, SysPersonality, "kept and shown; only ADDR_NO_RANDOMIZE has an effect"),
    SYSCALL(pidfd_open, SysPidfdOpen),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_PROCESS_H_
