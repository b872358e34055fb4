#include "sentry/syscalls/sys_splice.h"

#include <fcntl.h>
#include <unistd.h>

#include <functional>

#include "sentry/fs/pipe/pipe_file.h"
#include "sentry/syscalls/file_io.h"

namespace sentry {
namespace {

constexpr uint32_t kSpliceFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
constexpr size_t kBufferBytes = 64 << 10;

// Where a transfer reads or writes in a file: at an offset that the guest gave and gets back, or at the file's own
// position.
struct Place {
  FileDescription& file;
  bool explicit_offset;
  int64_t offset = 0;

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) {
    size_t n = TRY(explicit_offset ? file.PRead(to, offset, flags) : file.Read(to, flags));
    offset += static_cast<int64_t>(n);
    return n;
  }
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) {
    size_t n = TRY(explicit_offset ? file.PWrite(from, offset, flags) : file.Write(from, flags));
    offset += static_cast<int64_t>(n);
    return n;
  }
};

Result<Place> PlaceOf(Task& task, FileDescription& file, UserPtr<int64_t> offset) {
  Place place{file, static_cast<bool>(offset)};
  if (!offset) return place;
  if (!file.Seekable()) return Errno(ESPIPE);
  place.offset = TRY(task.mm().Read(offset));
  if (place.offset < 0) return Errno(EINVAL);
  return place;
}

// The new offset goes back to the guest, also when only a part was done.
Result<size_t> Finish(Task& task, Result<size_t> result, const Place& place, UserPtr<int64_t> offset) {
  if (result.ok() && *result != 0 && offset) TRY(task.mm().Write(offset, place.offset));
  return result;
}

// Repeats `attempt` while it says EAGAIN, waiting for the file that it names in `wait_for`; EAGAIN if that is null.
struct WaitFor {
  FileDescription* file = nullptr;
  base::EventMask events = 0;
};
Result<size_t> Retry(Task& task, const std::function<Result<size_t>(WaitFor&)>& attempt) {
  for (;;) {
    WaitFor wait_for;
    Result<size_t> result = attempt(wait_for);
    if (!result.failed_with(EAGAIN) || wait_for.file == nullptr || wait_for.file->wait_queue() == nullptr)
      return result;
    base::EventMask events = wait_for.events | base::kEventErr | base::kEventHup;
    FileDescription& file = *wait_for.file;
    TRY(task.BlockUntil(*file.wait_queue(), events, [&] { return (file.Readiness() & events) != 0; }));
  }
}

Result<size_t> PipeToFile(Task& task, PipeFile& in, Place& to, size_t length, uint32_t flags) {
  IoFlags write_flags = WriteFlags(task, to.file);
  bool wait_for_pipe = (flags & SPLICE_F_NONBLOCK) == 0;
  Result<size_t> result = Retry(task, [&](WaitFor& wait) -> Result<size_t> {
    bool file_full = false;
    auto n = in.pipe().Drain(length, [&](std::span<std::byte> page) -> Result<size_t> {
      KernelIo io(page);
      auto written = to.Write(io, write_flags);
      file_full = written.failed_with(EAGAIN);
      return written;
    });
    if (file_full) {
      if (!write_flags.nonblock) wait = {&to.file, kWriteEvents};
    } else if (wait_for_pipe) {
      wait = {&in, kReadEvents};
    }
    return n;
  });
  if (!result.ok()) RaiseWriteSignals(task, to.file, result.error(), write_flags);
  return result;
}

Result<size_t> FileToPipe(Task& task, Place& from, PipeFile& out, size_t length, uint32_t flags) {
  IoFlags read_flags;
  read_flags.nonblock = from.file.nonblocking();
  bool wait_for_pipe = (flags & SPLICE_F_NONBLOCK) == 0 && !out.nonblocking();
  Result<size_t> result = Retry(task, [&](WaitFor& wait) -> Result<size_t> {
    bool file_empty = false;
    auto n = out.pipe().Fill(length, [&](std::span<std::byte> page) -> Result<size_t> {
      KernelIo io(page);
      auto read = from.Read(io, read_flags);
      file_empty = read.failed_with(EAGAIN);
      return read;
    });
    if (file_empty) {
      if (!read_flags.nonblock && (flags & SPLICE_F_NONBLOCK) == 0) wait = {&from.file, kReadEvents};
    } else if (wait_for_pipe) {
      wait = {&out, kWriteEvents};
    }
    return n;
  });
  if (!result.ok()) RaiseWriteSignals(task, out, result.error(), {});
  return result;
}

Result<size_t> PipeToPipe(Task& task, PipeFile& in, PipeFile& out, size_t length, uint32_t flags, bool consume) {
  if (&in.pipe() == &out.pipe()) return Errno(EINVAL);
  bool nonblock = (flags & SPLICE_F_NONBLOCK) != 0 || in.nonblocking() || out.nonblocking();
  Result<size_t> result = Retry(task, [&](WaitFor& wait) -> Result<size_t> {
    auto n = Pipe::Transfer(in.pipe(), out.pipe(), length, consume);
    if (!nonblock) {
      bool empty = (in.pipe().ReadReadiness(true) & (kReadEvents | base::kEventHup)) == 0;
      wait = empty ? WaitFor{&in, kReadEvents} : WaitFor{&out, kWriteEvents};
    }
    return n;
  });
  if (!result.ok()) RaiseWriteSignals(task, out, result.error(), {});
  return result;
}

// Through a buffer, from a file with positions to anything. What could not be written is not taken from the source.
Result<size_t> Copy(Task& task, Place& from, Place& to, size_t length) {
  std::vector<std::byte> buffer(std::min(length, kBufferBytes));
  IoFlags write_flags = WriteFlags(task, to.file);
  size_t total = 0;
  while (total < length) {
    KernelIo in{std::span<std::byte>(buffer.data(), std::min(buffer.size(), length - total))};
    auto read = from.file.PRead(in, from.offset, {});
    if (!read.ok() || *read == 0) {
      if (total != 0 || read.ok()) break;
      return read.error();
    }
    KernelIo out{std::span<std::byte>(buffer.data(), *read)};
    auto written = WriteFile(task, to.file, out, to.explicit_offset ? to.offset : kOwnPosition, write_flags);
    if (!written.ok()) {
      if (total != 0) break;
      return written.error();
    }
    from.offset += static_cast<int64_t>(*written);
    to.offset += static_cast<int64_t>(*written);
    total += *written;
    if (*written < *read || task.SignalPending()) break;
  }
  return total;
}

// A source without an explicit offset is read at its position, which then moves on by what was done.
Result<size_t> CopyFrom(Task& task, Place& from, Place& to, size_t length) {
  if (!from.explicit_offset) from.offset = TRY(CurrentPosition(from.file));
  size_t n = TRY(Copy(task, from, to, length));
  if (!from.explicit_offset && n != 0) TRY(from.file.Seek(from.offset, SEEK_SET));
  return n;
}

}  // namespace

// fs/read_write.c, do_sendfile.
Result<size_t> SysSendfile(Task& task, FdArg out_fd, FdArg in_fd, UserPtr<int64_t> offset, size_t count) {
  auto in = TRY(GetReadable(task, Fd(in_fd)));
  Place from = TRY(PlaceOf(task, *in, offset));
  auto out = TRY(GetWritable(task, Fd(out_fd)));
  if (static_cast<int64_t>(count) < 0) return Errno(EINVAL);
  if (!in->Seekable() || in->inode()->is_dir())
    return Errno(EINVAL);  // splice_direct_to_actor: a pipe's data would be lost
  if ((out->flags() & O_APPEND) != 0) return Errno(EINVAL);
  count = std::min(count, kMaxRwCount);
  Place to{*out, /*explicit_offset=*/false};
  return Finish(task, CopyFrom(task, from, to, count), from, offset);
}

// fs/splice.c, do_splice.
Result<size_t> SysSplice(Task& task, FdArg in_fd, UserPtr<int64_t> in_offset, FdArg out_fd, UserPtr<int64_t> out_offset,
                         size_t length, uint32_t flags) {
  if (length == 0) return 0;
  if ((flags & ~kSpliceFlags) != 0) return Errno(EINVAL);
  auto in = TRY(GetReadable(task, Fd(in_fd)));
  auto out = TRY(GetWritable(task, Fd(out_fd)));
  length = std::min(length, kMaxRwCount);
  PipeFile* in_pipe = AsPipe(*in);
  PipeFile* out_pipe = AsPipe(*out);
  if ((in_pipe != nullptr && in_offset) || (out_pipe != nullptr && out_offset)) return Errno(ESPIPE);
  if (in_pipe != nullptr && out_pipe != nullptr)
    return PipeToPipe(task, *in_pipe, *out_pipe, length, flags, /*consume=*/true);
  if (in_pipe != nullptr) {
    Place to = TRY(PlaceOf(task, *out, out_offset));
    if ((out->flags() & O_APPEND) != 0) return Errno(EINVAL);
    return Finish(task, PipeToFile(task, *in_pipe, to, length, flags), to, out_offset);
  }
  if (out_pipe != nullptr) {
    Place from = TRY(PlaceOf(task, *in, in_offset));
    return Finish(task, FileToPipe(task, from, *out_pipe, length, flags), from, in_offset);
  }
  return Errno(EINVAL);
}

Result<size_t> SysTee(Task& task, FdArg in_fd, FdArg out_fd, size_t length, uint32_t flags) {
  if ((flags & ~kSpliceFlags) != 0) return Errno(EINVAL);
  if (length == 0) return 0;
  auto in = TRY(GetReadable(task, Fd(in_fd)));
  auto out = TRY(GetWritable(task, Fd(out_fd)));
  PipeFile* in_pipe = AsPipe(*in);
  PipeFile* out_pipe = AsPipe(*out);
  if (in_pipe == nullptr || out_pipe == nullptr) return Errno(EINVAL);
  return PipeToPipe(task, *in_pipe, *out_pipe, std::min(length, kMaxRwCount), flags, /*consume=*/false);
}

Result<size_t> SysVmsplice(Task& task, FdArg fd, UserPtr<abi::Iovec> iov, uint64_t count, uint32_t flags) {
  if ((flags & ~kSpliceFlags) != 0) return Errno(EINVAL);
  auto file = TRY(task.GetFile(Fd(fd)));
  if (!file->readable() && !file->writable()) return Errno(EBADF);
  UserIo io(task.mm(), TRY(ReadIovec(task, iov, count)));
  if (AsPipe(*file) == nullptr) return Errno(EBADF);
  if (io.remaining() == 0) return 0;
  bool nowait = (flags & SPLICE_F_NONBLOCK) != 0;
  if (!file->writable()) return ReadFile(task, *file, io, kOwnPosition, nowait);
  return WriteFile(task, *file, io, kOwnPosition, WriteFlags(task, *file), nowait);
}

// fs/read_write.c, vfs_copy_file_range and generic_copy_file_checks.
Result<size_t> SysCopyFileRange(Task& task, FdArg in_fd, UserPtr<int64_t> in_offset, FdArg out_fd,
                                UserPtr<int64_t> out_offset, size_t length, uint32_t flags) {
  auto in = TRY(task.GetFile(Fd(in_fd)));
  auto out = TRY(task.GetFile(Fd(out_fd)));
  Place from{*in, static_cast<bool>(in_offset)}, to{*out, static_cast<bool>(out_offset)};
  if (flags != 0) return Errno(EINVAL);
  if (in->inode()->is_dir() || out->inode()->is_dir()) return Errno(EISDIR);
  if (in->inode()->type() != FileType::kRegular || out->inode()->type() != FileType::kRegular) return Errno(EINVAL);
  from.offset = in_offset ? TRY(task.mm().Read(in_offset)) : TRY(CurrentPosition(*in));
  to.offset = out_offset ? TRY(task.mm().Read(out_offset)) : TRY(CurrentPosition(*out));
  if (!in->readable() || !out->writable() || (out->flags() & O_APPEND) != 0) return Errno(EBADF);
  if (&in->inode()->superblock() != &out->inode()->superblock()) return Errno(EXDEV);
  length = std::min(length, kMaxRwCount);
  if (from.offset < 0 || to.offset < 0) return Errno(EINVAL);
  int64_t signed_length = static_cast<int64_t>(length), end;
  if (__builtin_add_overflow(from.offset, signed_length, &end) ||
      __builtin_add_overflow(to.offset, signed_length, &end)) {
    return Errno(EOVERFLOW);
  }
  int64_t size = TRY(in->GetAttr()).size;
  signed_length = from.offset >= size ? 0 : std::min(signed_length, size - from.offset);
  if (in->inode() == out->inode() && from.offset < to.offset + signed_length &&
      to.offset < from.offset + signed_length) {
    return Errno(EINVAL);
  }
  if (signed_length == 0) return 0;
  Result<size_t> n = CopyFrom(task, from, to, static_cast<size_t>(signed_length));
  if (!n.ok() || *n == 0) return n;
  if (in_offset) TRY(task.mm().Write(in_offset, from.offset));
  if (out_offset) TRY(task.mm().Write(out_offset, to.offset));
  return n;
}

}  // namespace sentry
