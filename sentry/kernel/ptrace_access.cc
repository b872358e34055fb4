#include "sentry/kernel/ptrace_access.h"

#include "sentry/kernel/task.h"

namespace sentry {

base::Result<void> CheckPtraceAccess(const Task& caller, const Task& target) {
  if (&caller.thread_group() == &target.thread_group()) return {};
  CredentialsRef theirs = target.SnapshotCreds();
  const Credentials& mine = caller.creds();
  const bool capable = mine.Capable(CAP_SYS_PTRACE);
  const bool same = mine.ruid == theirs->euid && mine.ruid == theirs->suid && mine.ruid == theirs->ruid &&
                    mine.rgid == theirs->egid && mine.rgid == theirs->sgid && mine.rgid == theirs->rgid;
  if (!same && !capable) return Errno(EPERM);
  RefPtr<MemoryManager> mm = target.SnapshotMm();
  if (mm && mm->dumpable.load(std::memory_order_relaxed) != 1 && !capable) return Errno(EPERM);
  // cap_ptrace_access_check.
  if ((theirs->permitted & ~mine.permitted) != 0 && !capable) return Errno(EPERM);
  return {};
}

}  // namespace sentry
