// Futexes.
#ifndef SENTRY_SYSCALLS_SYS_FUTEX_H_
#define SENTRY_SYSCALLS_SYS_FUTEX_H_

#include "sentry/syscalls/table.h"

namespace sentry {

struct FutexWaitv {  // include/uapi/linux/futex.h
  uint64_t value, uaddr;
  uint32_t flags, reserved;
};

Result<int> SysFutex(Task& task, uint64_t addr, int op, uint32_t value, uint64_t timeout_or_value2, uint64_t addr2,
                     uint32_t value3);
Result<int> SysFutexWaitv(Task& task, UserPtr<FutexWaitv> waiters, uint32_t count, uint32_t flags,
                          UserPtr<abi::Timespec> timeout, int clock);
Result<void> SysSetRobustList(Task& task, uint64_t head, uint64_t length);
Result<void> SysGetRobustList(Task& task, int pid, UserPtr<uint64_t> head, UserPtr<uint64_t> length);

inline constexpr Row kFutexRows[] = {
    SYSCALL_PARTIAL(futex, SysFutex, "PI futexes do not raise priorities; PI requeue is missing"),
    SYSCALL(futex_waitv, SysFutexWaitv),
    SYSCALL(set_robust_list, SysSetRobustList),
    SYSCALL(get_robust_list, SysGetRobustList),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_FUTEX_H_
