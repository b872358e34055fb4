// splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2): bytes from descriptor to descriptor.
//
// Pages go by reference between pipes; everything else goes through buffers of the sentry, a pipe's own pages among
// them.
#ifndef SENTRY_SYSCALLS_SYS_SPLICE_H_
#define SENTRY_SYSCALLS_SYS_SPLICE_H_

#include "sentry/abi/types.h"
#include "sentry/syscalls/table.h"

namespace sentry {

Result<size_t> SysSendfile(Task& task, FdArg out, FdArg in, UserPtr<int64_t> offset, size_t count);
Result<size_t> SysSplice(Task& task, FdArg in, UserPtr<int64_t> in_offset, FdArg out, UserPtr<int64_t> out_offset,
                         size_t length, uint32_t flags);
Result<size_t> SysTee(Task& task, FdArg in, FdArg out, size_t length, uint32_t flags);
Result<size_t> SysVmsplice(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, uint32_t flags);
Result<size_t> SysCopyFileRange(Task& task, FdArg in, UserPtr<int64_t> in_offset, FdArg out,
                                UserPtr<int64_t> out_offset, size_t length, uint32_t flags);

inline constexpr Row kSpliceRows[] = {
    SYSCALL(sendfile, SysSendfile),
    SYSCALL(splice, SysSplice),
    SYSCALL(tee, SysTee),
    SYSCALL_PARTIAL(vmsplice, SysVmsplice, "copies; SPLICE_F_GIFT is ignored"),
    SYSCALL(copy_file_range, SysCopyFileRange),
};

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_SYS_SPLICE_H_
