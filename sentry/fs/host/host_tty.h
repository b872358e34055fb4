// HostTty: a terminal of the host that was given to the sandbox (`terminal: true`), as the controlling terminal of a
// guest session.
//
// The host's line discipline does the editing, echoing and the termios; the guest's kernel does job control. Signal
// characters are seen by the host, which signals the process that holds its terminal (runsc); that tells us to signal
// our foreground group. When the host's end is gone, the guest's session is hung up.
#ifndef SENTRY_FS_HOST_HOST_TTY_H_
#define SENTRY_FS_HOST_HOST_TTY_H_

#include "sentry/fs/host/host_file.h"
#include "sentry/fs/tty/terminal.h"

namespace sentry {

class HostTty final : public Terminal {
 public:
  // `fd` is a terminal (HostObject::is_tty); ENOTTY. Options as for other host descriptors.
  static Result<RefPtr<HostTty>> Create(Kernel& kernel, base::UniqueFd fd, HostObject::Options options);
  // For the process's stdio: a description of it.
  Result<RefPtr<FileDescription>> NewDescription(uint32_t flags);
  Result<RefPtr<FileDescription>> OpenTerminal(const VfsPath& path, uint32_t flags) override;
  Result<void> SetWindowSize(abi::Winsize size) override;
  int device_number() const override { return device_; }
  // The path under which the guest knows it (/dev/pts/N), for NewDescription; "host:[…]" without. Before it is shared.
  Result<void> SetPath(VfsPath path);
  HostObject& object() { return *object_; }

  // TIOCS… of its descriptions.
  Result<int64_t> Ioctl(Task& task, const IoctlArgs& args, bool readable);

 private:
  HostTty(Kernel& kernel, RefPtr<HostObject> object) : Terminal(kernel), object_(std::move(object)) {}
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);
  const RefPtr<HostObject> object_;
  // Set once, before it is shared.
  int device_ = 0;
  VfsPath path_;  // does not own the terminal
};

}  // namespace sentry

#endif  // SENTRY_FS_HOST_HOST_TTY_H_
