// POSIX message queues.
#ifndef SENTRY_SYSCALLS_SYS_MQUEUE_H_
#define SENTRY_SYSCALLS_SYS_MQUEUE_H_

#include "sentry/kernel/ipc/mqueue.h"
#include "sentry/syscalls/sys_time.h"
#include "sentry/syscalls/table.h"

namespace sentry {

Result<Fd> SysMqOpen(Task& task, UserPtr<char> name, uint32_t flags, uint32_t mode, UserPtr<MqAttr> attr);
Result<void> SysMqUnlink(Task& task, UserPtr<char> name);
Result<void> SysMqTimedsend(Task& task, FdArg fd, uint64_t message, uint64_t size, uint32_t priority,
                            UserPtr<abi::Timespec> timeout);
Result<uint64_t> SysMqTimedreceive(Task& task, FdArg fd, uint64_t message, uint64_t size, UserPtr<uint32_t> priority,
                                   UserPtr<abi::Timespec> timeout);
Result<void> SysMqNotify(Task& task, FdArg fd, UserPtr<Sigevent> event);
Result<void> SysMqGetsetattr(Task& task, FdArg fd, UserPtr<MqAttr> set, UserPtr<MqAttr> old);

inline constexpr Row kMqueueRows[] = {
    SYSCALL_PARTIAL(mq_open, SysMqOpen, "RLIMIT_MSGQUEUE counts for each queue alone"),
    SYSCALL(mq_unlink, SysMqUnlink),
    SYSCALL(mq_timedsend, SysMqTimedsend),
    SYSCALL(mq_timedreceive, SysMqTimedreceive),
    SYSCALL_PARTIAL(mq_notify, SysMqNotify, "SIGEV_THREAD fails with EINVAL"),
    SYSCALL(mq_getsetattr, SysMqGetsetattr),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_MQUEUE_H_
