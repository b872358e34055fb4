// The host system calls that base and the C library under it make once the Scheduler runs, for the sentry's filter.
// Scheduler's constructor itself runs before the filter and needs more.
#ifndef BASE_HOST_CALLS_H_
#define BASE_HOST_CALLS_H_

#include <sys/syscall.h>

namespace base {

struct HostCall {
  int number;
  const char* reason;
};

inline constexpr HostCall kHostCalls[] = {
    {SYS_futex, "executors, workers and contended mutexes sleep"},
    {SYS_epoll_wait, "the reactor waits"},
    {SYS_epoll_ctl, "a host descriptor is watched, or no more"},
    {SYS_timerfd_settime, "the reactor's next deadline"},
    {SYS_read, "the reactor's timer has expired"},
    {SYS_write, "log lines; the end of the reactor"},
    {SYS_close, "UniqueFd"},
    {SYS_fcntl, "UniqueFd::Duplicate"},
    {SYS_mmap, "stacks of fibers and workers, the allocator"},
    {SYS_munmap, "stacks, the allocator"},
    {SYS_mprotect, "guard pages of stacks, the allocator"},
    {SYS_madvise, "memory of stacks is given back"},
    {SYS_mremap, "the allocator grows a large block"},
    {SYS_brk, "the allocator"},
    {SYS_getrandom, "the allocator's per-thread cache seeds its key"},
    {SYS_clone, "a worker starts, with the flags of pthread_create"},
    {SYS_clone3, "the same; may be answered with ENOSYS, then glibc takes clone, whose flags a filter can see"},
    {SYS_set_robust_list, "a worker starts"},
    {SYS_rseq, "a worker starts"},
    {SYS_prctl, "PR_SET_NAME: a worker's name"},
    {SYS_rt_sigprocmask, "a worker starts with signals blocked"},
    {SYS_gettid, "is this the reactor's thread?"},
    {SYS_sigaltstack, "an executor ends"},
    {SYS_sched_yield, "the destructors wait for threads that end"},
    {SYS_exit, "a thread ends"},
    {SYS_exit_group, "the process ends"},
    {SYS_rt_sigreturn, "end of the fault handler"},
    {SYS_rt_sigaction, "a fault that is fatal goes to the default; abort"},
    {SYS_tgkill, "abort"},
    {SYS_getpid, "abort"},
    {SYS_clock_gettime, "where the vDSO has no clock"},
    {SYS_restart_syscall, "a futex wait with a deadline that was stopped and continued"},
};

}  // namespace base

#endif  // BASE_HOST_CALLS_H_
