// Rows for system calls that always fail here, each with its reason.
#ifndef SENTRY_SYSCALLS_SYS_UNSERVED_H_
#define SENTRY_SYSCALLS_SYS_UNSERVED_H_

#include "sentry/syscalls/table.h"

// Numbers that are younger than Debian 12's headers.
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_map_shadow_stack
#define SYS_map_shadow_stack 453
#endif
#ifndef SYS_futex_wake
#define SYS_futex_wake 454
#define SYS_futex_wait 455
#define SYS_futex_requeue 456
#endif
#ifndef SYS_lsm_get_self_attr
#define SYS_lsm_get_self_attr 459
#define SYS_lsm_set_self_attr 460
#define SYS_lsm_list_modules 461
#endif

namespace sentry {

inline constexpr Row kUnservedRows[] = {
    // Would reach the host's kernel or hardware.
    SYSCALL_ERRNO(iopl, EPERM, "no port access"),
    SYSCALL_ERRNO(ioperm, EPERM, "no port access"),
    SYSCALL_ERRNO(modify_ldt, ENOSYS, "no segments of the guest's own"),
    SYSCALL_ERRNO(init_module, EPERM, "no kernel modules"),
    SYSCALL_ERRNO(finit_module, EPERM, "no kernel modules"),
    SYSCALL_ERRNO(delete_module, EPERM, "no kernel modules"),
    SYSCALL_ERRNO(kexec_load, EPERM, "no other kernel"),
    SYSCALL_ERRNO(kexec_file_load, EPERM, "no other kernel"),
    SYSCALL_ERRNO(reboot, EPERM, "a sandbox ends with its init"),
    SYSCALL_ERRNO(swapon, EPERM, "memory is the host's business"),
    SYSCALL_ERRNO(swapoff, EPERM, "memory is the host's business"),
    SYSCALL_ERRNO(acct, EPERM, "no process accounting"),
    SYSCALL_ERRNO(quotactl, EPERM, "no quotas"),
    SYSCALL_ERRNO(quotactl_fd, EPERM, "no quotas"),
    SYSCALL_ERRNO(bpf, EPERM, "no eBPF"),
    SYSCALL_ERRNO(perf_event_open, ENODEV, "no performance counters"),
    SYSCALL_ERRNO(lookup_dcookie, EPERM, "removed from Linux 6.7"),
    SYSCALL_ERRNO(userfaultfd, EPERM, "faults are not handed to guests"),
    SYSCALL_ERRNO(fanotify_init, EPERM, "no file system wide notification"),
    SYSCALL_ERRNO(fanotify_mark, EPERM, "no file system wide notification"),
    SYSCALL_ERRNO(nfsservctl, ENOSYS, "removed from Linux 3.1"),
    SYSCALL_ERRNO(_sysctl, ENOSYS, "removed from Linux 5.5"),
    SYSCALL_ERRNO(uselib, ENOSYS, "not built on amd64"),
    SYSCALL_ERRNO(create_module, ENOSYS, "removed from Linux 2.6"),
    SYSCALL_ERRNO(get_kernel_syms, ENOSYS, "removed from Linux 2.6"),
    SYSCALL_ERRNO(query_module, ENOSYS, "removed from Linux 2.6"),
    SYSCALL_ERRNO(getpmsg, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(putpmsg, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(afs_syscall, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(tuxcall, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(security, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(vserver, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(set_thread_area, ENOSYS, "32-bit only"),
    SYSCALL_ERRNO(get_thread_area, ENOSYS, "32-bit only"),
    SYSCALL_ERRNO(sysfs, ENOSYS, "deprecated"),
    // Not there yet.
    SYSCALL_ERRNO(epoll_ctl_old, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(epoll_wait_old, ENOSYS, "never implemented by Linux"),
    SYSCALL_ERRNO(cachestat, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(map_shadow_stack, EOPNOTSUPP, "shadow stacks are not offered"),
    SYSCALL_ERRNO(futex_wake, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(futex_wait, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(futex_requeue, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(lsm_get_self_attr, EOPNOTSUPP, "no security modules"),
    SYSCALL_ERRNO(lsm_set_self_attr, EOPNOTSUPP, "no security modules"),
    SYSCALL_ERRNO(lsm_list_modules, EOPNOTSUPP, "no security modules"),
    SYSCALL_ERRNO(rseq, ENOSYS, "restartable sequences need the scheduler's help"),
    SYSCALL_ERRNO(setns, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(add_key, ENOSYS, "no key rings"),
    SYSCALL_ERRNO(request_key, ENOSYS, "no key rings"),
    SYSCALL_ERRNO(keyctl, ENOSYS, "no key rings"),
    SYSCALL_ERRNO(io_setup, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_destroy, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_getevents, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_pgetevents, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_submit, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_cancel, ENOSYS, "asynchronous I/O is not implemented yet"),
    SYSCALL_ERRNO(io_uring_setup, ENOSYS, "io_uring is not implemented yet"),
    SYSCALL_ERRNO(io_uring_enter, ENOSYS, "io_uring is not implemented yet"),
    SYSCALL_ERRNO(io_uring_register, ENOSYS, "io_uring is not implemented yet"),
    SYSCALL_ERRNO(remap_file_pages, ENOSYS, "deprecated"),
    SYSCALL_ERRNO(migrate_pages, ENOSYS, "one node"),
    SYSCALL_ERRNO(move_pages, ENOSYS, "one node"),
    SYSCALL_ERRNO(set_mempolicy_home_node, ENOSYS, "one node"),
    SYSCALL_ERRNO(pkey_alloc, ENOSPC, "no protection keys are offered"),
    SYSCALL_ERRNO(pkey_free, EINVAL, "no protection keys are offered"),
    SYSCALL_ERRNO(process_madvise, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(process_mrelease, ENOSYS, "not implemented yet"),
    SYSCALL_ERRNO(landlock_create_ruleset, EOPNOTSUPP, "as if Landlock were disabled at boot"),
    SYSCALL_ERRNO(landlock_add_rule, EOPNOTSUPP, "as if Landlock were disabled at boot"),
    SYSCALL_ERRNO(landlock_restrict_self, EOPNOTSUPP, "as if Landlock were disabled at boot"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_UNSERVED_H_
