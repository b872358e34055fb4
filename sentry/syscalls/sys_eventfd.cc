#include "sentry/syscalls/sys_eventfd.h"

#include <sys/eventfd.h>

#include "sentry/fs/anon/eventfd.h"

namespace sentry {

Result<Fd> SysEventfd(Task& task, uint32_t initial) { return SysEventfd2(task, initial, 0); }

Result<Fd> SysEventfd2(Task& task, uint32_t initial, uint32_t flags) {
  if ((flags & ~uint32_t{EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE}) != 0) return Errno(EINVAL);
  auto file = TRY(base::TryMakeRef<EventFd>(initial, (flags & EFD_SEMAPHORE) != 0, flags & EFD_NONBLOCK));
  return task.InstallFile(std::move(file), (flags & EFD_CLOEXEC) != 0);
}

}  // namespace sentry
