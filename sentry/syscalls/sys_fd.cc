#include "sentry/syscalls/sys_fd.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <sys/resource.h>

#include "sentry/fs/pipe/pipe_file.h"
#include "sentry/kernel/async_signals.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/path_args.h"
#include "sentry/syscalls/sys_lock.h"
#include "sentry/syscalls/sys_memfd.h"
#include "sentry/vfs/file_locks.h"

namespace sentry {

// Pipes, sockets and terminals; other files keep the flag and send nothing, as those without a fasync operation do.
bool SupportsAsync(FileDescription& file) {
  const FileType type = file.inode()->type();
  return file.wait_queue() != nullptr &&
         (type == FileType::kFifo || type == FileType::kSocket || type == FileType::kCharDevice);
}

namespace {

// fs/fcntl.c, SETFL_MASK.
constexpr uint32_t kSetFlags = O_APPEND | O_NONBLOCK | O_DIRECT | O_ASYNC | O_NOATIME;

constexpr uint32_t kCreatedQuery = 1024 + 4;  // F_CREATED_QUERY (include/uapi/linux/fcntl.h), from Linux 6.12

struct OwnerEx {
  int32_t type, pid;
};

Result<int64_t> SetStatus(Task& task, FileDescription& file, Fd fd, uint32_t argument) {
  uint32_t old = file.flags();
  uint32_t flags = (old & ~kSetFlags) | (argument & kSetFlags);
  auto inode = file.inode();
  if ((flags & O_NOATIME) != 0 && (old & O_NOATIME) == 0) {
    Attr attr = TRY(file.GetAttr());
    if (attr.uid != task.creds().fsuid && !task.Capable(CAP_FOWNER)) return Errno(EPERM);
  }
  if ((flags & O_DIRECT) != 0 && (old & O_DIRECT) == 0 && inode->type() != FileType::kRegular &&
      inode->type() != FileType::kBlockDevice && AsPipe(file) == nullptr) {
    return Errno(EINVAL);
  }
  TRY(file.SetStatusFlags(flags));
  if (((flags ^ old) & O_ASYNC) && SupportsAsync(file)) SetAsync(task, file, fd, (flags & O_ASYNC) != 0);
  return 0;
}

Result<int64_t> SetOwner(Task& task, FileDescription& file, int type, int id) {
  TRY(SetAsyncOwner(task, file, type, id));
  return 0;
}

// fs/locks.c: fcntl_setlease.
Result<int64_t> SetLease(Task& task, RefPtr<FileDescription> file, Fd fd, uint64_t argument) {
  LockType type;
  switch (argument) {
    case F_RDLCK:
      type = LockType::kRead;
      break;
    case F_WRLCK:
      type = LockType::kWrite;
      break;
    case F_UNLCK:
      type = LockType::kUnlock;
      break;
    default:
      return Errno(EINVAL);
  }
  Inode& inode = *file->inode();
  if (type != LockType::kUnlock) {
    if (TRY(file->GetAttr()).uid != task.creds().fsuid && !task.Capable(CAP_LEASE)) return Errno(EACCES);
    if (inode.type() != FileType::kRegular) return Errno(EINVAL);
    bool unowned;
    {
      base::MutexLock lock(file->owner_mu);
      file->owner.fd = fd;
      unowned = !file->owner.target;
    }
    if (unowned) TRY(SetAsyncOwner(task, *file, F_OWNER_PID, task.thread_group().pid()));
  }
  // Called only as long as the description has the lease, which it gives back before it ends.
  FileDescription* holder = file.get();
  AsyncSignals& signals = task.kernel().async_signals();
  TRY(inode.locks().SetLease(holder, type, inode.open_count.load(), inode.write_count.load(), file->writable(),
                             [&signals, holder] { signals.Queue(*holder, PollCode::kMessage); }));
  return 0;
}

int LeaseOf(FileDescription& file) {
  Inode& inode = *file.inode();  // which its description keeps
  FileLocks* locks = inode.locks_if_any();
  switch (locks == nullptr ? LockType::kUnlock : locks->GetLease(&file)) {
    case LockType::kRead:
      return F_RDLCK;
    case LockType::kWrite:
      return F_WRLCK;
    case LockType::kUnlock:
      break;
  }
  return F_UNLCK;
}

Result<int64_t> DupFrom(Task& task, RefPtr<FileDescription> file, uint64_t min, bool cloexec) {
  uint64_t limit = task.thread_group().Limit(RLIMIT_NOFILE);
  if (min >= limit || min > INT32_MAX) return Errno(EINVAL);
  return TRY(task.fds().Install(std::move(file), cloexec, limit, static_cast<Fd>(min)));
}

bool AllowedOnPathDescriptor(uint32_t command) {
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_GETFD:
    case F_SETFD:
    case F_GETFL:
      return true;
    default:
      return false;
  }
}

}  // namespace

void CloseDescription(Task& task, RefPtr<FileDescription> file) {
  VfsContext ctx;
  ctx.creds = task.creds_ref();
  ctx.lock_owner = &task.fds();
  ctx.lock_pid = task.thread_group().pid();
  ctx.task = &task;
  file->OnDescriptorClosed(ctx);
  const RefPtr<Lingering> lingering = file->Linger();
  if (lingering == nullptr) return;
  file.reset();
  // A signal cuts the wait short, and the call succeeds all the same (sk_stream_wait_close).
  static_cast<void>(task.BlockUntil(
      lingering->wait_queue(), base::kEventOut, [&] { return lingering->Over(); }, lingering->deadline()));
}

Result<void> SysClose(Task& task, FdArg fd) {
  CloseDescription(task, TRY(task.fds().Remove(Fd(fd))));
  return {};
}

Result<void> SysCloseRange(Task& task, uint32_t first, uint32_t last, uint32_t flags) {
  if ((flags & ~uint32_t{CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC}) != 0 || first > last) return Errno(EINVAL);
  if ((flags & CLOSE_RANGE_UNSHARE) != 0 && task.fds().shared()) TRY(task.Unshare(CLONE_FILES));
  if ((flags & CLOSE_RANGE_CLOEXEC) != 0) {
    task.fds().SetCloexecRange(first, last);
    return {};
  }
  for (RefPtr<FileDescription>& file : task.fds().RemoveRange(first, last)) CloseDescription(task, std::move(file));
  return {};
}

Result<Fd> SysDup(Task& task, FdArg fd) {
  return task.InstallFile(TRY(task.fds().Get(Fd(fd), /*allow_path=*/true)), /*cloexec=*/false);
}

Result<Fd> SysDup2(Task& task, FdArg from, FdArg to) {
  auto file = TRY(task.fds().Get(Fd(from), /*allow_path=*/true));
  if (from == to) return Fd(to);
  RefPtr<FileDescription> old =
      TRY(task.fds().InstallAt(Fd(to), std::move(file), /*cloexec=*/false, task.thread_group().Limit(RLIMIT_NOFILE)));
  if (old != nullptr) CloseDescription(task, std::move(old));
  return Fd(to);
}

Result<Fd> SysDup3(Task& task, FdArg from, FdArg to, uint32_t flags) {
  if ((flags & ~uint32_t{O_CLOEXEC}) != 0 || from == to) return Errno(EINVAL);
  uint64_t limit = task.thread_group().Limit(RLIMIT_NOFILE);
  if (Fd(to) < 0 || static_cast<uint64_t>(Fd(to)) >= limit) return Errno(EBADF);
  auto file = TRY(task.fds().Get(Fd(from), /*allow_path=*/true));
  RefPtr<FileDescription> old = TRY(task.fds().InstallAt(Fd(to), std::move(file), (flags & O_CLOEXEC) != 0, limit));
  if (old != nullptr) CloseDescription(task, std::move(old));
  return Fd(to);
}

Result<int64_t> SysFcntl(Task& task, FdArg fd, uint32_t command, uint64_t argument) {
  auto file = TRY(task.fds().Get(Fd(fd), AllowedOnPathDescriptor(command)));
  switch (command) {
    case F_DUPFD:
      return DupFrom(task, std::move(file), argument, /*cloexec=*/false);
    case F_DUPFD_CLOEXEC:
      return DupFrom(task, std::move(file), argument, /*cloexec=*/true);
    case F_GETFD:
      return TRY(task.fds().CloseOnExec(Fd(fd))) ? FD_CLOEXEC : 0;
    case F_SETFD:
      TRY(task.fds().SetCloseOnExec(Fd(fd), (argument & FD_CLOEXEC) != 0));
      return 0;
    case F_GETFL:
      return file->flags();
    case F_SETFL:
      return SetStatus(task, *file, Fd(fd), static_cast<uint32_t>(argument));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      TRY(FcntlLock(task, *file, command, UserPtr<abi::Flock>{argument}));
      return 0;
    case F_SETOWN: {
      int32_t id = static_cast<int32_t>(argument);
      if (id == INT32_MIN) return Errno(EINVAL);
      return id < 0 ? SetOwner(task, *file, F_OWNER_PGRP, -id) : SetOwner(task, *file, F_OWNER_PID, id);
    }
    case F_GETOWN: {
      base::MutexLock lock(file->owner_mu);
      return file->owner.type == F_OWNER_PGRP ? -file->owner.id : file->owner.id;
    }
    case F_SETOWN_EX: {
      OwnerEx owner = TRY(task.mm().Read(UserPtr<OwnerEx>{argument}));
      if (owner.type != F_OWNER_TID && owner.type != F_OWNER_PID && owner.type != F_OWNER_PGRP) return Errno(EINVAL);
      return SetOwner(task, *file, owner.type, owner.pid);
    }
    case F_GETOWN_EX: {
      OwnerEx owner;
      {
        base::MutexLock lock(file->owner_mu);
        owner = {file->owner.type, file->owner.id};
      }
      TRY(task.mm().Write(UserPtr<OwnerEx>{argument}, owner));
      return 0;
    }
    case F_SETSIG: {
      if (argument > kSignals) return Errno(EINVAL);
      base::MutexLock lock(file->owner_mu);
      file->owner.signal = static_cast<int>(argument);
      return 0;
    }
    case F_GETSIG: {
      base::MutexLock lock(file->owner_mu);
      return file->owner.signal;
    }
    case kCreatedQuery:
      return file->created ? 1 : 0;
    case F_GETLEASE:
      return LeaseOf(*file);
    case F_SETLEASE:
      return SetLease(task, file, Fd(fd), argument);
    case F_SETPIPE_SZ: {
      PipeFile* pipe = AsPipe(*file);
      if (pipe == nullptr) return Errno(EBADF);
      return TRY(pipe->pipe().Resize(static_cast<uint32_t>(argument), task.Capable(CAP_SYS_RESOURCE)));
    }
    case F_GETPIPE_SZ: {
      PipeFile* pipe = AsPipe(*file);
      if (pipe == nullptr) return Errno(EBADF);
      return static_cast<int64_t>(pipe->pipe().capacity_bytes());
    }
    case F_ADD_SEALS:
      return AddSeals(*file, static_cast<uint32_t>(argument));
    case F_GET_SEALS:
      return GetSeals(*file);
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT:
      TRY(task.mm().Write(UserPtr<uint64_t>{argument}, uint64_t{0}));  // RWH_WRITE_LIFE_NOT_SET
      return 0;
    case F_SET_RW_HINT:
    case F_SET_FILE_RW_HINT: {
      uint64_t hint = TRY(task.mm().Read(UserPtr<uint64_t>{argument}));
      if (hint > 5) return Errno(EINVAL);
      return 0;  // a hint: nothing has to come of it
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry
