// seccomp(2): a process gives up system calls.
#ifndef SENTRY_SYSCALLS_SYS_SECCOMP_H_
#define SENTRY_SYSCALLS_SYS_SECCOMP_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int64_t> SysSeccomp(Task& task, uint32_t operation, uint32_t flags, uint64_t args);
// prctl(PR_SET_SECCOMP, mode, program).
Result<int64_t> PrctlSetSeccomp(Task& task, uint64_t mode, uint64_t program);

inline constexpr Row kSeccompRows[] = {
    SYSCALL(seccomp, SysSeccomp),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SECCOMP_H_
