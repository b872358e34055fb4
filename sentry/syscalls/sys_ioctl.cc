#include "sentry/syscalls/sys_ioctl.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "sentry/kernel/async_signals.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/sys_fd.h"
#include "sentry/vfs/file_description.h"

namespace sentry {
namespace {

Result<void> SetFlag(Task& task, FileDescription& file, uint64_t argument, uint32_t flag) {
  int32_t on = TRY(task.mm().Read(UserPtr<int32_t>{argument}));
  return file.SetStatusFlags(on != 0 ? file.flags() | flag : file.flags() & ~flag);
}

}  // namespace

// fs/ioctl.c, do_vfs_ioctl.
Result<int64_t> SysIoctl(Task& task, FdArg fd, uint32_t command, uint64_t argument) {
  auto file = TRY(task.GetFile(Fd(fd)));
  FileType type = file->inode()->type();
  switch (command) {
    case FIOCLEX:
      TRY(task.fds().SetCloseOnExec(Fd(fd), true));
      return 0;
    case FIONCLEX:
      TRY(task.fds().SetCloseOnExec(Fd(fd), false));
      return 0;
    case FIONBIO:
      TRY(SetFlag(task, *file, argument, O_NONBLOCK));
      return 0;
    case FIOASYNC:
      if (!SupportsAsync(*file)) return Errno(ENOTTY);
      TRY(SetFlag(task, *file, argument, O_ASYNC));
      SetAsync(task, *file, Fd(fd), (file->flags() & O_ASYNC) != 0);
      return 0;
    case FIOQSIZE: {
      if (type != FileType::kRegular && type != FileType::kDirectory && type != FileType::kSymlink)
        return Errno(ENOTTY);
      TRY(task.mm().Write(UserPtr<int64_t>{argument}, TRY(file->GetAttr()).size));
      return 0;
    }
    case FIGETBSZ:
      TRY(task.mm().Write(UserPtr<int32_t>{argument}, static_cast<int32_t>(TRY(file->GetAttr()).blksize)));
      return 0;
    case FIONREAD:
      if (type == FileType::kRegular) {
        int64_t left = TRY(file->GetAttr()).size - TRY(CurrentPosition(*file));
        TRY(task.mm().Write(UserPtr<int32_t>{argument}, static_cast<int32_t>(left)));
        return 0;
      }
      break;
    case FICLONE:
    case FICLONERANGE:
    case FIDEDUPERANGE:
      if (type == FileType::kRegular) return Errno(EOPNOTSUPP);
      break;
    default:
      break;
  }
  VfsContext ctx = task.MakeVfsContext();
  IoctlArgs args{command, argument, task.mm(), ctx};
  return file->Ioctl(args);
}

}  // namespace sentry
