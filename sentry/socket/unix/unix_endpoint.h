// UnixEndpoint: what names, peers and accept queues refer to of a UNIX socket. One that is closed stays as long as
// somebody refers to it (a socket file that nobody unlinked) and answers ECONNREFUSED.
//
// With --host-uds it may be connected to a socket of the host instead of a peer here (host_peer_), or be reached from
// the host besides (host_bound_).
//
// Locking: UnixEndpoint::mu_; two of them through MutexPairLock. Beneath it: NetworkNamespace, the queues,
// Connection::mu_.
#ifndef SENTRY_SOCKET_UNIX_UNIX_ENDPOINT_H_
#define SENTRY_SOCKET_UNIX_UNIX_ENDPOINT_H_

#include <atomic>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "sentry/socket/accept_queue.h"
#include "sentry/socket/connection.h"
#include "sentry/socket/datagram_queue.h"
#include "sentry/socket/network_namespace.h"
#include "sentry/socket/socket.h"
#include "sentry/socket/unix/host_peer.h"

namespace sentry {

// Writable as poll says it of UNIX sockets (unix_poll).
inline constexpr base::EventMask kUnixWritable = kSocketWritable | base::kEventWrBand;

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
  AcceptQueue<UnixEndpoint> accept_queue_ GUARDED_BY(mu_);
  SenderId own_id_ GUARDED_BY(mu_);  // at listen or connect: the peer's SO_PEERCRED
  std::optional<SenderId> peer_id_ GUARDED_BY(mu_);
  RefPtr<Connection> connection_ GUARDED_BY(mu_);  // set once, with side_
  int side_ = 0;
  std::atomic<Connection*> published_{nullptr};  // connection_, for those who need no lock
  RefPtr<HostPeer> host_peer_ GUARDED_BY(mu_);   // connected to
  RefPtr<HostPeer> host_bound_ GUARDED_BY(mu_);  // bound with
  SocketAddress host_name_ GUARDED_BY(mu_);      // what host_peer_ was called
  std::atomic<bool> has_host_{false};            // either of them is set, or was
};

// The text of /proc/net/unix.
std::string UnixProcNet(NetworkNamespace& net);

}  // namespace sentry

#endif  // SENTRY_SOCKET_UNIX_UNIX_ENDPOINT_H_
