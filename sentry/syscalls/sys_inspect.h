// Into another process without stopping it: its descriptors, and what it shares with a third. (process_vm_readv is in
// sys_mm.h, ptrace in sys_ptrace.h)
#ifndef SENTRY_SYSCALLS_SYS_INSPECT_H_
#define SENTRY_SYSCALLS_SYS_INSPECT_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysPidfdGetfd(Task& task, FdArg pidfd, int target_fd, uint32_t flags);
Result<int> SysKcmp(Task& task, int pid1, int pid2, int type, uint64_t index1, uint64_t index2);

inline constexpr Row kInspectRows[] = {
    SYSCALL(pidfd_getfd, SysPidfdGetfd),
    SYSCALL_PARTIAL(kcmp, SysKcmp, "KCMP_IO, KCMP_SYSVSEM and KCMP_EPOLL_TFD fail with EOPNOTSUPP"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_INSPECT_H_
