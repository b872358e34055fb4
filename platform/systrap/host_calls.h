// The host system calls that the platform makes after systrap::New besides the common ones, for the sentry's filter.
// Stubs have filters of their own (stub_filter.h): the zygote is cloned before the sentry's is installed.
#ifndef PLATFORM_SYSTRAP_HOST_CALLS_H_
#define PLATFORM_SYSTRAP_HOST_CALLS_H_

#include <sys/syscall.h>

#include "platform/host_calls.h"

namespace platform::systrap {

inline constexpr HostCall kHostCalls[] = {
    {SYS_read, "an executor waits for its bell; the answer of a helper"},
    {SYS_ppoll, "waits for a helper, bounded"},
    {SYS_write, "ends an executor's wait"},
    {SYS_futex, "wakes a guest thread or a helper"},
    {SYS_tgkill, "interrupts a guest thread"},
    {SYS_kill, "SIGKILL for a guest thread or a helper that is not needed any more"},
    {SYS_wait4, "reaps them"},
    {SYS_waitid, "whether a helper or a guest thread that is silent still lives"},
    {SYS_sched_setaffinity, "keeps a guest thread on its executor's CPU, or lets it go"},
    {SYS_sched_setattr, "guest threads below executors; short slices for those that make calls"},
    {SYS_sched_yield, "hands the CPU to a guest thread"},
    {SYS_clock_gettime, "where the vDSO has no clock; the CPU time of a guest thread"},
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_HOST_CALLS_H_
