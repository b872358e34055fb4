// AF_UNIX sockets (man 7 unix, net/unix/af_unix.c).
//
// UnixSocket is the open file; UnixEndpoint is what names, peers and accept queues refer to. An endpoint that is closed
// stays as long as somebody refers to it (a socket file that nobody unlinked) and answers ECONNREFUSED.
//
// Locking: UnixEndpoint::mu_; two of them through MutexPairLock. Beneath it: NetworkNamespace, the queues,
// Connection::mu_.
#ifndef SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
#define SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_

#include <sys/un.h>

#include <deque>
#include <optional>
#include <string>

#include "sentry/socket/connection.h"
#include "sentry/socket/datagram_queue.h"
#include "sentry/socket/network_namespace.h"
#include "sentry/socket/provider.h"
#include "sentry/socket/socket.h"

namespace sentry {

class UnixEndpoint final : public base::RefCounted {
 public:
  UnixEndpoint(int type, RefPtr<NetworkNamespace> net, RefPtr<SocketEvents> events);
  ~UnixEndpoint() override;

  enum class State { kUnconnected, kListening, kConnected, kClosed };
  // A line of /proc/net/unix.
  std::string Describe() EXCLUDES(mu_);

 private:
  friend class UnixSocket;
  static constexpr size_t kMaxDatagrams = 10;  // net.unix.max_dgram_qlen
  // unix_recvq_full(), for a datagram from `sender`.
  bool FullFor(const UnixEndpoint& sender) EXCLUDES(mu_);
  void Close() EXCLUDES(mu_);

  const int type_;
  const RefPtr<NetworkNamespace> net_;
  const RefPtr<SocketEvents> events_;
  const RefPtr<SocketEvents> space_;  // room in the accept queue or the datagram queue; closed
  std::atomic<bool> pass_credentials_{false};
  std::atomic<uint64_t> ino_{0};
  DatagramQueue datagrams_;

  base::Mutex mu_;
  State state_ GUARDED_BY(mu_) = State::kUnconnected;
  SocketAddress name_ GUARDED_BY(mu_);     // length 0: unnamed
  bool abstract_ GUARDED_BY(mu_) = false;  // name_ is in the namespace's table
  RefPtr<UnixEndpoint> peer_ GUARDED_BY(mu_);
  uint8_t shut_ GUARDED_BY(mu_) = 0;  // datagrams and unconnected: RCV_SHUTDOWN 1, SEND_SHUTDOWN 2
  int backlog_ GUARDED_BY(mu_) = 0;
  std::deque<RefPtr<UnixEndpoint>> accept_queue_ GUARDED_BY(mu_);
  SenderId own_id_ GUARDED_BY(mu_);  // at listen or connect: the peer's SO_PEERCRED
  std::optional<SenderId> peer_id_ GUARDED_BY(mu_);
  RefPtr<Connection> connection_ GUARDED_BY(mu_);  // set once, with side_
  int side_ = 0;
  std::atomic<Connection*> published_{nullptr};  // connection_, for those who need no lock
};

class UnixSocket final : public Socket {
 public:
  static Result<RefPtr<Socket>> Create(const SocketRequest& request);
  static Result<std::pair<RefPtr<Socket>, RefPtr<Socket>>> CreatePair(const SocketRequest& request);

  UnixSocket(const SocketRequest& request, RefPtr<SocketEvents> events = nullptr,
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

 private:
  bool datagrams() const { return type() == SOCK_DGRAM; }
  Result<void> Autobind();
  // The endpoint that an address names. ECONNREFUSED, EPROTOTYPE and the errors of a path walk.
  Result<RefPtr<UnixEndpoint>> Find(VfsContext* ctx, const SocketAddress& address);
  Result<void> ConnectDatagram(VfsContext& ctx, const SocketAddress& address);
  Result<size_t> SendDatagram(OutgoingMessage& message);
  Result<size_t> ReceiveDatagram(IncomingMessage& message);
  void FollowSpaceOf(const RefPtr<UnixEndpoint>& peer);
  static void Join(UnixSocket& a, UnixSocket& b, const SenderId& id);

  const SocketRequest request_;  // to make accepted ones
  const RefPtr<UnixEndpoint> endpoint_;
  // A datagram socket hears of room in its peer's queue.
  base::FiberMutex connecting_;
  std::optional<base::WaitEntry> peer_wait_ GUARDED_BY(connecting_);
  RefPtr<UnixEndpoint> watched_ GUARDED_BY(connecting_);
};

// Registers AF_UNIX.
void RegisterUnixSockets();
// The text of /proc/net/unix.
std::string UnixProcNet(NetworkNamespace& net);

}  // namespace sentry

#endif  // SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
