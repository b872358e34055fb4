// ptrace(2): requests and their arguments. What they do is in kernel/tracee.h.
#ifndef SENTRY_SYSCALLS_SYS_PTRACE_H_
#define SENTRY_SYSCALLS_SYS_PTRACE_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int64_t> SysPtrace(Task& task, int64_t request, int64_t pid, uint64_t addr, uint64_t data);

inline constexpr Row kPtraceRows[] = {
    SYSCALL_PARTIAL(ptrace, SysPtrace, "no hardware breakpoints, no PTRACE_SINGLEBLOCK, no 32-bit code"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_PTRACE_H_
