// HostPeer: a UNIX socket of the host behind one of the sandbox (--host-uds): connected to a socket of the host, or
// bound to a socket file that the guest made on the host. The gofer made it; from then on it is used directly.
//
// Differs from Linux: the host sees the gofer's credentials, and the guest sees nobody's; descriptors do not cross.
#ifndef SENTRY_SOCKET_UNIX_HOST_PEER_H_
#define SENTRY_SOCKET_UNIX_HOST_PEER_H_

#include <memory>

#include "base/reactor.h"
#include "base/unique_fd.h"
#include "sentry/socket/socket.h"

namespace sentry {

class HostPeer final : public base::RefCounted {
 public:
  // `events` are told of readiness as long as this lives.
  HostPeer(base::Reactor& reactor, base::UniqueFd fd, int type, RefPtr<SocketEvents> events);
  ~HostPeer() override;

  Result<size_t> Send(OutgoingMessage& message);
  Result<size_t> Receive(IncomingMessage& message);
  Result<void> Shutdown(int how);
  Result<void> Listen(int backlog);
  Result<base::UniqueFd> Accept();
  base::EventMask Readiness() const;
  Result<int> ReadableBytes() const;
  Result<int> UnsentBytes() const;
  base::Reactor& reactor() const { return reactor_; }

 private:
  bool stream() const;
  base::Reactor& reactor_;
  const base::UniqueFd fd_;
  const int type_;
  std::unique_ptr<base::FdWatch> watch_;  // ends before the descriptor
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_UNIX_HOST_PEER_H_
