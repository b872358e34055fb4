// AF_UNIX sockets (man 7 unix, net/unix/af_unix.c). UnixSocket is the open file; its code is split by activity:
// unix_bind.cc, unix_connect.cc, unix_transfer.cc, unix_host.cc.
#ifndef SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
#define SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_

#include <optional>
#include <string>

#include "sentry/socket/provider.h"
#include "sentry/socket/socket.h"
#include "sentry/socket/unix/unix_endpoint.h"

namespace sentry {

class UnixSocket final : public Socket {
 public:
  // `reactor`: watches sockets of the host; without one there are none.
  static Result<RefPtr<Socket>> Create(const SocketRequest& request, base::Reactor* reactor = nullptr);
  static Result<std::pair<RefPtr<Socket>, RefPtr<Socket>>> CreatePair(const SocketRequest& request,
                                                                      base::Reactor* reactor = nullptr);

  UnixSocket(const SocketRequest& request, base::Reactor* reactor, RefPtr<SocketEvents> events = nullptr,
             RefPtr<UnixEndpoint> endpoint = nullptr);
  ~UnixSocket() override;

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
  bool Listening() override;
  void OptionsChanged() override;
  void CollectQueuedRights(std::vector<RefPtr<Rights>>& out) override;
  void PurgeQueue() override;
  base::EventMask Readiness() override;
  Result<bool> AtMark() override;

 private:
  bool datagrams() const { return type() == SOCK_DGRAM; }
  Result<void> Autobind();
  // The endpoint that an address names; or null and a connection to the host's socket there. ECONNREFUSED, EPROTOTYPE
  // and the errors of a path walk; EAGAIN while the host's backlog is full.
  Result<RefPtr<UnixEndpoint>> Find(VfsContext* ctx, const SocketAddress& address, RefPtr<HostPeer>& host);
  // Find for connect(2), which waits for room in the host's backlog.
  Result<RefPtr<UnixEndpoint>> FindForConnect(VfsContext& ctx, const SocketAddress& address, RefPtr<HostPeer>& host);
  Result<void> ConnectToHost(const SocketAddress& address, RefPtr<HostPeer> host);
  Result<RefPtr<Socket>> AcceptFromHost(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer);
  RefPtr<HostPeer> host_peer();
  RefPtr<HostPeer> host_bound();
  Result<void> ConnectDatagram(VfsContext& ctx, const SocketAddress& address);
  Result<size_t> SendDatagram(OutgoingMessage& message);
  Result<size_t> ReceiveDatagram(IncomingMessage& message);
  void FollowSpaceOf(const RefPtr<UnixEndpoint>& peer);
  static void Join(UnixSocket& a, UnixSocket& b, const SenderId& id);

  const SocketRequest request_;  // to make accepted ones
  base::Reactor* const reactor_;
  const RefPtr<UnixEndpoint> endpoint_;
  // A datagram socket hears of room in its peer's queue.
  base::FiberMutex connecting_;
  std::optional<base::WaitEntry> peer_wait_ GUARDED_BY(connecting_);
  RefPtr<UnixEndpoint> watched_ GUARDED_BY(connecting_);
};

// Registers AF_UNIX.
void RegisterUnixSockets(base::Reactor* reactor = nullptr);

}  // namespace sentry

#endif  // SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
