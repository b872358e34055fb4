// Data of UNIX sockets: send, receive, shutdown, readiness.
#include <utility>

#include "sentry/socket/unix/unix_name.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry {

Result<size_t> UnixSocket::Send(OutgoingMessage& message) {
  if ((message.flags & MSG_OOB) != 0 && (!IsStream() || message.data.remaining() == 0)) return Errno(EOPNOTSUPP);
  if (message.to == nullptr || !datagrams()) {
    if (RefPtr<HostPeer> host = host_peer()) {
      if (message.to != nullptr && IsStream()) return Errno(EISCONN);
      message.to = nullptr;  // sequenced packets: ignored (man 2 sendto)
      return host->Send(message);
    }
  }
  if (datagrams()) return SendDatagram(message);
  Connection* connection = endpoint_->published_.load(std::memory_order_acquire);
  if (message.to != nullptr && IsStream()) return Errno(connection != nullptr ? EISCONN : EOPNOTSUPP);
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    return Errno((endpoint_->shut_ & 2) != 0 ? EPIPE : ENOTCONN);
  }
  return connection->Send(endpoint_->side_, message, CurrentSender());
}

Result<size_t> UnixSocket::SendDatagram(OutgoingMessage& message) {
  if (pass_credentials() && TRY(Name()).length <= kUnixPathOffset) {
    base::FiberMutexLock binding(connecting_);
    if (TRY(Name()).length <= kUnixPathOffset) TRY(Autobind());
  }
  RefPtr<UnixEndpoint> other;
  SocketAddress from;
  bool connected = false;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (message.to == nullptr) {
      if (endpoint_->peer_ == nullptr) return Errno(ENOTCONN);
      other = endpoint_->peer_;
      connected = true;
    }
    from = endpoint_->name_;
  }
  if (message.data.remaining() > static_cast<size_t>(send_buffer()) - 32) return Errno(EMSGSIZE);
  if (other == nullptr) {
    RefPtr<HostPeer> host;
    other = TRY(Find(message.ctx, *message.to, host));
    if (host) {
      message.to = nullptr;  // it is connected for this one datagram
      return host->Send(message);
    }
  }
  RefPtr<UnixEndpoint> dropped;
  bool mutual;
  {
    base::MutexPairLock lock(endpoint_->mu_, other->mu_);
    if ((endpoint_->shut_ & 2) != 0) return Errno(EPIPE);
    if (other->state_ == UnixEndpoint::State::kClosed) {
      if (connected && endpoint_->peer_ == other) {
        dropped = std::move(endpoint_->peer_);
        endpoint_->state_ = UnixEndpoint::State::kUnconnected;
      }
      return Errno(ECONNREFUSED);
    }
    if (other->peer_ != nullptr && other->peer_ != endpoint_) return Errno(EPERM);
    if ((other->shut_ & 1) != 0) return Errno(EPIPE);
    mutual = other->peer_ == endpoint_;
  }
  // Looked at before the copy, so that a full queue costs nothing, and again by Push.
  size_t limit = mutual ? static_cast<size_t>(send_buffer()) : SIZE_MAX;
  size_t max_count = mutual ? SIZE_MAX : UnixEndpoint::kMaxDatagrams + 1;
  if (other->datagrams_.count() >= max_count || (mutual && other->datagrams_.charged() >= LimitUnderPressure(limit))) {
    message.wait_on = other->space_;
    return Errno(EAGAIN);
  }
  size_t length = message.data.remaining();
  RefPtr<Chunk> datagram = TRY(CopyDatagram(message.data));
  if (from.length != 0) datagram->from = std::make_unique<SocketAddress>(from);
  if (message.sender.has_value() || pass_credentials() || other->pass_credentials_.load(std::memory_order_relaxed)) {
    datagram->sender = message.sender.value_or(CurrentSender());
  }
  datagram->rights = message.rights;
  if (!other->datagrams_.Push(datagram, mutual ? limit + length + Chunk::kOverhead : SIZE_MAX, max_count)) {
    message.data.Revert(length);
    datagram->rights = nullptr;
    message.wait_on = other->space_;
    return Errno(EAGAIN);  // or closed: the next try says so
  }
  message.rights = nullptr;
  other->events_->queue.Notify(kSocketReadable);
  return length;
}

Result<size_t> UnixSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_OOB) != 0 && !IsStream()) return Errno(EOPNOTSUPP);
  if (datagrams()) return ReceiveDatagram(message);
  if (RefPtr<HostPeer> host = host_peer()) return host->Receive(message);
  Connection* connection = endpoint_->published_.load(std::memory_order_acquire);
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    return Errno(IsStream() ? EINVAL : ENOTCONN);
  }
  connection->SetUrgentInline(endpoint_->side_, Flag(SO_OOBINLINE));
  auto received = connection->Receive(endpoint_->side_, message);
  if (!pass_credentials()) message.sender.reset();
  if (message.wants_from && received.ok()) {
    SocketAddress from = TRY(PeerName());
    if (from.length > kUnixPathOffset) message.from = from;
  }
  return received;
}

Result<size_t> UnixSocket::ReceiveDatagram(IncomingMessage& message) {
  const bool peek = (message.flags & MSG_PEEK) != 0;
  RefPtr<Chunk> datagram = endpoint_->datagrams_.Pop(peek);
  if (datagram == nullptr) {
    for (const RefPtr<HostPeer>& host : {host_bound(), host_peer()}) {
      if (host == nullptr) continue;
      auto received = host->Receive(message);
      if (!received.failed_with(EAGAIN)) return received;
    }
    if (int error = TakeError(); error != 0) return Errno(error);
    base::MutexLock lock(endpoint_->mu_);
    if ((endpoint_->shut_ & 1) != 0) return 0;
    return Errno(EAGAIN);
  }
  if (!peek) endpoint_->space_->queue.Notify(kUnixWritable);
  message.rights = datagram->rights;
  if (!peek) datagram->rights = nullptr;
  if (datagram->from != nullptr) message.from = *datagram->from;
  if (pass_credentials()) message.sender = datagram->sender;
  return DeliverDatagram(*datagram, message);
}

Result<void> UnixSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    return connection->Shutdown(endpoint_->side_, how);
  if (RefPtr<HostPeer> host = host_peer(); host != nullptr && !datagrams()) return host->Shutdown(how);
  {
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->shut_ |= static_cast<uint8_t>(how + 1);
  }
  events_->queue.Notify(kSocketReadable | kUnixWritable | base::kEventRdHup | (how == SHUT_RDWR ? base::kEventHup : 0));
  endpoint_->space_->queue.Notify(kUnixWritable);
  return {};
}

Result<bool> UnixSocket::AtMark() {
  if (!IsStream()) return Errno(ENOTTY);
  Connection* connection = endpoint_->published_.load(std::memory_order_acquire);
  return connection != nullptr && connection->AtMark(endpoint_->side_);
}

base::EventMask UnixSocket::Readiness() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    connection->SetUrgentInline(endpoint_->side_, Flag(SO_OOBINLINE));
    return connection->Readiness(endpoint_->side_);
  }
  RefPtr<HostPeer> host = host_peer();
  if (host != nullptr && !datagrams()) return host->Readiness();
  base::EventMask events = 0;
  if (RefPtr<HostPeer> bound = host_bound()) events |= bound->Readiness() & kSocketReadable;
  if (host != nullptr) events |= host->Readiness() & (kSocketReadable | kUnixWritable);
  RefPtr<UnixEndpoint> peer;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (error_.load(std::memory_order_relaxed) != 0) events |= base::kEventErr;
    if (endpoint_->shut_ == 3) events |= base::kEventHup;
    if ((endpoint_->shut_ & 1) != 0) events |= kSocketReadable | base::kEventRdHup;
    if (endpoint_->state_ == UnixEndpoint::State::kListening) {
      if (!endpoint_->accept_queue_.empty()) events |= kSocketReadable;
      return events;
    }
    if (!datagrams()) return events | base::kEventHup | kUnixWritable;
    peer = endpoint_->peer_;
  }
  if (!endpoint_->datagrams_.empty()) events |= kSocketReadable;
  bool full = false;
  if (peer != nullptr) {
    full = peer->FullFor(*endpoint_) ||
           peer->datagrams_.charged() >= LimitUnderPressure(static_cast<size_t>(send_buffer()));
  }
  if (!full && host == nullptr) events |= kUnixWritable;
  return events;
}

}  // namespace sentry
