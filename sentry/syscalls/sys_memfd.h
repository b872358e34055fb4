// memfd_create(2), and the seals of its files (fcntl F_ADD_SEALS).
#ifndef SENTRY_SYSCALLS_SYS_MEMFD_H_
#define SENTRY_SYSCALLS_SYS_MEMFD_H_

#include "sentry/syscalls/table.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

namespace sentry {

Result<Fd> SysMemfdCreate(Task& task, UserPtr<char> name, uint32_t flags);
Result<int64_t> AddSeals(FileDescription& file, uint32_t seals);
Result<int64_t> GetSeals(FileDescription& file);

inline constexpr Row kMemfdRows[] = {
    SYSCALL_PARTIAL(memfd_create, SysMemfdCreate, "no MFD_HUGETLB"),
    SYSCALL_ERRNO(memfd_secret, ENOSYS, "as on a kernel without secretmem"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_MEMFD_H_
