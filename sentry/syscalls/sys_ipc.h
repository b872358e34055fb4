// System V IPC: shared memory, semaphores, message queues.
#ifndef SENTRY_SYSCALLS_SYS_IPC_H_
#define SENTRY_SYSCALLS_SYS_IPC_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<int> SysShmget(Task& task, int32_t key, uint64_t size, int flags);
Result<uint64_t> SysShmat(Task& task, int id, uint64_t addr, int flags);
Result<void> SysShmdt(Task& task, uint64_t addr);
Result<int> SysShmctl(Task& task, int id, int command, uint64_t buffer);
Result<int> SysSemget(Task& task, int32_t key, int count, int flags);
Result<void> SysSemop(Task& task, int id, uint64_t ops, uint32_t count);
Result<void> SysSemtimedop(Task& task, int id, uint64_t ops, uint32_t count, UserPtr<abi::Timespec> timeout);
Result<int> SysSemctl(Task& task, int id, int number, int command, uint64_t argument);
Result<int> SysMsgget(Task& task, int32_t key, int flags);
Result<void> SysMsgsnd(Task& task, int id, uint64_t message, uint64_t size, int flags);
Result<uint64_t> SysMsgrcv(Task& task, int id, uint64_t message, uint64_t size, int64_t type, int flags);
Result<int> SysMsgctl(Task& task, int id, int command, uint64_t buffer);

inline constexpr Row kIpcRows[] = {
    SYSCALL_PARTIAL(shmget, SysShmget, "no huge pages"),
    SYSCALL(shmat, SysShmat),
    SYSCALL(shmdt, SysShmdt),
    SYSCALL_PARTIAL(shmctl, SysShmctl, "SHM_LOCK is kept and shown"),
    SYSCALL(semget, SysSemget),
    SYSCALL_PARTIAL(semop, SysSemop, "waiters are served in no particular order"),
    SYSCALL_PARTIAL(semtimedop, SysSemtimedop, "waiters are served in no particular order"),
    SYSCALL(semctl, SysSemctl),
    SYSCALL(msgget, SysMsgget),
    SYSCALL(msgsnd, SysMsgsnd),
    SYSCALL(msgrcv, SysMsgrcv),
    SYSCALL(msgctl, SysMsgctl),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_IPC_H_
