#include "base/unique_fd.h"

#include <fcntl.h>

#include "base/syscall_unsafe.h"

namespace base {

void UniqueFd::reset(int fd) {
  int old = std::exchange(fd_, fd);
  // Not retried on EINTR: Linux has released the descriptor by then (man 2 close).
  if (old >= 0 && old != fd) RawSyscall(SYS_close, old);
}

UniqueFd UniqueFd::Duplicate() const {
  if (fd_ < 0) return UniqueFd();
  long fd = RawSyscall(SYS_fcntl, fd_, F_DUPFD_CLOEXEC, 0);
  return fd < 0 ? UniqueFd() : UniqueFd(static_cast<int>(fd));
}

}  // namespace base
