// What the platforms' lists of host system calls (host_calls.h in their folders) have in common. The lists are for the
// sentry's filter; each names what its platform calls once the filter is installed.
#ifndef PLATFORM_HOST_CALLS_H_
#define PLATFORM_HOST_CALLS_H_

#include <sys/syscall.h>

#include "platform/memory_file.h"

namespace platform {

struct HostCall {
  int number;
  const char* reason;
};

inline constexpr HostCall kCommonHostCalls[] = {
    // The memory file.
    {SYS_mmap, "windows of the memory file; on KVM of donated files, too"},
    {SYS_munmap, "windows that lost a race"},
    {SYS_fallocate, "gives pages back"},
    {SYS_fstat, "its usage; on KVM which file a descriptor is, and how long"},
    {SYS_lseek, "which pages exist"},
    {MemoryFile::kSysCachestat, "whether all of them do"},
    {SYS_pwrite64, "copies pages"},
    // Executors that start and end.
    {SYS_gettid, "an executor that starts"},
    {SYS_timer_create, "the scheduling tick of an executor that starts"},
    {SYS_timer_settime, "the scheduling tick"},
    {SYS_timer_delete, "the scheduling tick of an executor that ends"},
    {SYS_rt_sigprocmask, "an executor that starts unblocks its kick or tick"},
    {SYS_rt_sigreturn, "the end of their handlers"},
};

}  // namespace platform

#endif  // PLATFORM_HOST_CALLS_H_
