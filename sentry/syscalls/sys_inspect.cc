#include "sentry/syscalls/sys_inspect.h"

#include "absl/hash/hash.h"
#include "sentry/fs/anon/pidfd.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace_access.h"

namespace sentry {

// man 2 pidfd_getfd: PTRACE_MODE_ATTACH_REALCREDS.
Result<Fd> SysPidfdGetfd(Task& task, FdArg pidfd, int target_fd, uint32_t flags) {
  if (flags != 0) return Errno(EINVAL);
  RefPtr<FileDescription> file = TRY(task.GetFile(static_cast<Fd>(pidfd)));
  RefPtr<ThreadGroup> group = TRY(PidFdTarget(*file));
  RefPtr<Task> target;
  {
    base::MutexLock tree(task.kernel().tasks().mu);
    if (group->leader == nullptr) return Errno(ESRCH);
    target = RefPtr<Task>(group->leader);
  }
  TRY(CheckPtraceAccess(task, *target));
  RefPtr<FdTable> fds = target->SnapshotFds();
  if (!fds) return Errno(ESRCH);
  RefPtr<FileDescription> found = TRY(fds->Get(target_fd, /*allow_path=*/true));
  return task.InstallFile(std::move(found), /*cloexec=*/true);
}

Result<int> SysKcmp(Task& task, int pid1, int pid2, int type, uint64_t index1, uint64_t index2) {
  enum { kFile, kVm, kFiles, kFs, kSighand, kIo, kSysvSem, kEpollTfd };
  RefPtr<Task> a = task.kernel().FindTask(pid1, task.pid_namespace());
  RefPtr<Task> b = task.kernel().FindTask(pid2, task.pid_namespace());
  if (!a || !b) return Errno(ESRCH);
  TRY(CheckPtraceAccess(task, *a));
  TRY(CheckPtraceAccess(task, *b));
  const auto compare = [](const void* x, const void* y) {
    if (x == y) return 0;
    // An order that sorts, and says nothing about addresses (kernel: kptr_obfuscate).
    return absl::HashOf(x) < absl::HashOf(y) ? 1 : 2;
  };
  switch (type) {
    case kFile: {
      RefPtr<FdTable> fds_a = a->SnapshotFds(), fds_b = b->SnapshotFds();
      if (!fds_a || !fds_b || index1 > INT32_MAX || index2 > INT32_MAX) return Errno(EBADF);
      RefPtr<FileDescription> x = TRY(fds_a->Get(static_cast<Fd>(index1), /*allow_path=*/true));
      RefPtr<FileDescription> y = TRY(fds_b->Get(static_cast<Fd>(index2), /*allow_path=*/true));
      return compare(x.get(), y.get());
    }
    case kVm: {
      RefPtr<MemoryManager> x = a->SnapshotMm(), y = b->SnapshotMm();
      return compare(x.get(), y.get());
    }
    case kFiles: {
      RefPtr<FdTable> x = a->SnapshotFds(), y = b->SnapshotFds();
      return compare(x.get(), y.get());
    }
    case kFs: {
      RefPtr<FsContext> x = a->SnapshotFs(), y = b->SnapshotFs();
      return compare(x.get(), y.get());
    }
    case kSighand: {
      base::MutexLock tree(task.kernel().tasks().mu);
      return compare(a->thread_group().handlers.get(), b->thread_group().handlers.get());
    }
    case kIo:
    case kSysvSem:
    case kEpollTfd:
      return Errno(EOPNOTSUPP);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry
