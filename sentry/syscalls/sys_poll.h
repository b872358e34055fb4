// poll(2), ppoll(2), select(2), pselect(2).
#ifndef SENTRY_SYSCALLS_SYS_POLL_H_
#define SENTRY_SYSCALLS_SYS_POLL_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

namespace sentry {

namespace abi {
struct SigsetArgument {  // pselect6's last argument
  uint64_t set, size;
};
}  // namespace abi

Result<int> SysPoll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, int32_t timeout_ms);
Result<int> SysPpoll(Task& task, UserPtr<abi::Pollfd> fds, uint32_t count, UserPtr<abi::Timespec> timeout,
                     UserPtr<uint64_t> mask, size_t mask_size);
Result<int> SysSelect(Task& task, int32_t count, UserPtr<uint64_t> in, UserPtr<uint64_t> out, UserPtr<uint64_t> except,
                      UserPtr<abi::Timeval> timeout);
Result<int> SysPselect6(Task& task, int32_t count, UserPtr<uint64_t> in, UserPtr<uint64_t> out,
                        UserPtr<uint64_t> except, UserPtr<abi::Timespec> timeout, UserPtr<abi::SigsetArgument> mask);

// ppoll, pselect6, epoll_pwait: the signal mask for the duration of the call. EINVAL for a wrong size, EFAULT.
Result<void> SetMaskForCall(Task& task, UserPtr<uint64_t> mask, size_t mask_size);

inline constexpr Row kPollRows[] = {
    SYSCALL(poll, SysPoll),
    SYSCALL(ppoll, SysPpoll),
    SYSCALL(select, SysSelect),
    SYSCALL(pselect6, SysPselect6),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_POLL_H_
