#include "sentry/socket/host/host_socket.h"

#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "base/syscall_unsafe.h"
#include "sentry/socket/host/host_interfaces.h"
#include "sentry/socket/host_transfer.h"

namespace sentry {
namespace {

constexpr size_t kMaxDatagram = 65535;
constexpr size_t kMaxOptionBytes = 512;

PortBinder& TheBinder() {
  static auto* binder = new PortBinder;
  return *binder;
}

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

void SetPortBinder(PortBinder binder) { TheBinder() = std::move(binder); }

Result<void> HostSocket::Bind(VfsContext& ctx, const SocketAddress& address) {
  auto bound = base::Host(SYS_bind, fd_.get(), address.bytes, address.length);
  // man 7 ip, EACCES: a port below net.ipv4.ip_unprivileged_port_start.
  if (bound.failed_with(EACCES) && TheBinder() && ctx.creds != nullptr && ctx.creds->Capable(CAP_NET_BIND_SERVICE)) {
    Result<void> instead =
        TheBinder()(fd_.get(), {reinterpret_cast<const char*>(address.bytes), static_cast<size_t>(address.length)});
    // It is not allowed to, or gone.
    return instead.failed_with(EPERM) || instead.failed_with(EIO) ? Errno(EACCES) : instead;
  }
  TRY(bound);
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
  auto socket = base::MakeRef<HostSocket>(reactor_, base::UniqueFd(fd), request);
  socket->InheritOptions(*this);
  return RefPtr<Socket>(std::move(socket));
}

Result<size_t> HostSocket::Send(OutgoingMessage& message) {
  return SendToHost(fd_.get(), IsStream(), kMaxDatagram, message);
}

Result<size_t> HostSocket::Receive(IncomingMessage& message) {
  return ReceiveFromHost(fd_.get(), IsStream(), kMaxDatagram, family() != AF_NETLINK, message);
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
  if (level == SOL_SOCKET && name == SO_LINGER) {
    // Kept here. The host gets only what makes close reset the connection: a time would hold up whoever closes the
    // host's descriptor.
    // Differs from Linux: close does not wait.
    TRY(Socket::SetOption(ctx, level, name, value));
    const linger host = {linger_seconds() == 0 ? 1 : 0, 0};
    TRY(base::Host(SYS_setsockopt, fd_.get(), level, name, &host, sizeof(host)));
    return {};
  }
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

base::EventMask HostSocket::Readiness() { return HostSocketReadiness(fd_.get()); }

Result<int64_t> HostSocket::Ioctl(const IoctlArgs& args) {
  if (IsHostInterfaceIoctl(args.command)) return HostInterfaceIoctl(fd_.get(), args);
  return Socket::Ioctl(args);
}

void RegisterHostSockets(base::Reactor& reactor) {
  for (int family : {AF_INET, AF_INET6, AF_NETLINK}) {
    RegisterSocketProvider(
        {family, [&reactor](const SocketRequest& request) { return HostSocket::Create(reactor, request); }, nullptr});
  }
}

}  // namespace sentry
