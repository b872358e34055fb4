// flock(2), and the lock commands of fcntl(2).
#ifndef SENTRY_SYSCALLS_SYS_LOCK_H_
#define SENTRY_SYSCALLS_SYS_LOCK_H_

#include "sentry/syscalls/table.h"

namespace sentry {

namespace abi {
struct Flock {  // struct flock of amd64
  int16_t l_type, l_whence;
  int32_t pad0;
  int64_t l_start, l_len;
  int32_t l_pid, pad1;
};
static_assert(sizeof(Flock) == 32);
}  // namespace abi

Result<void> SysFlock(Task& task, FdArg fd, uint32_t operation);
// F_GETLK, F_SETLK, F_SETLKW and the F_OFD_ forms.
Result<void> FcntlLock(Task& task, FileDescription& file, uint32_t command, UserPtr<abi::Flock> argument);

inline constexpr Row kLockRows[] = {
    SYSCALL(flock, SysFlock),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_LOCK_H_
