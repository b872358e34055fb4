#include "sentry/socket/host/host_socket.h"

#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr size_t kMaxDatagram = 65535;
constexpr size_t kMaxOptionBytes = 512;
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_MORE | MSG_EOR | MSG_CONFIRM;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK;

}  // namespace

Result<RefPtr<Socket>> HostSocket::Create(base::Reactor& reactor, const SocketRequest& request) {
  if (request.family == AF_NETLINK) {
    if (request.type != SOCK_RAW && request.type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
    if (request.protocol != NETLINK_ROUTE) return Errno(EPROTONOSUPPORT);
  } else {
    if (request.type == SOCK_RAW || request.type == SOCK_PACKET) return Errno(EPERM);
    if (request.type != SOCK_STREAM && request.type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  }
  int fd = static_cast<int>(
      TRY(base::Host(SYS_socket, request.family, request.type | SOCK_NONBLOCK | SOCK_CLOEXEC, request.protocol)));
  return RefPtr<Socket>(base::MakeRef<HostSocket>(reactor, base::UniqueFd(fd), request));
}

HostSocket::HostSocket(base::Reactor& reactor, base::UniqueFd fd, const SocketRequest& request)
    : Socket(request.family, request.type, request.protocol, request.file_flags, request.creds.get()),
      reactor_(reactor),
      request_(request),
      fd_(std::move(fd)) {
  // The events live as long as the callback may run, for it owns them too.
  watch_ = std::make_unique<base::FdWatch>(reactor, fd_.get(), EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET,
                                           [events = events_](uint32_t ready) { events->queue.Notify(ready); });
}

HostSocket::~HostSocket() { watch_.reset(); }

Result<void> HostSocket::Bind(VfsContext&, const SocketAddress& address) {
  TRY(base::Host(SYS_bind, fd_.get(), address.bytes, address.length));
  return {};
}

Result<void> HostSocket::Connect(VfsContext&, const SocketAddress& address, RefPtr<SocketEvents>*) {
  TRY(base::Host(SYS_connect, fd_.get(), address.bytes, address.length));
  return {};
}

Result<void> HostSocket::Listen(VfsContext&, int backlog) {
  TRY(base::Host(SYS_listen, fd_.get(), backlog));
  return {};
}

Result<RefPtr<Socket>> HostSocket::Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
  TRY(CheckCount());
  SocketAddress from;
  from.length = SocketAddress::kMax;
  int fd = static_cast<int>(
      TRY(base::HostRetry(SYS_accept4, fd_.get(), from.bytes, &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC)));
  if (peer != nullptr) *peer = from;
  SocketRequest request = request_;
  request.file_flags = file_flags;
  request.creds = ctx.creds;
  return RefPtr<Socket>(base::MakeRef<HostSocket>(reactor_, base::UniqueFd(fd), request));
}

Result<size_t> HostSocket::Send(OutgoingMessage& message) {
  const size_t length = message.data.remaining();
  if (!IsStream() && length > kMaxDatagram) return Errno(EMSGSIZE);
  const size_t wanted = std::min(length, kPiece);
  // The queue may be full: asked before the copy, so that a wait does not copy again and again.
  auto chunk = base::MakeRef<Chunk>(std::max(wanted, Chunk::kSmall));
  if (wanted != 0) {
    size_t copied = TRY(message.data.CopyIn(std::span<std::byte>(chunk->data(), wanted)));
    if (copied == 0 || (!IsStream() && copied != wanted)) return Errno(EFAULT);
    chunk->end = copied;
  }
  const int flags = (message.flags & kSendFlags) | MSG_DONTWAIT | MSG_NOSIGNAL;
  auto sent = base::HostRetry(SYS_sendto, fd_.get(), chunk->data(), chunk->end, flags,
                              message.to != nullptr ? message.to->bytes : nullptr,
                              message.to != nullptr ? message.to->length : 0);
  if (!sent.ok()) {
    message.data.Revert(chunk->end);
    return sent.error();
  }
  size_t n = static_cast<size_t>(*sent);
  if (n < chunk->end) message.data.Revert(chunk->end - n);
  return n;
}

Result<size_t> HostSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  const size_t room = message.data.remaining();
  const bool throw_away = IsStream() && (message.flags & MSG_TRUNC) != 0;
  const size_t wanted = std::min(room, IsStream() ? kPiece : kMaxDatagram + 1);
  auto chunk = base::MakeRef<Chunk>(std::max(wanted, Chunk::kSmall));
  SocketAddress from;
  iovec iov{chunk->data(), wanted};
  msghdr header{};
  header.msg_name = from.bytes;
  header.msg_namelen = SocketAddress::kMax;
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  const int flags = (message.flags & kReceiveFlags) | MSG_DONTWAIT | (throw_away || !IsStream() ? MSG_TRUNC : 0);
  size_t n = static_cast<size_t>(TRY(base::HostRetry(SYS_recvmsg, fd_.get(), &header, flags)));
  const size_t got = std::min(n, wanted);  // a datagram's length may be more
  if (got != 0 && !throw_away) {
    size_t copied = TRY(message.data.CopyOut(std::span<const std::byte>(chunk->data(), got)));
    if (copied != got && !IsStream()) return Errno(EFAULT);
  }
  if (header.msg_namelen != 0 && header.msg_namelen <= SocketAddress::kMax) {
    from.length = header.msg_namelen;
    message.from = from;
  }
  message.out_flags |= header.msg_flags & (MSG_TRUNC | MSG_OOB | MSG_EOR);
  if (IsStream()) message.out_flags &= ~MSG_TRUNC;
  return IsStream() || (message.flags & MSG_TRUNC) != 0 ? n : got;
}

Result<void> HostSocket::Shutdown(int how) {
  TRY(base::Host(SYS_shutdown, fd_.get(), how));
  return {};
}

Result<SocketAddress> HostSocket::Name() {
  SocketAddress a;
  a.length = SocketAddress::kMax;
  TRY(base::Host(SYS_getsockname, fd_.get(), a.bytes, &a.length));
  return a;
}

Result<SocketAddress> HostSocket::PeerName() {
  SocketAddress a;
  a.length = SocketAddress::kMax;
  TRY(base::Host(SYS_getpeername, fd_.get(), a.bytes, &a.length));
  return a;
}

bool HostSocket::IsHostOption(int level, int name) {
  switch (level) {
    case SOL_SOCKET:
      switch (name) {
        case SO_REUSEADDR:
        case SO_REUSEPORT:
        case SO_KEEPALIVE:
        case SO_BROADCAST:
        case SO_SNDBUF:
        case SO_RCVBUF:
        case SO_LINGER:
        case SO_ERROR:
        case SO_OOBINLINE:
        case SO_ACCEPTCONN:
        case SO_DONTROUTE:
        case SO_RCVLOWAT:
          return true;
        default:
          return false;
      }
    case IPPROTO_TCP:
    case IPPROTO_UDP:
      return name > 0 && name < 128;
    case IPPROTO_IP:
    case IPPROTO_IPV6:
      return name > 0 && name < 64;  // from 64 on: packet filters, multicast routing
    case 270 /*SOL_NETLINK*/:
      return name > 0 && name < 16;
    default:
      return false;
  }
}

Result<std::string> HostSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (!IsHostOption(level, name)) return Socket::GetOption(ctx, level, name);
  std::string value(kMaxOptionBytes, '\0');
  socklen_t length = kMaxOptionBytes;
  TRY(base::Host(SYS_getsockopt, fd_.get(), level, name, value.data(), &length));
  value.resize(std::min<size_t>(length, kMaxOptionBytes));
  return value;
}

Result<void> HostSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (!IsHostOption(level, name)) return Socket::SetOption(ctx, level, name, value);
  value = value.substr(0, kMaxOptionBytes);
  TRY(base::Host(SYS_setsockopt, fd_.get(), level, name, value.data(), value.size()));
  return {};
}

Result<int> HostSocket::ReadableBytes() {
  int bytes = 0;
  TRY(base::Host(SYS_ioctl, fd_.get(), FIONREAD, &bytes));
  return bytes;
}

Result<int> HostSocket::UnsentBytes() {
  int bytes = 0;
  TRY(base::Host(SYS_ioctl, fd_.get(), SIOCOUTQ, &bytes));
  return bytes;
}

int HostSocket::TakeError() {
  int error = 0;
  socklen_t length = sizeof(error);
  auto got = base::Host(SYS_getsockopt, fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return got.ok() ? error : 0;
}

base::EventMask HostSocket::Readiness() {
  constexpr short kAll = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND | POLLRDHUP;
  struct pollfd p = {fd_.get(), kAll, 0};
  struct timespec zero = {0, 0};
  auto n = base::HostRetry(SYS_ppoll, &p, 1, &zero, nullptr, 8);
  if (!n.ok()) return base::kEventErr;
  return static_cast<base::EventMask>(static_cast<unsigned short>(p.revents));
}

void RegisterHostSockets(base::Reactor& reactor) {
  for (int family : {AF_INET, AF_INET6, AF_NETLINK}) {
    RegisterSocketProvider(
        {family, [&reactor](const SocketRequest& request) { return HostSocket::Create(reactor, request); }, nullptr});
  }
}

}  // namespace sentry
