#include "sentry/syscalls/sys_signalfd.h"

#include <sys/signalfd.h>

#include "sentry/fs/anon/signalfd.h"

namespace sentry {

Result<Fd> SysSignalfd(Task& task, FdArg fd, UserPtr<uint64_t> mask, size_t mask_size) {
  return SysSignalfd4(task, fd, mask, mask_size, 0);
}

Result<Fd> SysSignalfd4(Task& task, FdArg fd, UserPtr<uint64_t> mask, size_t mask_size, uint32_t flags) {
  if (mask_size != sizeof(uint64_t)) return Errno(EINVAL);
  SignalSet set(TRY(task.mm().Read(mask)));
  if ((flags & ~uint32_t{SFD_CLOEXEC | SFD_NONBLOCK}) != 0) return Errno(EINVAL);
  if (Fd(fd) == -1) {
    return task.InstallFile(TRY(base::TryMakeRef<SignalFd>(set, flags & SFD_NONBLOCK)), (flags & SFD_CLOEXEC) != 0);
  }
  auto file = TRY(task.GetFile(Fd(fd)));
  auto* signalfd = dynamic_cast<SignalFd*>(file.get());
  if (signalfd == nullptr) return Errno(EINVAL);
  signalfd->SetMask(set);
  return Fd(fd);
}

}  // namespace sentry
