// How UNIX sockets come together: pairs, connect, listen, accept.
#include <utility>

#include "sentry/socket/unix/unix_name.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry {

void UnixSocket::Join(UnixSocket& a, UnixSocket& b, const SenderId& id) {
  RefPtr<Connection> connection;
  if (!a.datagrams()) {
    auto kind = a.type() == SOCK_STREAM ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPackets;
    connection = base::MakeRef<Connection>(kind, a.events_, b.events_);
  }
  UnixSocket* both[2] = {&a, &b};
  for (int i = 0; i < 2; ++i) {
    UnixEndpoint& e = *both[i]->endpoint_;
    base::MutexLock lock(e.mu_);
    e.state_ = UnixEndpoint::State::kConnected;
    e.peer_ = both[1 - i]->endpoint_;
    e.peer_id_ = e.own_id_ = id;
    e.connection_ = connection;
    e.side_ = i;
    e.published_.store(connection.get(), std::memory_order_release);
  }
  if (a.datagrams()) {
    a.FollowSpaceOf(b.endpoint_);
    b.FollowSpaceOf(a.endpoint_);
  }
}

void UnixSocket::FollowSpaceOf(const RefPtr<UnixEndpoint>& peer) {
  base::FiberMutexLock lock(connecting_);
  if (watched_ != nullptr) watched_->space_->queue.Remove(*peer_wait_);
  peer_wait_.reset();
  watched_ = peer;
  if (peer == nullptr) return;
  SocketEvents* own = events_.get();  // this socket's, which outlives the entry
  peer_wait_.emplace(kUnixWritable, [own](base::EventMask) { own->queue.Notify(kUnixWritable); });
  peer->space_->queue.Add(*peer_wait_);
}

Result<void> UnixSocket::ConnectDatagram(VfsContext& ctx, const SocketAddress& address) {
  if (address.family() == AF_UNSPEC) {
    RefPtr<UnixEndpoint> dropped;
    RefPtr<HostPeer> host;
    {
      base::MutexLock lock(endpoint_->mu_);
      host.swap(endpoint_->host_peer_);
      dropped = std::move(endpoint_->peer_);
      endpoint_->state_ = UnixEndpoint::State::kUnconnected;
      endpoint_->peer_id_.reset();
    }
    if (dropped != nullptr) endpoint_->datagrams_.Clear();  // unix_dgram_disconnected
    FollowSpaceOf(nullptr);
    return {};
  }
  if (pass_credentials() && TRY(Name()).length <= kUnixPathOffset) {
    base::FiberMutexLock binding(connecting_);
    TRY(Autobind());
  }
  RefPtr<HostPeer> host;
  RefPtr<UnixEndpoint> other = TRY(FindForConnect(ctx, address, host));
  if (host) return ConnectToHost(address, std::move(host));
  RefPtr<UnixEndpoint> dropped;
  {
    base::MutexPairLock lock(endpoint_->mu_, other->mu_);
    if (other->state_ == UnixEndpoint::State::kClosed) return Errno(ECONNREFUSED);
    if (other->peer_ != nullptr && other->peer_ != endpoint_) return Errno(EPERM);
    host.swap(endpoint_->host_peer_);
    dropped = std::move(endpoint_->peer_);
    endpoint_->peer_ = other;
    endpoint_->state_ = UnixEndpoint::State::kConnected;
  }
  if (dropped != nullptr && dropped != other) endpoint_->datagrams_.Clear();
  FollowSpaceOf(other);
  return {};
}

Result<void> UnixSocket::Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) {
  if (datagrams()) return ConnectDatagram(ctx, address);
  TRY(ValidateUnixName(address));
  if (pass_credentials() && TRY(Name()).length <= kUnixPathOffset) {
    base::FiberMutexLock binding(connecting_);
    TRY(Autobind());
  }
  RefPtr<HostPeer> host;
  RefPtr<UnixEndpoint> listener = TRY(FindForConnect(ctx, address, host));
  if (host) return ConnectToHost(address, std::move(host));
  TRY(base::ChargedMemory::Admit());
  auto server_events = base::MakeRef<SocketEvents>();
  auto embryo = base::MakeRef<UnixEndpoint>(type(), endpoint_->net_, server_events);
  auto kind = IsStream() ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPackets;
  auto connection = base::MakeRef<Connection>(kind, events_, server_events);
  connection->SetSendLimit(0, static_cast<size_t>(send_buffer()));
  connection->SetPassCredentials(0, pass_credentials());
  connection->SetPassCredentials(1, true);  // until it is accepted nobody knows whether it will ask (maybe_add_creds)
  SenderId id = CurrentSender();
  if (ctx.creds != nullptr) id.uid = ctx.creds->euid, id.gid = ctx.creds->egid;
  {
    base::MutexPairLock lock(endpoint_->mu_, listener->mu_);
    if (listener->state_ != UnixEndpoint::State::kListening || (listener->shut_ & 1) != 0) return Errno(ECONNREFUSED);
    if (listener->accept_queue_.full()) {
      if (wait_on != nullptr) *wait_on = listener->space_;
      return Errno(EAGAIN);
    }
    if (endpoint_->state_ == UnixEndpoint::State::kConnected) return Errno(EISCONN);
    if (endpoint_->state_ != UnixEndpoint::State::kUnconnected) return Errno(EINVAL);
    {
      base::MutexLock embryo_lock(embryo->mu_);  // nobody else knows it
      embryo->state_ = UnixEndpoint::State::kConnected;
      embryo->name_ = listener->name_;
      embryo->peer_ = endpoint_;
      embryo->peer_id_ = id;
      embryo->own_id_ = listener->own_id_;
      embryo->connection_ = connection;
      embryo->side_ = 1;
      embryo->published_.store(connection.get(), std::memory_order_release);
    }
    endpoint_->state_ = UnixEndpoint::State::kConnected;
    endpoint_->peer_ = embryo;
    endpoint_->own_id_ = id;
    endpoint_->peer_id_ = listener->own_id_;
    endpoint_->connection_ = connection;
    endpoint_->side_ = 0;
    endpoint_->published_.store(connection.get(), std::memory_order_release);
    listener->accept_queue_.Push(std::move(embryo));
  }
  listener->events_->queue.Notify(kSocketReadable);
  return {};
}

Result<void> UnixSocket::Listen(VfsContext& ctx, int backlog) {
  if (datagrams()) return Errno(EOPNOTSUPP);
  SenderId id = CurrentSender();
  if (ctx.creds != nullptr) id.uid = ctx.creds->euid, id.gid = ctx.creds->egid;
  bool more = false;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->name_.length == 0) return Errno(EINVAL);
    if (endpoint_->state_ != UnixEndpoint::State::kUnconnected &&
        endpoint_->state_ != UnixEndpoint::State::kListening) {
      return Errno(EINVAL);
    }
    const int before = endpoint_->accept_queue_.backlog();
    endpoint_->accept_queue_.SetBacklog(backlog);
    more = endpoint_->accept_queue_.backlog() > before;
    endpoint_->state_ = UnixEndpoint::State::kListening;
    endpoint_->own_id_ = id;
  }
  if (more) endpoint_->space_->queue.Notify(kUnixWritable);
  if (RefPtr<HostPeer> host = host_bound()) TRY(host->Listen(backlog));
  return {};
}

Result<RefPtr<Socket>> UnixSocket::Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
  if (datagrams()) return Errno(EOPNOTSUPP);
  TRY(CheckCount());
  RefPtr<UnixEndpoint> embryo;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ != UnixEndpoint::State::kListening) return Errno(EINVAL);
    embryo = endpoint_->accept_queue_.Pop();
    if (embryo == nullptr && (endpoint_->shut_ & 1) != 0) return Errno(EINVAL);
  }
  if (embryo == nullptr) return AcceptFromHost(ctx, file_flags, peer);
  endpoint_->space_->queue.Notify(kUnixWritable);
  embryo->published_.load(std::memory_order_acquire)->SetPassCredentials(1, false);
  SocketRequest request = request_;
  request.file_flags = file_flags;
  request.creds = ctx.creds;
  RefPtr<SocketEvents> events = embryo->events_;
  auto socket = base::MakeRef<UnixSocket>(request, reactor_, std::move(events), std::move(embryo));
  if (peer != nullptr) {
    auto name = socket->PeerName();
    *peer = name.ok() ? *name : UnnamedUnixSocket();
  }
  return RefPtr<Socket>(std::move(socket));
}

}  // namespace sentry
