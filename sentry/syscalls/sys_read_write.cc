#include "sentry/syscalls/sys_read_write.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include "sentry/syscalls/file_io.h"

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#ifndef FALLOC_FL_KEEP_SIZE
#include <linux/falloc.h>
#endif

namespace sentry {
namespace {

constexpr uint32_t kRwfSupported = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND;

// rw_verify_area() for a buffer: EFAULT before EINVAL, as vfs_read has it.
Result<size_t> CheckBuffer(Addr addr, size_t count) {
  if (!AccessOk(addr, count)) return Errno(EFAULT);
  if (static_cast<int64_t>(count) < 0) return Errno(EINVAL);
  return std::min(count, kMaxRwCount);
}

// The end of a transfer has to be a file offset too (rw_verify_area).
Result<void> CheckEnd(int64_t offset, size_t count) {
  int64_t end;
  if (__builtin_add_overflow(offset, static_cast<int64_t>(count), &end)) return Errno(EINVAL);
  return {};
}

// pread and pwrite of what has no positions: ESPIPE (FMODE_PREAD is not set on streams).
Result<void> CheckSeekable(const FileDescription& file) {
  if (!file.Seekable() && file.inode() != nullptr && !file.inode()->is_dir()) return Errno(ESPIPE);
  return {};
}

Result<size_t> ReadVector(Task& task, FileDescription& file, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset,
                          uint32_t flags) {
  if ((flags & ~kRwfSupported) != 0 || (flags & RWF_NOAPPEND) != 0) return Errno(EOPNOTSUPP);
  UserIo io(task.mm(), TRY(ReadIovec(task, iov, count)));
  if (io.remaining() == 0 && file.Seekable()) return 0;
  TRY(CheckEnd(std::max<int64_t>(offset, 0), io.remaining()));
  return ReadFile(task, file, io, offset, (flags & RWF_NOWAIT) != 0);
}

Result<size_t> WriteVector(Task& task, FileDescription& file, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset,
                           uint32_t flags) {
  if ((flags & ~kRwfSupported) != 0) return Errno(EOPNOTSUPP);
  if ((flags & RWF_APPEND) != 0 && (flags & RWF_NOAPPEND) != 0) return Errno(EINVAL);
  UserIo io(task.mm(), TRY(ReadIovec(task, iov, count)));
  TRY(CheckEnd(std::max<int64_t>(offset, 0), io.remaining()));
  IoFlags io_flags = WriteFlags(task, file);
  if ((flags & RWF_APPEND) != 0) io_flags.append = true;
  if ((flags & RWF_NOAPPEND) != 0) io_flags.append = false;
  if ((flags & (RWF_DSYNC | RWF_SYNC)) != 0) io_flags.dsync = true;
  return WriteFile(task, file, io, offset, io_flags, (flags & RWF_NOWAIT) != 0);
}

}  // namespace

Result<size_t> SysRead(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count) {
  auto file = TRY(GetReadable(task, Fd(fd)));
  count = TRY(CheckBuffer(buffer.addr, count));
  UserIo io(task.mm(), buffer.addr, count);
  return ReadFile(task, *file, io, kOwnPosition);
}

Result<size_t> SysWrite(Task& task, FdArg fd, UserPtr<const std::byte> buffer, size_t count) {
  auto file = TRY(GetWritable(task, Fd(fd)));
  count = TRY(CheckBuffer(buffer.addr, count));
  UserIo io(task.mm(), buffer.addr, count);
  return WriteFile(task, *file, io, kOwnPosition, WriteFlags(task, *file));
}

Result<size_t> SysPread64(Task& task, FdArg fd, UserPtr<std::byte> buffer, size_t count, int64_t offset) {
  if (offset < 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  TRY(CheckSeekable(*file));
  if (!file->readable()) return Errno(EBADF);
  count = TRY(CheckBuffer(buffer.addr, count));
  TRY(CheckEnd(offset, count));
  UserIo io(task.mm(), buffer.addr, count);
  return ReadFile(task, *file, io, offset);
}

Result<size_t> SysPwrite64(Task& task, FdArg fd, UserPtr<const std::byte> buffer, size_t count, int64_t offset) {
  if (offset < 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  TRY(CheckSeekable(*file));
  if (!file->writable()) return Errno(EBADF);
  count = TRY(CheckBuffer(buffer.addr, count));
  TRY(CheckEnd(offset, count));
  UserIo io(task.mm(), buffer.addr, count);
  return WriteFile(task, *file, io, offset, WriteFlags(task, *file));
}

Result<size_t> SysReadv(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count) {
  auto file = TRY(GetReadable(task, Fd(fd)));
  return ReadVector(task, *file, iov, count, kOwnPosition, 0);
}

Result<size_t> SysWritev(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count) {
  auto file = TRY(GetWritable(task, Fd(fd)));
  return WriteVector(task, *file, iov, count, kOwnPosition, 0);
}

Result<size_t> SysPreadv(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low, uint64_t) {
  if (offset_low < 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  TRY(CheckSeekable(*file));
  if (!file->readable()) return Errno(EBADF);
  return ReadVector(task, *file, iov, count, offset_low, 0);
}

Result<size_t> SysPwritev(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low, uint64_t) {
  if (offset_low < 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  TRY(CheckSeekable(*file));
  if (!file->writable()) return Errno(EBADF);
  return WriteVector(task, *file, iov, count, offset_low, 0);
}

Result<size_t> SysPreadv2(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low, uint64_t,
                          uint32_t flags) {
  if (offset_low < -1) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  if (offset_low != -1) TRY(CheckSeekable(*file));
  if (!file->readable()) return Errno(EBADF);
  return ReadVector(task, *file, iov, count, offset_low, flags);
}

Result<size_t> SysPwritev2(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, int64_t offset_low, uint64_t,
                           uint32_t flags) {
  if (offset_low < -1) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  if (offset_low != -1) TRY(CheckSeekable(*file));
  if (!file->writable()) return Errno(EBADF);
  return WriteVector(task, *file, iov, count, offset_low, flags);
}

Result<int64_t> SysLseek(Task& task, FdArg fd, int64_t offset, uint32_t whence) {
  auto file = TRY(task.GetFile(Fd(fd)));
  if (whence > SEEK_HOLE) return Errno(EINVAL);
  return file->Seek(offset, static_cast<int>(whence));
}

Result<void> SysFallocate(Task& task, FdArg fd, int32_t mode, int64_t offset, int64_t length) {
  constexpr int32_t kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE |
                             FALLOC_FL_ZERO_RANGE | FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE;
  // fs/open.c, vfs_fallocate.
  auto file = TRY(task.GetFile(Fd(fd)));
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  if ((mode & ~kKnown) != 0) return Errno(EOPNOTSUPP);
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
    return Errno(EOPNOTSUPP);
  }
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0) return Errno(EOPNOTSUPP);
  if ((mode & FALLOC_FL_COLLAPSE_RANGE) != 0 && mode != FALLOC_FL_COLLAPSE_RANGE) return Errno(EINVAL);
  if ((mode & FALLOC_FL_INSERT_RANGE) != 0 && mode != FALLOC_FL_INSERT_RANGE) return Errno(EINVAL);
  if (!file->writable()) return Errno(EBADF);
  auto inode = file->inode();
  if (inode->type() == FileType::kFifo) return Errno(ESPIPE);
  if (inode->is_dir()) return Errno(EISDIR);
  if (inode->type() != FileType::kRegular && inode->type() != FileType::kBlockDevice) return Errno(ENODEV);
  int64_t end;
  if (__builtin_add_overflow(offset, length, &end)) return Errno(EFBIG);
  // inode_newsize_ok(): only when the file grows.
  IoFlags flags = WriteFlags(task, *file);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0 && static_cast<uint64_t>(end) > flags.file_size_limit &&
      end > TRY(file->GetAttr()).size) {
    RaiseWriteSignals(task, *file, Errno(EFBIG), flags);
    return Errno(EFBIG);
  }
  return file->Allocate(mode, offset, length);
}

Result<void> SysFadvise64(Task& task, FdArg fd, int64_t offset, int64_t length, int32_t advice) {
  auto file = TRY(task.GetFile(Fd(fd)));
  if (file->inode()->type() == FileType::kFifo) return Errno(ESPIPE);
  if (length < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE) return Errno(EINVAL);
  return {};
}

Result<void> SysReadahead(Task& task, FdArg fd, int64_t offset, size_t count) {
  auto file = TRY(task.GetFile(Fd(fd)));
  if (!file->readable()) return Errno(EBADF);
  if (file->inode()->type() != FileType::kRegular) return Errno(EINVAL);
  return {};
}

}  // namespace sentry
