// What the file families share: vectors of guest memory, limits and flags of one transfer, waiting, and the signals
// that failed writes raise. (fs/read_write.c, lib/iov_iter.c)
#ifndef SENTRY_SYSCALLS_FILE_IO_H_
#define SENTRY_SYSCALLS_FILE_IO_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "sentry/abi/types.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

inline constexpr size_t kMaxRwCount = 0x7ffff000;      // MAX_RW_COUNT: one call moves no more
inline constexpr size_t kMaxIovecs = 1024;             // UIO_MAXIOV
inline constexpr Addr kUserSpaceEnd = 0x7ffffffff000;  // TASK_SIZE_MAX with four levels of page tables
inline constexpr base::EventMask kReadEvents = base::kEventIn | base::kEventRdNorm;
inline constexpr base::EventMask kWriteEvents = base::kEventOut | base::kEventWrNorm;

// access_ok(): the range lies in the half of the address space that is the guest's.
inline bool AccessOk(Addr addr, uint64_t bytes) { return bytes <= kUserSpaceEnd && addr <= kUserSpaceEnd - bytes; }

using Segments = std::vector<std::pair<Addr, size_t>>;
// import_iovec(): EINVAL for too many or negative lengths, EFAULT for addresses that are not the guest's; the total is
// cut at kMaxRwCount.
Result<Segments> ReadIovec(Task& task, UserPtr<abi::Iovec> iov, uint64_t count);

// Which of the file's two ways to move bytes: at its own position or at a given one.
inline constexpr int64_t kOwnPosition = -1;

// One read or write of a description as the system calls do it: waits while the file is not ready (unless it is
// nonblocking), and a blocking write of a stream goes on until all is written. Raises SIGPIPE and SIGXFSZ.
Result<size_t> ReadFile(Task& task, FileDescription& file, IoBuffer& to, int64_t offset, bool nowait = false);
Result<size_t> WriteFile(Task& task, FileDescription& file, IoBuffer& from, int64_t offset, IoFlags flags,
                         bool nowait = false);
// The flags of a write through this description by this task.
IoFlags WriteFlags(Task& task, const FileDescription& file);
void RaiseWriteSignals(Task& task, const FileDescription& file, Errno error, const IoFlags& flags);

// Where the description stands. Asked of the file, because a host file's position is the host's and position() does not
// know it.
Result<int64_t> CurrentPosition(FileDescription& file);

// The description if it is open for reading or writing; EBADF.
Result<RefPtr<FileDescription>> GetReadable(Task& task, Fd fd);
Result<RefPtr<FileDescription>> GetWritable(Task& task, Fd fd);

}  // namespace sentry

#endif  // SENTRY_SYSCALLS_FILE_IO_H_
