#include "sentry/fs/tty/terminal.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>

#include "base/executor.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

namespace sentry {

Task* TaskOf(const VfsContext& ctx) { return static_cast<Task*>(ctx.task); }

void Terminal::OnLastUnref() const {
  auto* self = const_cast<Terminal*>(this);
  if (on_end_) on_end_();
  kernel_.scheduler().executors().front()->Post([self] {
    self->Orphan(self->kernel_);
    delete self;
  });
}

void Terminal::MaybeBecomeControlling(Task& task, uint32_t open_flags) {
  if ((open_flags & O_NOCTTY) != 0 || (open_flags & O_ACCMODE) == O_WRONLY) return;
  // Fails, and nothing happens, for everybody but a leader without a terminal.
  (void)SetControlling(task, /*force=*/false);
}

std::optional<Result<int64_t>> Terminal::JobControlIoctl(Task& task, const IoctlArgs& args, bool readable) {
  auto done = [](Result<void> result) -> Result<int64_t> {
    if (!result.ok()) return result.error();
    return 0;
  };
  auto write_id = [&](Result<int> id) -> Result<int64_t> {
    int32_t value = TRY(std::move(id));
    TRY(args.memory.Write(UserPtr<int32_t>{args.argument}, value));
    return 0;
  };
  switch (args.command) {
    case TIOCSCTTY:
      if (!readable && !task.Capable(CAP_SYS_ADMIN)) return Result<int64_t>(Errno(EPERM));
      return done(SetControlling(task, args.argument == 1));
    case TIOCNOTTY:
      return done(ReleaseControlling(task));
    case TIOCGPGRP:
      return write_id(ForegroundGroup(task));
    case TIOCGSID:
      return write_id(SessionId(task));
    case TIOCSPGRP: {
      auto pgid = args.memory.Read(UserPtr<int32_t>{args.argument});
      if (!pgid.ok()) return Result<int64_t>(pgid.error());
      return done(SetForegroundGroup(task, *pgid));
    }
    default:
      return std::nullopt;
  }
}

void RegisterTtyDevice() {
  vfs::RegisterDevice(FileType::kCharDevice, 5, 0,
                      [](const VfsPath& path, uint32_t flags, VfsContext& ctx) -> Result<RefPtr<FileDescription>> {
                        Task* task = TaskOf(ctx);
                        if (task == nullptr) return Errno(ENXIO);
                        RefPtr<Terminal> terminal;
                        {
                          base::MutexLock tree(task->kernel().tasks().mu);
                          auto& group = task->thread_group().process_group;
                          Tty* tty = group ? group->session->tty : nullptr;
                          if (tty != nullptr && tty->TryRef()) {
                            // Every Tty of this kernel is a Terminal.
                            terminal = RefPtr<Terminal>::Adopt(dynamic_cast<Terminal*>(tty));
                          }
                        }
                        if (terminal == nullptr) return Errno(ENXIO);
                        return terminal->OpenTerminal(path, flags);
                      });
}

}  // namespace sentry
