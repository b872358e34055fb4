// The host system calls that the platform makes after ptrace::New besides the common ones, for the sentry's filter.
// Stubs have no need of more: their own calls are made under the same filter or none.
#ifndef PLATFORM_PTRACE_HOST_CALLS_H_
#define PLATFORM_PTRACE_HOST_CALLS_H_

#include <sys/syscall.h>

#include "platform/host_calls.h"

namespace platform::ptrace {

inline constexpr HostCall kHostCalls[] = {
    {SYS_ptrace, "tracing of the stubs"},
    {SYS_wait4, "statuses of the stubs, and reaping"},
    {SYS_waitid, "whether the first zygote has ended early"},
    {SYS_tgkill, "interrupts a guest thread; ends an executor's wait"},
    {SYS_kill, "SIGKILL for a stub that is not needed any more"},
    {SYS_getpid, "our own id for tgkill"},
    {SYS_sched_setaffinity, "keeps a guest thread on its executor's CPU, or lets it go"},
    {SYS_setpriority, "guest threads below executors"},
    {SYS_futex, "an executor without guest threads waits"},
    {SYS_clock_gettime, "where the vDSO has no clock"},
    {SYS_restart_syscall, "a futex wait that a kick interrupted"},
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_HOST_CALLS_H_
