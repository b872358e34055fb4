#include "runsc/container/console.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status_macros.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"

namespace runsc::container {
namespace {

// write(2) to a terminal or pipe that may be non-blocking (we did not open it).
bool WriteFully(int fd, const char* data, size_t size) {
  while (size > 0) {
    ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd p{fd, POLLOUT, 0};
      poll(&p, 1, -1);
      continue;
    }
    if (n < 0) return false;
    data += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

absl::StatusOr<Pty> OpenPty(uint16_t rows, uint16_t columns) {
  Pty pty;
  pty.master.reset(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.master.valid()) return host::ErrnoStatus(errno, "cannot open /dev/ptmx for the container's terminal");
  if (unlockpt(pty.master.get()) < 0) return host::ErrnoStatus(errno, "cannot unlock the container's terminal");
  // Not by name: which devpts has it mounted is another question (man 2 ioctl_tty).
  pty.slave.reset(ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.slave.valid()) return host::ErrnoStatus(errno, "cannot open the container's terminal");
  char name[64];
  if (ptsname_r(pty.master.get(), name, sizeof(name)) == 0) pty.name = name;
  if (rows != 0 || columns != 0) {
    winsize size{rows, columns, 0, 0};
    ioctl(pty.master.get(), TIOCSWINSZ, &size);
  }
  return pty;
}

absl::Status SendMaster(const std::string& path, const Pty& pty) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    return absl::InvalidArgumentError("--console-socket: the path is too long");
  memcpy(address.sun_path, path.data(), path.size());
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return host::ErrnoStatus(errno, "socket");
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    return host::ErrnoStatus(errno, "cannot connect to the console socket " + path);
  }
  std::string name = pty.name.empty() ? "/dev/ptmx" : pty.name;
  iovec vec{name.data(), name.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  int fd = pty.master.get();
  memcpy(CMSG_DATA(c), &fd, sizeof(fd));
  if (sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) {
    return host::ErrnoStatus(errno, "cannot send the terminal to the console socket " + path);
  }
  return absl::OkStatus();
}

TerminalProxy::TerminalProxy(base::UniqueFd master) : master_(std::move(master)) {
  termios attributes;
  if (tcgetattr(0, &attributes) == 0) {
    saved_ = attributes;
    cfmakeraw(&attributes);
    tcsetattr(0, TCSANOW, &attributes);
  }
  Resize();
}

TerminalProxy::~TerminalProxy() {
  if (saved_) tcsetattr(0, TCSANOW, &*saved_);
}

void TerminalProxy::Resize() {
  winsize size;
  if (ioctl(0, TIOCGWINSZ, &size) == 0) ioctl(master_.get(), TIOCSWINSZ, &size);
}

void TerminalProxy::CopyInput() {
  char buffer[4096];
  ssize_t n = read(0, buffer, sizeof(buffer));
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    // The end of a piped input is ^D for the terminal's reader.
    input_open_ = false;
    if (!saved_) WriteFully(master_.get(), "\x04", 1);
    return;
  }
  if (!WriteFully(master_.get(), buffer, static_cast<size_t>(n))) input_open_ = false;
}

void TerminalProxy::CopyOutput() {
  char buffer[4096];
  ssize_t n = read(master_.get(), buffer, sizeof(buffer));
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  // EIO: no slave is open any more.
  if (n <= 0 || !WriteFully(1, buffer, static_cast<size_t>(n))) output_open_ = false;
}

void TerminalProxy::DrainOutput() {
  while (output_open_) {
    pollfd p{master_.get(), POLLIN, 0};
    if (poll(&p, 1, 0) <= 0 || (p.revents & POLLIN) == 0) break;
    CopyOutput();
  }
}

}  // namespace runsc::container
