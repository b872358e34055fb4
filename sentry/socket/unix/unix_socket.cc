#include "sentry/socket/unix/unix_socket.h"

#include <utility>

namespace sentry {

Result<RefPtr<Socket>> UnixSocket::Create(const SocketRequest& request, base::Reactor* reactor) {
  if (request.protocol != 0 && request.protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
  SocketRequest own = request;
  own.protocol = 0;
  if (own.type == SOCK_RAW) own.type = SOCK_DGRAM;  // unix_create
  if (own.type != SOCK_STREAM && own.type != SOCK_DGRAM && own.type != SOCK_SEQPACKET) return Errno(ESOCKTNOSUPPORT);
  return RefPtr<Socket>(base::MakeRef<UnixSocket>(own, reactor));
}

Result<std::pair<RefPtr<Socket>, RefPtr<Socket>>> UnixSocket::CreatePair(const SocketRequest& request,
                                                                         base::Reactor* reactor) {
  RefPtr<Socket> a = TRY(Create(request, reactor));
  RefPtr<Socket> b = TRY(Create(request, reactor));
  Join(static_cast<UnixSocket&>(*a), static_cast<UnixSocket&>(*b), CurrentSender());
  return std::pair(std::move(a), std::move(b));
}

UnixSocket::UnixSocket(const SocketRequest& request, base::Reactor* reactor, RefPtr<SocketEvents> events,
                       RefPtr<UnixEndpoint> endpoint)
    : Socket(AF_UNIX, request.type, 0, request.file_flags, request.creds.get()),
      request_(request),
      reactor_(reactor),
      endpoint_(endpoint != nullptr ? std::move(endpoint)
                                    : base::MakeRef<UnixEndpoint>(request.type, request.net, events_)) {
  if (events != nullptr) events_ = std::move(events);
  endpoint_->ino_.store(inode()->ino(), std::memory_order_relaxed);
}

UnixSocket::~UnixSocket() {
  if (watched_ != nullptr) watched_->space_->queue.Remove(*peer_wait_);
  endpoint_->Close();
}

Result<std::string> UnixSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  if (name == SO_PEERCRED) {
    base::MutexLock lock(endpoint_->mu_);
    if (!endpoint_->peer_id_.has_value()) return IntBytes(0) + IntBytes(-1) + IntBytes(-1);
    const SenderId& id = *endpoint_->peer_id_;
    return IntBytes(id.pid) + IntBytes(static_cast<int>(id.uid)) + IntBytes(static_cast<int>(id.gid));
  }
  return Socket::GetOption(ctx, level, name);
}

Result<void> UnixSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  return Socket::SetOption(ctx, level, name, value);
}

void UnixSocket::OptionsChanged() {
  endpoint_->pass_credentials_.store(pass_credentials(), std::memory_order_relaxed);
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    connection->SetSendLimit(endpoint_->side_, static_cast<size_t>(send_buffer()));
    connection->SetPassCredentials(endpoint_->side_, pass_credentials());
  }
}

Result<int> UnixSocket::ReadableBytes() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    return static_cast<int>(connection->ReadableBytes(endpoint_->side_));
  }
  if (RefPtr<HostPeer> host = host_peer(); host != nullptr && !datagrams()) return host->ReadableBytes();
  if (!datagrams()) return Listening() ? Result<int>(Errno(EINVAL)) : Result<int>(0);
  return static_cast<int>(endpoint_->datagrams_.FirstSize());
}

Result<int> UnixSocket::UnsentBytes() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    return static_cast<int>(connection->UnreadByPeer(endpoint_->side_));
  }
  if (RefPtr<HostPeer> host = host_peer()) return host->UnsentBytes();
  return 0;
}

int UnixSocket::TakeError() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    return connection->TakeError(endpoint_->side_);
  return Socket::TakeError();
}

bool UnixSocket::Listening() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->state_ == UnixEndpoint::State::kListening;
}

void UnixSocket::CollectQueuedRights(std::vector<RefPtr<Rights>>& out) {
  endpoint_->datagrams_.CollectRights(out);
  AcceptQueue<UnixEndpoint>::Waiting waiting;
  {
    base::MutexLock lock(endpoint_->mu_);
    waiting = endpoint_->accept_queue_.waiting();
  }
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    connection->CollectQueuedRights(endpoint_->side_, out);
  }
  for (auto& embryo : waiting) {
    embryo->published_.load(std::memory_order_acquire)->CollectQueuedRights(embryo->side_, out);
  }
}

void UnixSocket::PurgeQueue() {
  endpoint_->datagrams_.Clear();
  AcceptQueue<UnixEndpoint>::Waiting waiting;
  {
    base::MutexLock lock(endpoint_->mu_);
    waiting = endpoint_->accept_queue_.waiting();
  }
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    connection->PurgeQueue(endpoint_->side_);
  for (auto& embryo : waiting) embryo->published_.load(std::memory_order_acquire)->PurgeQueue(embryo->side_);
}

void RegisterUnixSockets(base::Reactor* reactor) {
  RegisterSocketProvider(
      {AF_UNIX, [reactor](const SocketRequest& request) { return UnixSocket::Create(request, reactor); },
       [reactor](const SocketRequest& request) { return UnixSocket::CreatePair(request, reactor); }});
}

}  // namespace sentry
