// UDP over lo (man 7 udp): a bounded queue per socket; what does not fit is dropped, as on a network.
#ifndef SENTRY_SOCKET_INET_UDP_SOCKET_H_
#define SENTRY_SOCKET_INET_UDP_SOCKET_H_

#include "sentry/socket/datagram_queue.h"
#include "sentry/socket/inet/inet_socket.h"

namespace sentry {

class UdpEndpoint final : public PortBinding {
 public:
  UdpEndpoint(RefPtr<NetworkNamespace> net, RefPtr<SocketEvents> events)
      : net_(std::move(net)), events_(std::move(events)) {}
  ~UdpEndpoint() override;
  size_t Pending() const { return queue_.charged(); }
  uint64_t drops() const { return drops_.load(std::memory_order_relaxed); }

 private:
  friend class UdpSocket;
  const RefPtr<NetworkNamespace> net_;
  const RefPtr<SocketEvents> events_;
  DatagramQueue queue_;
  std::atomic<size_t> receive_space_{Socket::kDefaultBuffer};
  std::atomic<bool> receive_shut_{false};
  std::atomic<uint64_t> drops_{0};
};

class UdpSocket final : public InetSocket {
 public:
  explicit UdpSocket(const SocketRequest& request);
  ~UdpSocket() override;

  Result<void> Bind(VfsContext& ctx, const SocketAddress& address) override;
  Result<void> Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) override;
  Result<size_t> Send(OutgoingMessage& message) override;
  Result<size_t> Receive(IncomingMessage& message) override;
  Result<void> Shutdown(int how) override;
  Result<SocketAddress> Name() override;
  Result<SocketAddress> PeerName() override;
  Result<std::string> GetOption(VfsContext& ctx, int level, int name) override;
  Result<void> SetOption(VfsContext& ctx, int level, int name, std::string_view value) override;
  Result<int> ReadableBytes() override;
  Result<int> UnsentBytes() override { return 0; }
  void OptionsChanged() override;
  base::EventMask Readiness() override;

 protected:
  bool Bound() override;
  bool HasPeer() override;

 private:
  Result<void> BindLocked(IpEndpoint to) REQUIRES(naming_);
  IpEndpoint AnyAddress() const { return {v6() ? IpAddress::V6Any() : IpAddress::V4(0), 0}; }
  void AddControl(const Chunk& datagram, IncomingMessage& message);

  const RefPtr<UdpEndpoint> endpoint_;
  std::atomic<bool> send_shut_{false};
  std::atomic<uint32_t> control_options_{0};  // which of the options of AddControl are on
  base::FiberMutex naming_;
  bool bound_ GUARDED_BY(naming_) = false;
  IpEndpoint asked_ GUARDED_BY(naming_);
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_INET_UDP_SOCKET_H_
