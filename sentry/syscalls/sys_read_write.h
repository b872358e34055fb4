// read(2), write(2) and their vector and positioned forms, lseek(2), fallocate(2), posix_fadvise(2).
#ifndef SENTRY_SYSCALLS_SYS_READ_WRITE_H_
#define SENTRY_SYSCALLS_SYS_READ_WRITE_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

namespace sentry {

Result<size_t> SysRead(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count);
Result<size_t> SysWrite(Task& task, FdArg fd, UserPtr<const std::byte> buffer, size_t count);
Result<size_t> SysPread64(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int64_t offset);
Result<size_t> SysPwrite64(Task& task, FdArg fd, UserPtr<const std::byte> buffer, size_t count, int64_t offset);
Result<size_t> SysReadv(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count);
Result<size_t> SysWritev(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count);
Result<size_t> SysPreadv(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low,
                         uint64_t offset_high);
Result<size_t> SysPwritev(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low,
                          uint64_t offset_high);
Result<size_t> SysPreadv2(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low,
                          uint64_t offset_high, uint32_t flags);
Result<size_t> SysPwritev2(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low,
                           uint64_t offset_high, uint32_t flags);
Result<int64_t> SysLseek(Task& task, FdArg fd, int64_t offset, uint32_t whence);
Result<void> SysFallocate(Task& task, FdArg fd, int32_t mode, int64_t offset, int64_t length);
Result<void> SysFadvise64(Task& task, FdArg fd, int64_t offset, int64_t length, int32_t advice);
Result<void> SysReadahead(Task& task, FdArg fd, int64_t offset, size_t count);

// On amd64 the offset of the vector calls is one register: the "high" half is shifted out (fs/read_write.c,
// pos_from_hilo).
inline constexpr Row kReadWriteRows[] = {
    SYSCALL(read, SysRead),
    SYSCALL(write, SysWrite),
    SYSCALL(pread64, SysPread64),
    SYSCALL(pwrite64, SysPwrite64),
    SYSCALL(readv, SysReadv),
    SYSCALL(writev, SysWritev),
    SYSCALL(preadv, SysPreadv),
    SYSCALL(pwritev, SysPwritev),
    SYSCALL_PARTIAL(preadv2, SysPreadv2, "RWF_HIPRI and RWF_NOWAIT of regular files are accepted and change nothing"),
    SYSCALL_PARTIAL(pwritev2, SysPwritev2, "RWF_HIPRI and RWF_NOWAIT of regular files are accepted and change nothing"),
    SYSCALL(lseek, SysLseek),
    SYSCALL(fallocate, SysFallocate),
    SYSCALL_PARTIAL(fadvise64, SysFadvise64, "arguments are checked; the advice is not used"),
    SYSCALL_PARTIAL(readahead, SysReadahead, "arguments are checked; nothing is read ahead"),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_READ_WRITE_H_
