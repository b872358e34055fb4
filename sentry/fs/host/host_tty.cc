#include "sentry/fs/host/host_tty.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/syscall_unsafe.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {
namespace {

class HostTtyFile final : public HostFile {
 public:
  HostTtyFile(VfsPath path, uint32_t flags, RefPtr<HostObject> object, RefPtr<HostTty> tty)
      : HostFile(std::move(path), flags, std::move(object)), tty_(std::move(tty)) {}

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override {
    if (Task* task = Task::Current()) TRY(tty_->CheckBackground(*task, kSIGTTIN));
    return HostFile::Read(to, flags);
  }
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override {
    if (Task* task = Task::Current()) {
      struct termios termios {};
      bool stops = base::Host(SYS_ioctl, object_->fd(), TCGETS, &termios).ok() && (termios.c_lflag & TOSTOP) != 0;
      if (stops) TRY(tty_->CheckBackground(*task, kSIGTTOU));
    }
    return HostFile::Write(from, flags);
  }
  // Of what was opened: /dev/console and /dev/tty look like what they are, so that ttyname(3) finds them.
  Result<Attr> GetAttr() override { return inode()->GetAttr(); }
  Result<int64_t> Ioctl(const IoctlArgs& args) override {
    Task* task = TaskOf(args.ctx);
    if (task == nullptr) return HostFile::Ioctl(args);
    return tty_->Ioctl(*task, args, readable());
  }

 private:
  RefPtr<HostTty> tty_;
};

}  // namespace

Result<RefPtr<HostTty>> HostTty::Create(Kernel& kernel, base::UniqueFd fd, HostObject::Options options) {
  auto object = TRY(HostObject::Create(kernel.scheduler().reactor(), std::move(fd), options));
  if (!object->is_tty()) return Errno(ENOTTY);
  Attr attr = TRY(object->GetAttr());
  auto tty = base::MakeRef<HostTty>(kernel, std::move(object));
  tty->device_ = static_cast<int>(attr.rdev);
  return tty;
}

Result<RefPtr<FileDescription>> HostTty::NewDescription(uint32_t flags) {
  if (path_.valid()) return OpenTerminal(path_, flags);
  return OpenTerminal(TRY(NewHostPath(object_, RefPtr<Terminal>(this))), flags);
}

Result<void> HostTty::SetPath(VfsPath path) {
  device_ = static_cast<int>(TRY(path.inode()->GetAttr()).rdev);
  path_ = std::move(path);
  return {};
}

Result<RefPtr<FileDescription>> HostTty::OpenTerminal(const VfsPath& path, uint32_t flags) {
  return RefPtr<FileDescription>(base::MakeRef<HostTtyFile>(path, flags, object_, RefPtr<HostTty>(this)));
}

Result<void> HostTty::SetWindowSize(abi::Winsize size) {
  abi::Winsize before{};
  bool known = base::Host(SYS_ioctl, object_->fd(), TIOCGWINSZ, &before).ok();
  if (known && before == size) return {};
  TRY(base::Host(SYS_ioctl, object_->fd(), TIOCSWINSZ, &size));
  SignalForeground(kernel_, kSIGWINCH);
  return {};
}

Result<int64_t> HostTty::Ioctl(Task& task, const IoctlArgs& args, bool readable) {
  if (auto handled = JobControlIoctl(task, args, readable)) return *handled;
  switch (args.command) {
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCFLSH:
    case TCXONC:
    case TCSBRK:
    case TCSBRKP:
      TRY(CheckBackground(task, kSIGTTOU));
      break;
    case TIOCSWINSZ:
      TRY(SetWindowSize(TRY(args.memory.Read(UserPtr<abi::Winsize>{args.argument}))));
      return 0;
    default:
      break;
  }
  return HostTerminalIoctl(object_->fd(), args);
}

}  // namespace sentry
