// TCP over lo (man 7 tcp): a Connection between two sockets that a listener brings together. No segments, no timers, no
// TIME_WAIT.
//
// Differs from Linux: no fast open, a port is free again as soon as its last
// socket is closed, and a connection to one's own port is refused.
//
// Locking: TcpEndpoint::mu_; a listener's and a client's through MutexPairLock. Beneath it: Connection::mu_,
// PortTable::mu_.
#ifndef SENTRY_SOCKET_INET_TCP_SOCKET_H_
#define SENTRY_SOCKET_INET_TCP_SOCKET_H_

#include <deque>

#include "sentry/socket/accept_queue.h"
#include "sentry/socket/connection.h"
#include "sentry/socket/inet/inet_socket.h"

namespace sentry {

class TcpEndpoint final : public PortBinding {
 public:
  enum class State { kClosed, kConnecting, kConnected, kListening };
  TcpEndpoint(RefPtr<NetworkNamespace> net, RefPtr<SocketEvents> events)
      : net_(std::move(net)), events_(std::move(events)) {}

  ~TcpEndpoint() override;
  // TCP_ESTABLISHED and so on (include/net/tcp_states.h).
  int LinuxState() EXCLUDES(mu_);
  // Bytes to read and, for a listener, connections to accept; for /proc/net/tcp.
  size_t Pending() EXCLUDES(mu_);

 private:
  friend class TcpSocket;
  static constexpr size_t kMaxWaiting = 4096;  // connections that wait for room in one accept queue
  // Ends it all: called once by the socket's end, and by connect(AF_UNSPEC).
  void Close(bool abort) EXCLUDES(mu_);
  // Makes the connection; both locked.
  static void EstablishLocked(TcpEndpoint& listener, TcpEndpoint& client) REQUIRES(listener.mu_, client.mu_);
  static constexpr size_t kSendAhead = 256 << 10;  // what autotuning would grow a send buffer to

  const RefPtr<NetworkNamespace> net_;
  const RefPtr<SocketEvents> events_;
  std::atomic<size_t> send_space_{kSendAhead};  // SO_SNDBUF if it was set
  std::atomic<size_t> receive_space_{131072};   // SO_RCVBUF

  base::Mutex mu_;
  State state_ GUARDED_BY(mu_) = State::kClosed;
  bool connect_reported_ GUARDED_BY(mu_) = true;  // connect has told of the success
  bool failed_ GUARDED_BY(mu_) = false;           // the last connect failed after EINPROGRESS
  int pending_error_ GUARDED_BY(mu_) = 0;
  RefPtr<Connection> connection_ GUARDED_BY(mu_);
  int side_ GUARDED_BY(mu_) = 0;
  AcceptQueue<TcpEndpoint> accept_queue_ GUARDED_BY(mu_);
  std::deque<RefPtr<TcpEndpoint>> waiting_ GUARDED_BY(mu_);  // clients whose SYN the full queue would have dropped
};

class TcpSocket final : public InetSocket {
 public:
  explicit TcpSocket(const SocketRequest& request, RefPtr<SocketEvents> events = nullptr,
                     RefPtr<TcpEndpoint> endpoint = nullptr);
  ~TcpSocket() override;

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
  Result<bool> AtMark() override;
  base::EventMask Readiness() override;
  RefPtr<Lingering> Linger() override;

 protected:
  bool Bound() override;
  bool HasPeer() override;

 private:
  // The connection, or null; and which side this is.
  std::pair<RefPtr<Connection>, int> Current() EXCLUDES(endpoint_->mu_);
  Result<void> BindLocked(IpEndpoint to) REQUIRES(naming_);
  std::string Info();

  const RefPtr<TcpEndpoint> endpoint_;
  base::FiberMutex naming_;  // bind, connect, listen: one at a time
  bool bound_ GUARDED_BY(naming_) = false;
  IpEndpoint asked_ GUARDED_BY(naming_);  // what bind asked for
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_INET_TCP_SOCKET_H_
