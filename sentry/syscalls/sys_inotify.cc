#include "sentry/syscalls/sys_inotify.h"

#include <sys/inotify.h>

#include "sentry/fs/anon/inotify.h"
#include "sentry/syscalls/path_args.h"

namespace sentry {
namespace {

constexpr uint32_t kKnownBits = IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR | IN_DONT_FOLLOW |
                                IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD | IN_ISDIR | IN_ONESHOT;

Result<RefPtr<InotifyFile>> GetInotify(Task& task, FdArg fd) {
  RefPtr<FileDescription> file = TRY(task.GetFile(Fd(fd)));
  auto* inotify = dynamic_cast<InotifyFile*>(file.get());
  if (inotify == nullptr) return Errno(EINVAL);
  return RefPtr<InotifyFile>(inotify);
}

}  // namespace

Result<Fd> SysInotifyInit(Task& task) { return SysInotifyInit1(task, 0); }

Result<Fd> SysInotifyInit1(Task& task, uint32_t flags) {
  if ((flags & ~uint32_t{IN_CLOEXEC | IN_NONBLOCK}) != 0) return Errno(EINVAL);
  return task.InstallFile(TRY(base::TryMakeRef<InotifyFile>(flags & IN_NONBLOCK)), (flags & IN_CLOEXEC) != 0);
}

Result<int> SysInotifyAddWatch(Task& task, FdArg fd, UserPath path, uint32_t mask) {
  if ((mask & kKnownBits) == 0) return Errno(EINVAL);
  if ((mask & IN_MASK_ADD) != 0 && (mask & IN_MASK_CREATE) != 0) return Errno(EINVAL);
  RefPtr<InotifyFile> inotify = TRY(GetInotify(task, fd));
  uint32_t walk = 0;
  if ((mask & IN_DONT_FOLLOW) == 0) walk |= WalkBits(WalkFlag::kFollow);
  if ((mask & IN_ONLYDIR) != 0) walk |= WalkBits(WalkFlag::kDirectory);
  ResolvedPath at = TRY(ResolvePath(task, AT_FDCWD, path, walk));
  return inotify->AddWatch(at.ctx, at.path, mask);
}

Result<void> SysInotifyRmWatch(Task& task, FdArg fd, int32_t wd) { return TRY(GetInotify(task, fd))->RemoveWatch(wd); }

}  // namespace sentry
