#include "sentry/syscalls/file_io.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "sentry/vfs/file_description.h"

namespace sentry {

Result<Segments> ReadIovec(Task& task, UserPtr<abi::Iovec> iov, uint64_t count) {
  if (count > kMaxIovecs) return Errno(EINVAL);
  auto entries = TRY(task.mm().ReadArray(iov, count));
  Segments segments;
  segments.reserve(count);
  size_t total = 0;
  for (const abi::Iovec& entry : entries) {
    if (static_cast<int64_t>(entry.iov_len) < 0) return Errno(EINVAL);
    if (!AccessOk(entry.iov_base, entry.iov_len)) return Errno(EFAULT);
    size_t length = std::min<size_t>(entry.iov_len, kMaxRwCount - total);
    if (length != 0) segments.emplace_back(entry.iov_base, length);
    total += length;
  }
  return segments;
}

Result<RefPtr<FileDescription>> GetReadable(Task& task, Fd fd) {
  auto file = TRY(task.GetFile(fd));
  if (!file->readable()) return Errno(EBADF);
  return file;
}

Result<RefPtr<FileDescription>> GetWritable(Task& task, Fd fd) {
  auto file = TRY(task.GetFile(fd));
  if (!file->writable()) return Errno(EBADF);
  return file;
}

Result<size_t> ReadFile(Task& task, FileDescription& file, IoBuffer& to, int64_t offset, bool nowait) {
  IoFlags flags;
  flags.nonblock = nowait || file.nonblocking();
  return task.RetryUntilReady(file, kReadEvents, flags.nonblock, [&]() -> Result<size_t> {
    return offset == kOwnPosition ? file.Read(to, flags) : file.PRead(to, offset, flags);
  });
}

IoFlags WriteFlags(Task& task, const FileDescription& file) {
  IoFlags flags;
  uint32_t status = file.flags();
  flags.nonblock = file.nonblocking();
  flags.append = (status & O_APPEND) != 0;
  flags.dsync = (status & O_DSYNC) != 0;
  if (file.inode() != nullptr && file.inode()->type() == FileType::kRegular) {
    flags.file_size_limit = task.thread_group().Limit(RLIMIT_FSIZE);
  }
  return flags;
}

void RaiseWriteSignals(Task& task, const FileDescription& file, Errno error, const IoFlags& flags) {
  if (error == EPIPE && file.RaisesSigpipe()) {
    (void)task.SendSignal(UserSignal(kSIGPIPE, task.thread_group().pid(), task.creds().ruid));
  } else if (error == EFBIG && flags.file_size_limit != UINT64_MAX) {
    (void)task.SendSignal(UserSignal(kSIGXFSZ, task.thread_group().pid(), task.creds().ruid));
  }
}

Result<size_t> WriteFile(Task& task, FileDescription& file, IoBuffer& from, int64_t offset, IoFlags flags, bool nowait) {
  flags.nonblock = flags.nonblock || nowait;
  size_t done = 0;
  for (;;) {
    auto result = task.RetryUntilReady(file, kWriteEvents, flags.nonblock, [&]() -> Result<size_t> {
      return offset == kOwnPosition ? file.Write(from, flags) : file.PWrite(from, offset, flags);
    });
    if (!result.ok()) {
      RaiseWriteSignals(task, file, result.error(), flags);
      if (done != 0) return done;
      return result.error();
    }
    done += *result;
    if (flags.nonblock || from.remaining() == 0 || !file.WritesUntilDone() || *result == 0) return done;
  }
}

}  // namespace sentry
