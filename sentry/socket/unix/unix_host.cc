// UNIX sockets whose other end is on the host (--host-uds).
#include <algorithm>
#include <utility>

#include "sentry/socket/unix/unix_name.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry {

Result<RefPtr<UnixEndpoint>> UnixSocket::FindForConnect(VfsContext& ctx, const SocketAddress& address,
                                                        RefPtr<HostPeer>& host) {
  const base::MonotonicNs deadline = WriteDeadline(base::MonotonicNow());
  for (int64_t pause = 1'000'000;; pause = std::min<int64_t>(2 * pause, 50'000'000)) {
    auto found = Find(&ctx, address, host);
    // The host does not say when its backlog has room again.
    if (!found.failed_with(EAGAIN) || nonblocking() || ctx.blocker == nullptr) return found;
    const base::MonotonicNs until = base::MonotonicNow() + pause;
    if (until > deadline) return found;
    base::WaitQueue nobody;
    auto waited = ctx.blocker->BlockUntil(
        nobody, 0, [] { return false; }, until);
    if (!waited.failed_with(ETIMEDOUT)) TRY(waited);
  }
}

Result<void> UnixSocket::ConnectToHost(const SocketAddress& address, RefPtr<HostPeer> host) {
  RefPtr<UnixEndpoint> dropped;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (!datagrams()) {
      if (endpoint_->state_ == UnixEndpoint::State::kConnected) return Errno(EISCONN);
      if (endpoint_->state_ != UnixEndpoint::State::kUnconnected) return Errno(EINVAL);
    }
    dropped = std::move(endpoint_->peer_);
    endpoint_->state_ = UnixEndpoint::State::kConnected;
    endpoint_->host_name_ = address;
    endpoint_->peer_id_ = SenderId{};  // nobody
    endpoint_->host_peer_.swap(host);
    endpoint_->has_host_.store(true, std::memory_order_release);
  }
  if (dropped != nullptr) endpoint_->datagrams_.Clear();
  if (datagrams()) FollowSpaceOf(nullptr);
  events_->queue.Notify(kUnixWritable);
  return {};
}

Result<RefPtr<Socket>> UnixSocket::AcceptFromHost(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
  RefPtr<HostPeer> host = host_bound();
  if (host == nullptr) return Errno(EAGAIN);
  base::UniqueFd fd = TRY(host->Accept());
  SocketRequest request = request_;
  request.file_flags = file_flags;
  request.creds = ctx.creds;
  auto socket = base::MakeRef<UnixSocket>(request, reactor_);
  auto connected = base::MakeRef<HostPeer>(*reactor_, std::move(fd), type(), socket->events_);
  TRY(socket->ConnectToHost(UnnamedUnixSocket(), std::move(connected)));
  SocketAddress own = TRY(Name());
  {
    base::MutexLock lock(socket->endpoint_->mu_);
    socket->endpoint_->name_ = own;
  }
  if (peer != nullptr) *peer = UnnamedUnixSocket();
  return RefPtr<Socket>(std::move(socket));
}

RefPtr<HostPeer> UnixSocket::host_peer() {
  if (!endpoint_->has_host_.load(std::memory_order_acquire)) return nullptr;
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->host_peer_;
}

RefPtr<HostPeer> UnixSocket::host_bound() {
  if (!endpoint_->has_host_.load(std::memory_order_acquire)) return nullptr;
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->host_bound_;
}

}  // namespace sentry
