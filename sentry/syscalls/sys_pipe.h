// pipe(2).
#ifndef SENTRY_SYSCALLS_SYS_PIPE_H_
#define SENTRY_SYSCALLS_SYS_PIPE_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<void> SysPipe(Task& task, UserPtr<int32_t> fds);
Result<void> SysPipe2(Task& task, UserPtr<int32_t> fds, uint32_t flags);

inline constexpr Row kPipeRows[] = {
    SYSCALL(pipe, SysPipe),
    SYSCALL_PARTIAL(pipe2, SysPipe2, "no notification pipes (O_NOTIFICATION_PIPE)"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_PIPE_H_
