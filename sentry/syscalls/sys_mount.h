// mount(2), umount2(2), pivot_root(2).
#ifndef SENTRY_SYSCALLS_SYS_MOUNT_H_
#define SENTRY_SYSCALLS_SYS_MOUNT_H_

#include "sentry/syscalls/table.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#endif
#ifndef SYS_listmount
#define SYS_listmount 458
#endif

namespace sentry {

Result<void> SysMount(Task& task, UserPtr<char> source, UserPath target, UserPtr<char> type, uint64_t flags,
                      UserPtr<char> data);
Result<void> SysUmount2(Task& task, UserPath target, uint32_t flags);
Result<void> SysPivotRoot(Task& task, UserPath new_root, UserPath put_old);

inline constexpr Row kMountRows[] = {
    SYSCALL_PARTIAL(mount, SysMount,
                    "propagation types are accepted and nothing propagates; a remount changes flags, not options"),
    SYSCALL_PARTIAL(umount2, SysUmount2, "MNT_EXPIRE is refused"),
    SYSCALL(pivot_root, SysPivotRoot),
    SYSCALL_ERRNO(fsopen, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(fsconfig, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(fsmount, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(fspick, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(move_mount, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(open_tree, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(mount_setattr, ENOSYS, "the new mount interface; mount(2) serves"),
    SYSCALL_ERRNO(statmount, ENOSYS, "the new mount interface; /proc/self/mountinfo serves"),
    SYSCALL_ERRNO(listmount, ENOSYS, "the new mount interface; /proc/self/mountinfo serves"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_MOUNT_H_
