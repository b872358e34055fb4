#include "sentry/syscalls/sys_pipe.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "sentry/fs/pipe/pipe_file.h"
#include "sentry/syscalls/sys_fd.h"

namespace sentry {

Result<void> SysPipe(Task& task, UserPtr<int32_t> fds) { return SysPipe2(task, fds, 0); }

Result<void> SysPipe2(Task& task, UserPtr<int32_t> fds, uint32_t flags) {
  constexpr uint32_t kNotificationPipe = O_EXCL;
  if ((flags & ~uint32_t{O_CLOEXEC | O_NONBLOCK | O_DIRECT | kNotificationPipe}) != 0) return Errno(EINVAL);
  if ((flags & kNotificationPipe) != 0) return Errno(ENOPKG);
  auto [reader, writer] = TRY(NewPipe(flags, &task.creds()));
  Fd numbers[2];
  TRY(task.fds().InstallPair(reader, writer, (flags & O_CLOEXEC) != 0, task.thread_group().Limit(RLIMIT_NOFILE),
                             numbers));
  auto written = task.mm().WriteArray(fds, std::span<const int32_t>(numbers));
  if (!written.ok()) {
    for (Fd fd : numbers) {
      if (auto file = task.fds().Remove(fd); file.ok()) CloseDescription(task, *std::move(file));
    }
  }
  return written;
}

}  // namespace sentry
