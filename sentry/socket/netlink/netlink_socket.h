// AF_NETLINK: NETLINK_ROUTE as far as one needs it to ask for interfaces, addresses and routes (man 7 rtnetlink): what
// getifaddrs(3), getaddrinfo(3) and `ip addr` use. There is lo and nothing else, and nothing can be changed (EPERM).
#ifndef SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_
#define SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_

#include "sentry/socket/datagram_queue.h"
#include "sentry/socket/provider.h"

namespace sentry {

class NetlinkSocket final : public Socket {
 public:
  static Result<RefPtr<Socket>> Create(const SocketRequest& request);
  explicit NetlinkSocket(const SocketRequest& request);

  Result<void> Bind(VfsContext& ctx, const SocketAddress& address) override;
  Result<void> Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) override;
  Result<size_t> Send(OutgoingMessage& message) override;
  Result<size_t> Receive(IncomingMessage& message) override;
  Result<SocketAddress> Name() override;
  Result<SocketAddress> PeerName() override;
  Result<std::string> GetOption(VfsContext& ctx, int level, int name) override;
  Result<void> SetOption(VfsContext& ctx, int level, int name, std::string_view value) override;
  Result<int> ReadableBytes() override { return static_cast<int>(queue_.FirstSize()); }
  base::EventMask Readiness() override;

 private:
  void Autobind();
  void Reply(std::string datagram);

  DatagramQueue queue_;
  std::atomic<uint32_t> port_id_{0};
  std::atomic<uint32_t> groups_{0};
};

// The answers to one request: datagrams to be queued. `request` is one message with its header, whole. For tests and
// fuzzers as well.
std::vector<std::string> AnswerRoute(std::string_view request, uint32_t port_id);

void RegisterNetlinkSockets();

}  // namespace sentry

#endif  // SENTRY_SOCKET_NETLINK_NETLINK_SOCKET_H_
