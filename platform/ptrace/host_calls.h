// The host system calls that the platform makes after ptrace::New, for the sentry's filter. Stubs have no need of more:
// their own calls are made under the same filter or none.
#ifndef PLATFORM_PTRACE_HOST_CALLS_H_
#define PLATFORM_PTRACE_HOST_CALLS_H_

#include <sys/syscall.h>

#include "platform/memory_file.h"

namespace platform::ptrace {

struct HostCall {
  int number;
  const char* reason;
};

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
    {SYS_rt_sigreturn, "end of the kick's handler"},
    {SYS_rt_sigprocmask, "an executor that starts unblocks the kick"},
    {SYS_timer_create, "the scheduling tick of an executor that starts"},
    {SYS_timer_settime, "the scheduling tick"},
    {SYS_timer_delete, "the scheduling tick of an executor that ends"},
    {SYS_gettid, "an executor that starts"},
    {SYS_clock_gettime, "where the vDSO has no clock"},
    {SYS_restart_syscall, "a futex wait that a kick interrupted"},
    // The memory file (platform/memory_file.h).
    {SYS_mmap, "windows of the memory file"},
    {SYS_munmap, "windows that lost a race"},
    {SYS_fallocate, "gives pages back"},
    {SYS_fstat, "its usage"},
    {SYS_lseek, "which pages exist"},
    {MemoryFile::kSysCachestat, "whether all of them do"},
    {SYS_pwrite64, "copies pages"},
};

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_HOST_CALLS_H_
