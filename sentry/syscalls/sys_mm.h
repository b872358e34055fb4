// Memory.
#ifndef SENTRY_SYSCALLS_SYS_MM_H_
#define SENTRY_SYSCALLS_SYS_MM_H_

#include "sentry/syscalls/table.h"

namespace sentry {

Result<Addr> SysMmap(Task& task, uint64_t addr, uint64_t length, int prot, uint32_t flags, FdArg fd, uint64_t offset);
Result<void> SysMunmap(Task& task, uint64_t addr, uint64_t length);
Result<void> SysMprotect(Task& task, uint64_t addr, uint64_t length, uint64_t prot);
Result<void> SysPkeyMprotect(Task& task, uint64_t addr, uint64_t length, uint64_t prot, int pkey);
Result<Addr> SysMremap(Task& task, uint64_t old_addr, uint64_t old_length, uint64_t new_length, uint64_t flags,
                       uint64_t new_addr);
Result<Addr> SysBrk(Task& task, uint64_t addr);
Result<void> SysMadvise(Task& task, uint64_t addr, uint64_t length, int advice);
Result<void> SysMsync(Task& task, uint64_t addr, uint64_t length, int flags);
Result<void> SysMincore(Task& task, uint64_t addr, uint64_t length, UserPtr<uint8_t> vec);
Result<void> SysMlock(Task& task, uint64_t addr, uint64_t length);
Result<void> SysMlock2(Task& task, uint64_t addr, uint64_t length, int flags);
Result<void> SysMunlock(Task& task, uint64_t addr, uint64_t length);
Result<void> SysMlockall(Task& task, int flags);
Result<void> SysMunlockall(Task& task);
Result<size_t> SysProcessVmReadv(Task& task, int pid, UserPtr<abi::Iovec> local, uint64_t local_count,
                                 UserPtr<abi::Iovec> remote, uint64_t remote_count, uint64_t flags);
Result<size_t> SysProcessVmWritev(Task& task, int pid, UserPtr<abi::Iovec> local, uint64_t local_count,
                                  UserPtr<abi::Iovec> remote, uint64_t remote_count, uint64_t flags);
Result<int> SysMembarrier(Task& task, int command, uint32_t flags, int cpu);
Result<void> SysSetMempolicy(Task& task, int mode, UserPtr<uint64_t> nodes, uint64_t max_node);
Result<void> SysGetMempolicy(Task& task, UserPtr<int32_t> mode, UserPtr<uint64_t> nodes, uint64_t max_node,
                             uint64_t addr, uint64_t flags);
Result<void> SysMbind(Task& task, uint64_t addr, uint64_t length, uint64_t mode, UserPtr<uint64_t> nodes,
                      uint64_t max_node, uint32_t flags);

inline constexpr Row kMmRows[] = {
    SYSCALL(mmap, SysMmap),
    SYSCALL(munmap, SysMunmap),
    SYSCALL(mprotect, SysMprotect),
    SYSCALL_PARTIAL(pkey_mprotect, SysPkeyMprotect, "only key -1: no protection keys are offered"),
    SYSCALL(mremap, SysMremap),
    SYSCALL(brk, SysBrk),
    SYSCALL(madvise, SysMadvise),
    SYSCALL(msync, SysMsync),
    SYSCALL(mincore, SysMincore),
    SYSCALL_PARTIAL(mlock, SysMlock, "accounted and faulted in; the host may still swap"),
    SYSCALL_PARTIAL(mlock2, SysMlock2, "accounted and faulted in; the host may still swap"),
    SYSCALL(munlock, SysMunlock),
    SYSCALL_PARTIAL(mlockall, SysMlockall, "accounted and faulted in; the host may still swap"),
    SYSCALL(munlockall, SysMunlockall),
    SYSCALL(process_vm_readv, SysProcessVmReadv),
    SYSCALL(process_vm_writev, SysProcessVmWritev),
    SYSCALL_PARTIAL(membarrier, SysMembarrier, "commands for the core's instruction stream are not offered"),
    SYSCALL_PARTIAL(set_mempolicy, SysSetMempolicy, "one node: policies are checked and have no effect"),
    SYSCALL_PARTIAL(get_mempolicy, SysGetMempolicy, "one node: always MPOL_DEFAULT"),
    SYSCALL_PARTIAL(mbind, SysMbind, "one node: policies are checked and have no effect"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_MM_H_
