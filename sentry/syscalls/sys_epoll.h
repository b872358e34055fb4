// epoll(7).
#ifndef SENTRY_SYSCALLS_SYS_EPOLL_H_
#define SENTRY_SYSCALLS_SYS_EPOLL_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

namespace sentry {

Result<Fd> SysEpollCreate(Task& task, int32_t size);
Result<Fd> SysEpollCreate1(Task& task, uint32_t flags);
Result<void> SysEpollCtl(Task& task, FdArg epoll, int32_t operation, FdArg fd, UserPtr<abi::EpollEvent> event);
Result<size_t> SysEpollWait(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                            int32_t timeout_ms);
Result<size_t> SysEpollPwait(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                             int32_t timeout_ms, UserPtr<uint64_t> mask, size_t mask_size);
Result<size_t> SysEpollPwait2(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                              UserPtr<abi::Timespec> timeout, UserPtr<uint64_t> mask, size_t mask_size);

inline constexpr Row kEpollRows[] = {
    SYSCALL(epoll_create, SysEpollCreate), SYSCALL(epoll_create1, SysEpollCreate1),
    SYSCALL(epoll_ctl, SysEpollCtl),       SYSCALL(epoll_wait, SysEpollWait),
    SYSCALL(epoll_pwait, SysEpollPwait),   SYSCALL(epoll_pwait2, SysEpollPwait2),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_EPOLL_H_
