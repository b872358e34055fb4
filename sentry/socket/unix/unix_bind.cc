// Names of UNIX sockets: bind, autobind, and what a name leads to.
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_format.h"
#include "sentry/socket/unix/unix_name.h"
#include "sentry/socket/unix/unix_socket.h"
#include "sentry/vfs/vfs.h"

namespace sentry {

Result<void> UnixSocket::Autobind() {
  for (int i = 0; i < (1 << 20); ++i) {
    std::string text = absl::StrFormat("%05x", endpoint_->net_->NextAutobind());
    SocketAddress a = UnnamedUnixSocket();
    a.bytes[kUnixPathOffset] = 0;
    memcpy(a.bytes + kUnixPathOffset + 1, text.data(), text.size());
    a.length = static_cast<uint32_t>(kUnixPathOffset + 1 + text.size());
    if (!endpoint_->net_->AddName(UnixNameBytes(a), endpoint_)) continue;
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->name_ = a;
    endpoint_->abstract_ = true;
    return {};
  }
  return Errno(ENOSPC);
}

Result<void> UnixSocket::Bind(VfsContext& ctx, const SocketAddress& address) {
  base::FiberMutexLock binding(connecting_);
  if (address.length == kUnixPathOffset && address.family() == AF_UNIX) {
    {
      base::MutexLock lock(endpoint_->mu_);
      if (endpoint_->name_.length != 0) return {};
    }
    return Autobind();
  }
  TRY(ValidateUnixName(address));
  {
    bool named;
    {
      base::MutexLock lock(endpoint_->mu_);
      named = endpoint_->name_.length != 0;
    }
    if (named) {
      // unix_bind_bsd() tries to make the file before it looks at the socket.
      bool exists = !IsAbstractUnixName(address) && WalkPath(ctx, {}, UnixPathOf(address), 0).ok();
      return Errno(exists ? EADDRINUSE : EINVAL);
    }
  }
  if (IsAbstractUnixName(address)) {
    if (!endpoint_->net_->AddName(UnixNameBytes(address), endpoint_)) return Errno(EADDRINUSE);
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->name_ = address;
    endpoint_->abstract_ = true;
    return {};
  }
  std::string path = UnixPathOf(address);
  base::UniqueFd host;
  auto bound = vfs::BindSocket(ctx, {}, path, 0777, type(), endpoint_, host);
  if (!bound.ok()) return bound.failed_with(EEXIST) ? Errno(EADDRINUSE) : bound.error();
  RefPtr<HostPeer> host_bound;
  if (host.valid() && reactor_ != nullptr) {
    host_bound = base::MakeRef<HostPeer>(*reactor_, std::move(host), type(), events_);
  }
  base::MutexLock lock(endpoint_->mu_);
  if (host_bound != nullptr) {
    endpoint_->host_bound_ = std::move(host_bound);
    endpoint_->has_host_.store(true, std::memory_order_release);
  }
  endpoint_->name_ = address;
  // The length counts one NUL, wherever the guest's ended (unix_mkname).
  endpoint_->name_.length = static_cast<uint32_t>(kUnixPathOffset + path.size() + 1);
  if (endpoint_->name_.length <= SocketAddress::kMax) endpoint_->name_.bytes[kUnixPathOffset + path.size()] = 0;
  return {};
}

Result<RefPtr<UnixEndpoint>> UnixSocket::Find(VfsContext* ctx, const SocketAddress& address, RefPtr<HostPeer>& host) {
  TRY(ValidateUnixName(address));
  RefPtr<base::RefCounted> object;
  if (IsAbstractUnixName(address)) {
    object = endpoint_->net_->FindName(UnixNameBytes(address));
  } else {
    if (ctx == nullptr) return Errno(EINVAL);
    VfsPath path = TRY(WalkPath(*ctx, {}, UnixPathOf(address), static_cast<uint32_t>(WalkFlag::kFollow))).path;
    RefPtr<Inode> inode = path.inode();
    if (inode == nullptr) return Errno(ENOENT);
    TRY(inode->CheckAccess(*ctx->creds, W_OK));
    if (inode->type() != FileType::kSocket) return Errno(ECONNREFUSED);
    {
      base::MutexLock lock(inode->special_mu);
      object = inode->special;
    }
    if (object == nullptr && reactor_ != nullptr) {
      host = base::MakeRef<HostPeer>(*reactor_, TRY(inode->ConnectHost(type())), type(), events_);
      return RefPtr<UnixEndpoint>();
    }
  }
  auto* found = dynamic_cast<UnixEndpoint*>(object.get());
  if (found == nullptr) return Errno(ECONNREFUSED);
  if (found->type_ != type()) return Errno(EPROTOTYPE);
  return RefPtr<UnixEndpoint>(found);
}

Result<SocketAddress> UnixSocket::Name() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->name_.length != 0 ? endpoint_->name_ : UnnamedUnixSocket();
}

Result<SocketAddress> UnixSocket::PeerName() {
  RefPtr<UnixEndpoint> peer;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->host_peer_ != nullptr) return endpoint_->host_name_;
    peer = endpoint_->peer_;
  }
  if (peer == nullptr) return Errno(ENOTCONN);
  base::MutexLock lock(peer->mu_);
  return peer->name_.length != 0 ? peer->name_ : UnnamedUnixSocket();
}

}  // namespace sentry
