// Terminal: what a pty's slave and a host terminal have in common: being opened as /dev/tty, job control ioctls, its
// size.
#ifndef SENTRY_FS_TTY_TERMINAL_H_
#define SENTRY_FS_TTY_TERMINAL_H_

#include <functional>
#include <optional>

#include "base/mutex.h"
#include "sentry/fs/tty/termios.h"
#include "sentry/kernel/process_group.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class Kernel;

class Terminal : public Tty {
 public:
  explicit Terminal(Kernel& kernel) : kernel_(kernel) {}

  // A further description of it; `path` is what was opened. EIO after a hangup.
  virtual Result<RefPtr<FileDescription>> OpenTerminal(const VfsPath& path, uint32_t flags) = 0;
  // TIOCSWINSZ: SIGWINCH to the foreground group if it changed. Any fiber or thread.
  virtual Result<void> SetWindowSize(abi::Winsize size) = 0;
  Kernel& kernel() { return kernel_; }
  // Called once when the last reference is gone, before the object is: its name in /dev/pts goes. Must not wait. Set
  // before it is shared.
  void SetOnEnd(std::function<void()> on_end) { on_end_ = std::move(on_end); }

  // open(2) without O_NOCTTY by a session leader that has no terminal makes this its controlling one
  // (tty_open_proc_set_tty).
  void MaybeBecomeControlling(Task& task, uint32_t open_flags);

 protected:
  // TIOCSCTTY, TIOCNOTTY, TIOCGPGRP, TIOCSPGRP, TIOCGSID; nothing for other commands. `task`: who asks.
  std::optional<Result<int64_t>> JobControlIoctl(Task& task, const IoctlArgs& args, bool readable);
  // The session lets go of it before it is destroyed. That needs TaskSet::mu, which whoever drops the last reference
  // may hold: so it is done on an executor.
  void OnLastUnref() const override;

  Kernel& kernel_;

 private:
  std::function<void()> on_end_;
};

// The task that a vfs call or ioctl is made for; null inside the sentry.
Task* TaskOf(const VfsContext& ctx);

// /dev/tty (5:0): the controlling terminal of who opens it, ENXIO without one. Once, by boot.
void RegisterTtyDevice();

}  // namespace sentry

#endif  // SENTRY_FS_TTY_TERMINAL_H_
