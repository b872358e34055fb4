#include "sentry/syscalls/file_io.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/time.h"
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

Result<int64_t> CurrentPosition(FileDescription& file) { return file.Seek(0, SEEK_CUR); }

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

namespace {

// `transfer` until it does something else than EAGAIN, waiting in between as long as `deadline` allows; then once more
// with timed_out.
template <typename F, typename D>
Result<size_t> Transfer(Task& task, FileDescription& file, base::EventMask events, IoFlags& flags, F&& transfer,
                        D&& deadline) {
  Result<size_t> result = transfer();
  if (flags.nonblock || !result.failed_with(EAGAIN)) return result;
  base::WaitQueue* queue = file.wait_queue();
  if (queue == nullptr) return result;
  base::MonotonicNs started = base::MonotonicNow();
  base::WaitEntry entry(events | base::kEventErr | base::kEventHup);
  base::ScopedWait wait(*queue, entry);
  for (;;) {
    result = transfer();
    if (!result.failed_with(EAGAIN)) return result;
    base::MonotonicNs until = deadline(started);
    const Task::Wake wake = task.ParkInterruptible(until);
    if (wake == Task::Wake::kWoken) continue;
    flags.timed_out = wake == Task::Wake::kTimedOut;
    // What came together with the signal comes first (wait_event_interruptible looks at the condition last).
    result = transfer();
    if (flags.timed_out || !result.failed_with(EAGAIN)) return result;
    // A socket's time limit would begin anew: not restarted (sock_intr_errno, man 7 signal).
    if (until != base::kNever && file.inode()->type() == FileType::kSocket) return Errno(EINTR);
    return Errno(base::ERESTARTSYS_);
  }
}

}  // namespace

Result<size_t> ReadFile(Task& task, FileDescription& file, IoBuffer& to, int64_t offset, bool nowait) {
  IoFlags flags;
  flags.nonblock = nowait || file.nonblocking();
  Result<size_t> result = Transfer(
      task, file, kReadEvents, flags,
      [&] { return offset == kOwnPosition ? file.Read(to, flags) : file.PRead(to, offset, flags); },
      [&](base::MonotonicNs started) { return file.ReadDeadline(started); });
  task.CountRead(result.ok() ? *result : 0);
  return result;
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

namespace {

Result<size_t> WriteAll(Task& task, FileDescription& file, IoBuffer& from, int64_t offset, IoFlags flags, bool nowait) {
  flags.nonblock = flags.nonblock || nowait;
  size_t done = 0;
  for (;;) {
    auto result = Transfer(
        task, file, kWriteEvents, flags,
        [&] { return offset == kOwnPosition ? file.Write(from, flags) : file.PWrite(from, offset, flags); },
        [&](base::MonotonicNs started) { return file.WriteDeadline(started); });
    if (!result.ok()) {
      RaiseWriteSignals(task, file, result.error(), flags);
      if (done != 0) return done;
      return result.error();
    }
    done += *result;
    if (flags.nonblock || from.remaining() == 0 || !file.WritesUntilDone() || *result == 0) return done;
  }
}

}  // namespace

Result<size_t> WriteFile(Task& task, FileDescription& file, IoBuffer& from, int64_t offset, IoFlags flags,
                         bool nowait) {
  Result<size_t> result = WriteAll(task, file, from, offset, flags, nowait);
  task.CountWrite(result.ok() ? *result : 0);
  return result;
}

}  // namespace sentry
