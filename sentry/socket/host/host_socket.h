// --network=host: internet sockets (and NETLINK_ROUTE) that are sockets of the host. Nonblocking on the host's side;
// readiness comes through the reactor. Data goes through the sentry's memory, so that a guest's buffers are never the
// host's business.
//
// The host's rules apply with the sentry's credentials, not the guest's: no raw sockets, nothing to configure. Ports
// for which the host wants a capability are bound by somebody who has it, for guests that have theirs.
#ifndef SENTRY_SOCKET_HOST_HOST_SOCKET_H_
#define SENTRY_SOCKET_HOST_HOST_SOCKET_H_

#include <functional>
#include <memory>
#include <string_view>

#include "base/reactor.h"
#include "base/unique_fd.h"
#include "sentry/socket/provider.h"
#include "sentry/socket/socket.h"

namespace sentry {

class HostSocket final : public Socket {
 public:
  static Result<RefPtr<Socket>> Create(base::Reactor& reactor, const SocketRequest& request);
  HostSocket(base::Reactor& reactor, base::UniqueFd fd, const SocketRequest& request);
  ~HostSocket() override;

  Result<void> Bind(VfsContext& ctx, const SocketAddress& address) override;
  Result<void> Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) override;
  Result<void> Listen(VfsContext& ctx, int backlog) override;
  Result<RefPtr<Socket>> Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) override;
  Result<size_t> Send(OutgoingMessage& message) override;
  Result<size_t> Receive(IncomingMessage& message) override;
  Result<void> Shutdown(int how) override;
  Result<SocketAddress> Name() override;
  Result<SocketAddress> PeerName() override;
  Result<std::string> GetOption(VfsContext& ctx, int level, int name) override;
  Result<void> SetOption(VfsContext& ctx, int level, int name, std::string_view value) override;
  Result<int> ReadableBytes() override;
  Result<int> UnsentBytes() override;
  int TakeError() override;
  base::EventMask Readiness() override;
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  int HostFd() const override { return -1; }

 private:
  // Options that the host keeps; the others of SOL_SOCKET are the sentry's.
  static bool IsHostOption(int level, int name);

  base::Reactor& reactor_;
  const SocketRequest request_;
  const base::UniqueFd fd_;
  std::unique_ptr<base::FdWatch> watch_;  // ends before the descriptor
};

// bind(2) of a socket of the host on somebody else's authority; the address is a struct sockaddr_in or sockaddr_in6.
using PortBinder = std::function<Result<void>(int fd, std::string_view address)>;
// Before the first guest thread runs. Without one, nobody does it.
void SetPortBinder(PortBinder binder);

// AF_INET, AF_INET6 and AF_NETLINK become the host's; UNIX sockets stay in the sandbox.
void RegisterHostSockets(base::Reactor& reactor);

}  // namespace sentry

#endif  // SENTRY_SOCKET_HOST_HOST_SOCKET_H_
