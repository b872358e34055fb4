// Who may look into another process, or control it. (man 2 ptrace, "Ptrace access mode checking";
// kernel/ptrace.c __ptrace_may_access, security/commoncap.c)
#ifndef SENTRY_KERNEL_PTRACE_ACCESS_H_
#define SENTRY_KERNEL_PTRACE_ACCESS_H_

#include "base/errno.h"
#include "sentry/vfs/credentials.h"

namespace sentry {

class Task;

// PTRACE_MODE_*_REALCREDS: the real ids and permitted capabilities of `caller`, which is the calling task, count.
// Reading and attaching have the same rule here (Yama is absent). EPERM. TaskSet::mu not held.
base::Result<void> CheckPtraceAccess(const Task& caller, const Task& target);

}  // namespace sentry

#endif  // SENTRY_KERNEL_PTRACE_ACCESS_H_
