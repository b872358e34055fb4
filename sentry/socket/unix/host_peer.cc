#include "sentry/socket/unix/host_peer.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/syscall_unsafe.h"
#include "sentry/socket/host_transfer.h"

namespace sentry {
namespace {

constexpr size_t kMaxPacket = Socket::kMaxBuffer;  // what the host takes into a send buffer

}  // namespace

HostPeer::HostPeer(base::Reactor& reactor, base::UniqueFd fd, int type, RefPtr<SocketEvents> events)
    : reactor_(reactor), fd_(std::move(fd)), type_(type) {
  // The events live as long as the callback may run, for it owns them too.
  watch_ =
      std::make_unique<base::FdWatch>(reactor, fd_.get(), EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                                      [events = std::move(events)](uint32_t ready) { events->queue.Notify(ready); });
}

HostPeer::~HostPeer() { watch_.reset(); }

bool HostPeer::stream() const { return type_ == SOCK_STREAM; }

Result<size_t> HostPeer::Send(OutgoingMessage& message) { return SendToHost(fd_.get(), stream(), kMaxPacket, message); }

Result<size_t> HostPeer::Receive(IncomingMessage& message) {
  size_t n = TRY(ReceiveFromHost(fd_.get(), stream(), kMaxPacket, /*control=*/false, message));
  message.from.reset();  // a name of the host's, which leads nowhere here
  return n;
}

Result<void> HostPeer::Shutdown(int how) {
  TRY(base::Host(SYS_shutdown, fd_.get(), how));
  return {};
}

Result<void> HostPeer::Listen(int backlog) {
  TRY(base::Host(SYS_listen, fd_.get(), backlog));
  return {};
}

Result<base::UniqueFd> HostPeer::Accept() {
  long fd = TRY(base::HostRetry(SYS_accept4, fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  return base::UniqueFd(static_cast<int>(fd));
}

base::EventMask HostPeer::Readiness() const { return HostSocketReadiness(fd_.get()); }

Result<int> HostPeer::ReadableBytes() const {
  int bytes = 0;
  TRY(base::Host(SYS_ioctl, fd_.get(), FIONREAD, &bytes));
  return bytes;
}

Result<int> HostPeer::UnsentBytes() const {
  int bytes = 0;
  TRY(base::Host(SYS_ioctl, fd_.get(), SIOCOUTQ, &bytes));
  return bytes;
}

}  // namespace sentry
