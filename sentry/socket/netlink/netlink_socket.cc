#include "sentry/socket/netlink/netlink_socket.h"

#include <linux/netlink.h>

#include <cstring>

#include "sentry/kernel/task.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

namespace sentry {
namespace {

constexpr size_t kMaxRequest = 65536;

}  // namespace

Result<RefPtr<Socket>> NetlinkSocket::Create(const SocketRequest& request) {
  if (request.type != SOCK_RAW && request.type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  if (request.protocol != NETLINK_ROUTE) return Errno(EPROTONOSUPPORT);
  return RefPtr<Socket>(base::MakeRef<NetlinkSocket>(request));
}

NetlinkSocket::NetlinkSocket(const SocketRequest& request)
    : Socket(AF_NETLINK, request.type, request.protocol, request.file_flags, request.creds.get()) {}

void NetlinkSocket::Autobind() {
  // netlink_autobind(): the process id for its first socket, a number of its own for others.
  static std::atomic<uint32_t> next{0x80000001};
  if (port_id_.load(std::memory_order_relaxed) == 0) {
    uint32_t zero = 0;
    port_id_.compare_exchange_strong(zero, next.fetch_add(1, std::memory_order_relaxed));
  }
}

Result<void> NetlinkSocket::Bind(VfsContext&, const SocketAddress& address) {
  if (address.length < sizeof(sockaddr_nl)) return Errno(EINVAL);
  auto a = address.As<sockaddr_nl>();
  if (a.nl_family != AF_NETLINK) return Errno(EINVAL);
  uint32_t id = port_id_.load(std::memory_order_relaxed);
  if (id != 0 && a.nl_pid != 0 && a.nl_pid != id) return Errno(EINVAL);
  groups_.store(a.nl_groups, std::memory_order_relaxed);  // nothing ever changes: no news come
  if (a.nl_pid != 0) {
    port_id_.store(a.nl_pid, std::memory_order_relaxed);
  } else {
    Autobind();
  }
  return {};
}

Result<void> NetlinkSocket::Connect(VfsContext&, const SocketAddress& address, RefPtr<SocketEvents>*) {
  if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) return {};
  if (address.family() != AF_NETLINK || address.length < sizeof(sockaddr_nl)) return Errno(EINVAL);
  if (address.As<sockaddr_nl>().nl_pid != 0) return Errno(EPERM);
  Autobind();
  return {};
}

Result<SocketAddress> NetlinkSocket::Name() {
  sockaddr_nl a{};
  a.nl_family = AF_NETLINK;
  a.nl_pid = port_id_.load(std::memory_order_relaxed);
  a.nl_groups = groups_.load(std::memory_order_relaxed);
  return SocketAddress::Of(a);
}

Result<SocketAddress> NetlinkSocket::PeerName() {
  sockaddr_nl a{};
  a.nl_family = AF_NETLINK;
  return SocketAddress::Of(a);
}

void NetlinkSocket::Reply(std::string datagram) {
  auto chunk = base::MakeRef<Chunk>(datagram.size());
  memcpy(chunk->data(), datagram.data(), datagram.size());
  chunk->end = datagram.size();
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  chunk->from = std::make_unique<SocketAddress>(SocketAddress::Of(kernel));
  if (!queue_.Push(chunk, static_cast<size_t>(receive_buffer()), SIZE_MAX)) {
    error_.store(ENOBUFS, std::memory_order_release);
    events_->queue.Notify(base::kEventErr);
    return;
  }
  events_->queue.Notify(base::kEventIn | base::kEventRdNorm);
}

// netlink_rcv_skb()
Result<size_t> NetlinkSocket::Send(OutgoingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (message.to != nullptr && message.to->length != 0) {
    if (message.to->length < sizeof(sockaddr_nl) || message.to->family() != AF_NETLINK) return Errno(EINVAL);
    if (message.to->As<sockaddr_nl>().nl_pid != 0) return Errno(ECONNREFUSED);  // to the kernel only
  }
  size_t length = message.data.remaining();
  if (length > kMaxRequest) return Errno(EMSGSIZE);
  Autobind();
  std::string bytes(length, '\0');
  if (length != 0 && TRY(message.data.CopyIn(std::as_writable_bytes(std::span(bytes)))) != length) return Errno(EFAULT);
  std::string_view rest(bytes);
  while (rest.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    memcpy(&header, rest.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > rest.size()) break;
    for (std::string& answer :
         AnswerRoute(rest.substr(0, header.nlmsg_len), port_id_.load(std::memory_order_relaxed))) {
      Reply(std::move(answer));
    }
    rest.remove_prefix(std::min<size_t>(rest.size(), NLMSG_ALIGN(header.nlmsg_len)));
  }
  return length;
}

Result<size_t> NetlinkSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (int error = TakeError(); error != 0) return Errno(error);
  RefPtr<Chunk> datagram = queue_.Pop((message.flags & MSG_PEEK) != 0);
  if (datagram == nullptr) return Errno(EAGAIN);
  message.from = *datagram->from;
  if (pass_credentials()) message.sender = SenderId{0, 0, 0};
  return DeliverDatagram(*datagram, message);
}

base::EventMask NetlinkSocket::Readiness() {
  base::EventMask events = base::kEventOut | base::kEventWrNorm;
  if (!queue_.empty()) events |= base::kEventIn | base::kEventRdNorm;
  if (error_.load(std::memory_order_acquire) != 0) events |= base::kEventErr;
  return events;
}

Result<std::string> NetlinkSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level != SOL_NETLINK) return Socket::GetOption(ctx, level, name);
  switch (name) {
    case NETLINK_PKTINFO:
    case NETLINK_BROADCAST_ERROR:
    case NETLINK_NO_ENOBUFS:
    case NETLINK_CAP_ACK:
    case NETLINK_EXT_ACK:
    case NETLINK_GET_STRICT_CHK:
      return KeptOption(level, name, 0);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> NetlinkSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != SOL_NETLINK) return Socket::SetOption(ctx, level, name, value);
  int v = TRY(IntValue(value));
  switch (name) {
    case NETLINK_ADD_MEMBERSHIP:
    case NETLINK_DROP_MEMBERSHIP:
      return v > 0 && v < 64 ? Result<void>() : Result<void>(Errno(EINVAL));
    case NETLINK_PKTINFO:
    case NETLINK_BROADCAST_ERROR:
    case NETLINK_NO_ENOBUFS:
    case NETLINK_CAP_ACK:
    case NETLINK_EXT_ACK:
    case NETLINK_GET_STRICT_CHK:
      KeepOption(level, name, IntBytes(v != 0 ? 1 : 0));
      return {};
    default:
      return Errno(ENOPROTOOPT);
  }
}

void RegisterNetlinkSockets() { RegisterSocketProvider({AF_NETLINK, &NetlinkSocket::Create, nullptr}); }

}  // namespace sentry
