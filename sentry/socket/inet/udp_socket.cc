#include "sentry/socket/inet/udp_socket.h"

#include <linux/udp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "sentry/socket/inet/send_control.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

constexpr size_t kMaxV4 = 65507, kMaxV6 = 65527;
enum : uint32_t {
  kNone = 0,
  kPktInfo4 = 1,
  kPktInfo6 = 2,
  kTtl = 4,
  kTos = 8,
  kHopLimit = 16,
  kTclass = 32,
  kOrigDst = 64
};

template <typename T>
std::string BytesOf(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

UdpEndpoint::~UdpEndpoint() { net_->udp().Remove(*this); }

UdpSocket::UdpSocket(const SocketRequest& request)
    : InetSocket(request, IPPROTO_UDP), endpoint_(base::MakeRef<UdpEndpoint>(request.net, events_)) {
  endpoint_->v6 = v6();
  endpoint_->local = AnyAddress();
  endpoint_->peer = AnyAddress();
  endpoint_->uid = request.creds != nullptr ? request.creds->euid : 0;
  endpoint_->ino = inode()->ino();
}

UdpSocket::~UdpSocket() {
  net().udp().Remove(*endpoint_);
  endpoint_->queue_.Close();
}

Result<void> UdpSocket::BindLocked(IpEndpoint to) {
  IpEndpoint before = endpoint_->local;
  net().udp().Update(*endpoint_, [&](PortBinding& b) {
    b.v6_only = v6_only();
    b.reuse_address = reuse_address();
    b.reuse_port = reuse_port();
    b.local = to;
  });
  auto bound = net().udp().Bind(*endpoint_, /*datagram=*/true);
  if (!bound.ok()) {
    net().udp().Update(*endpoint_, [&](PortBinding& b) { b.local = before; });
    return bound;
  }
  bound_ = true;
  return {};
}

Result<void> UdpSocket::Bind(VfsContext& ctx, const SocketAddress& address) {
  IpEndpoint to = TRY(ParseBindAddress(ctx, address));
  base::FiberMutexLock naming(naming_);
  if (bound_) return Errno(EINVAL);
  TRY(BindLocked(to));
  asked_ = to;
  return {};
}

Result<void> UdpSocket::Connect(VfsContext&, const SocketAddress& address, RefPtr<SocketEvents>*) {
  base::FiberMutexLock naming(naming_);
  if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) {
    // __udp_disconnect(): the address goes back to what bind asked for, the port too if it did not ask for one.
    const IpAddress address_before = bound_ && asked_.port != 0 ? asked_.address : AnyAddress().address;
    net().udp().Update(*endpoint_, [&](PortBinding& b) {
      b.peer = AnyAddress();
      b.local.address = address_before;
    });
    if (asked_.port == 0) {
      net().udp().Remove(*endpoint_);
      net().udp().Update(*endpoint_, [](PortBinding& b) { b.local.port = 0; });
      bound_ = false;
    }
    error_.store(0, std::memory_order_relaxed);
    return {};
  }
  IpEndpoint to = TRY(ParseAddress(address));
  IpAddress source = endpoint_->local.address;
  to = TRY(Route(to, &source));
  if (!bound_) TRY(BindLocked(AnyAddress()));
  net().udp().Update(*endpoint_, [&](PortBinding& b) {
    b.local.address = source;
    b.peer = to;
  });
  return {};
}

Result<size_t> UdpSocket::Send(OutgoingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if ((message.flags & MSG_MORE) != 0) return Errno(EOPNOTSUPP);  // datagrams are not collected
  if (send_shut_.load(std::memory_order_relaxed)) return Errno(EPIPE);
  IpEndpoint to, local;
  bool connected = false;
  net().udp().Update(*endpoint_, [&](PortBinding& b) {
    local = b.local;
    to = b.peer;
    connected = b.peer.port != 0;
  });
  if (message.to != nullptr) {
    const bool unspecified = message.to->family() == AF_UNSPEC;
    if (!unspecified || !v6()) {
      to = TRY(ParseAddress(*message.to));
      if (to.port == 0) return Errno(EINVAL);
      connected = false;
    }
  }
  if (to.port == 0) return Errno(EDESTADDRREQ);
  size_t length = message.data.remaining();
  if (length > (to.address.IsV4() ? kMaxV4 : kMaxV6)) return Errno(EMSGSIZE);
  if (int error = TakeError(); error != 0) return Errno(error);
  if (to.address.IsV4() && to.address.v4() == INADDR_BROADCAST && !Flag(SO_BROADCAST)) return Errno(EACCES);
  const SendControl control =
      message.control.empty() ? SendControl() : TRY(ParseSendControl(message.control, to.address.IsV4()));
  IpAddress source = control.source.value_or(local.address);
  to = TRY(Route(to, &source));
  if (local.port == 0) {
    base::FiberMutexLock naming(naming_);
    if (!bound_) TRY(BindLocked(AnyAddress()));
    local.port = endpoint_->local.port;
  }
  IpEndpoint from{source, local.port};
  RefPtr<PortBinding> found = net().udp().Find(to, from, /*listeners=*/false);
  if (found == nullptr) {
    // The unreachable message comes back at once; only a connected socket hears of it (man 7 udp), or one with
    // IP_RECVERR.
    if (connected || KeptInt(IPPROTO_IP, IP_RECVERR, 0) != 0) {
      error_.store(ECONNREFUSED, std::memory_order_release);
      events_->queue.Notify(base::kEventErr | kSocketReadable | kSocketWritable);
    }
    std::byte ignored[256];
    while (message.data.remaining() != 0) {
      size_t n = TRY(message.data.CopyIn(std::span(ignored, std::min(sizeof(ignored), message.data.remaining()))));
      if (n == 0) return Errno(EFAULT);
    }
    return length;
  }
  auto& receiver = static_cast<UdpEndpoint&>(*found);
  RefPtr<Chunk> datagram = TRY(CopyDatagram(message.data));
  IpEndpoint shown = from;
  // An IPv6 socket sees IPv4 senders as mapped addresses: that is how they are kept.
  SocketAddress address;
  if (receiver.v6) {
    sockaddr_in6 a{};
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(shown.port);
    memcpy(&a.sin6_addr, shown.address.bytes.data(), 16);
    address = SocketAddress::Of(a);
  } else {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(shown.port);
    a.sin_addr.s_addr = htonl(shown.address.v4());
    address = SocketAddress::Of(a);
  }
  datagram->from = std::make_unique<SocketAddress>(address);
  sockaddr_in6 target{};
  target.sin6_family = AF_INET6;
  target.sin6_port = htons(to.port);
  memcpy(&target.sin6_addr, to.address.bytes.data(), 16);
  datagram->to = std::make_unique<SocketAddress>(SocketAddress::Of(target));
  datagram->timestamp_ns = vfs::FileNow();
  const bool as_v6 = v6() && !to.address.IsV4();
  int tos = control.tos, ttl = control.ttl;
  if (tos < 0) tos = as_v6 ? KeptInt(IPPROTO_IPV6, IPV6_TCLASS, 0) : KeptInt(IPPROTO_IP, IP_TOS, 0);
  if (ttl < 0) ttl = as_v6 ? KeptInt(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64) : KeptInt(IPPROTO_IP, IP_TTL, 64);
  datagram->tos = static_cast<uint8_t>(tos);
  datagram->ttl = static_cast<uint8_t>(ttl);
  if (receiver.queue_.Push(datagram, receiver.receive_space_.load(std::memory_order_relaxed), SIZE_MAX)) {
    receiver.events_->queue.Notify(kSocketReadable);
  } else {
    receiver.drops_.fetch_add(1, std::memory_order_relaxed);
  }
  return length;
}

Result<size_t> UdpSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (int error = TakeError(); error != 0) return Errno(error);
  RefPtr<Chunk> datagram = endpoint_->queue_.Pop((message.flags & MSG_PEEK) != 0);
  if (datagram == nullptr) {
    if (endpoint_->receive_shut_.load(std::memory_order_relaxed)) return 0;
    return Errno(EAGAIN);
  }
  message.from = *datagram->from;
  AddTimestamp(message, datagram->timestamp_ns);
  if (control_options_.load(std::memory_order_relaxed) != 0) AddControl(*datagram, message);
  return DeliverDatagram(*datagram, message);
}

void UdpSocket::AddControl(const Chunk& datagram, IncomingMessage& message) {
  uint32_t options = control_options_.load(std::memory_order_relaxed);
  auto target = datagram.to->As<sockaddr_in6>();
  IpAddress to;
  memcpy(to.bytes.data(), &target.sin6_addr, 16);
  if (to.IsV4()) {
    if ((options & kPktInfo4) != 0) {
      in_pktinfo info{};
      info.ipi_ifindex = kLoopbackIndex;
      info.ipi_spec_dst.s_addr = info.ipi_addr.s_addr = htonl(to.v4());
      message.control.push_back({IPPROTO_IP, IP_PKTINFO, BytesOf(info)});
    }
    if ((options & kTtl) != 0) message.control.push_back({IPPROTO_IP, IP_TTL, IntBytes(datagram.ttl)});
    if ((options & kTos) != 0) message.control.push_back({IPPROTO_IP, IP_TOS, BytesOf(datagram.tos)});
    if ((options & kOrigDst) != 0) {
      sockaddr_in a{};
      a.sin_family = AF_INET;
      a.sin_port = target.sin6_port;
      a.sin_addr.s_addr = htonl(to.v4());
      message.control.push_back({IPPROTO_IP, IP_ORIGDSTADDR, BytesOf(a)});
    }
  }
  if (!v6()) return;
  if ((options & kPktInfo6) != 0) {
    in6_pktinfo info{};
    info.ipi6_addr = target.sin6_addr;
    info.ipi6_ifindex = kLoopbackIndex;
    message.control.push_back({IPPROTO_IPV6, IPV6_PKTINFO, BytesOf(info)});
  }
  if ((options & kHopLimit) != 0) message.control.push_back({IPPROTO_IPV6, IPV6_HOPLIMIT, IntBytes(datagram.ttl)});
  if ((options & kTclass) != 0) message.control.push_back({IPPROTO_IPV6, IPV6_TCLASS, IntBytes(datagram.tos)});
}

Result<void> UdpSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  if (!HasPeer()) return Errno(ENOTCONN);
  if (how != SHUT_WR) endpoint_->receive_shut_.store(true, std::memory_order_relaxed);
  if (how != SHUT_RD) send_shut_.store(true, std::memory_order_relaxed);
  events_->queue.Notify(kSocketReadable | kSocketWritable | base::kEventRdHup | base::kEventHup);
  return {};
}

Result<SocketAddress> UdpSocket::Name() {
  IpEndpoint local;
  net().udp().Update(*endpoint_, [&](PortBinding& b) { local = b.local; });
  return MakeAddress(local);
}

Result<SocketAddress> UdpSocket::PeerName() {
  IpEndpoint peer;
  net().udp().Update(*endpoint_, [&](PortBinding& b) { peer = b.peer; });
  if (peer.port == 0) return Errno(ENOTCONN);
  return MakeAddress(peer);
}

Result<std::string> UdpSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level != IPPROTO_UDP) return InetSocket::GetOption(ctx, level, name);
  switch (name) {
    case UDP_CORK:
    case UDP_ENCAP:
    case UDP_NO_CHECK6_TX:
    case UDP_NO_CHECK6_RX:
    case UDP_SEGMENT:
    case UDP_GRO:
      return KeptOption(level, name, 0);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> UdpSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level == IPPROTO_UDP) {
    int v = TRY(IntValue(value));
    switch (name) {
      case UDP_CORK:
      case UDP_SEGMENT:
        if (v != 0) return Errno(EOPNOTSUPP);
        return {};
      case UDP_NO_CHECK6_TX:
      case UDP_NO_CHECK6_RX:
      case UDP_GRO:
        KeepOption(level, name, IntBytes(v != 0 ? 1 : 0));
        return {};
      default:
        return Errno(ENOPROTOOPT);
    }
  }
  TRY(InetSocket::SetOption(ctx, level, name, value));
  uint32_t bit = 0;
  if (level == IPPROTO_IP) {
    bit = name == IP_PKTINFO           ? kPktInfo4
          : name == IP_RECVTTL         ? kTtl
          : name == IP_RECVTOS         ? kTos
          : name == IP_RECVORIGDSTADDR ? kOrigDst
                                       : kNone;
  } else if (level == IPPROTO_IPV6) {
    bit = name == IPV6_RECVPKTINFO    ? kPktInfo6
          : name == IPV6_RECVHOPLIMIT ? kHopLimit
          : name == IPV6_RECVTCLASS   ? kTclass
                                      : kNone;
  }
  if (bit != 0) {
    if (KeptInt(level, name, 0) != 0) {
      control_options_.fetch_or(bit, std::memory_order_relaxed);
    } else {
      control_options_.fetch_and(~bit, std::memory_order_relaxed);
    }
  }
  return {};
}

Result<int> UdpSocket::ReadableBytes() { return static_cast<int>(endpoint_->queue_.FirstSize()); }

void UdpSocket::OptionsChanged() {
  endpoint_->receive_space_.store(static_cast<size_t>(receive_buffer()), std::memory_order_relaxed);
  net().udp().Update(*endpoint_, [&](PortBinding& b) {
    b.reuse_address = reuse_address();
    b.reuse_port = reuse_port();
  });
}

base::EventMask UdpSocket::Readiness() {
  base::EventMask events = kSocketWritable;
  const bool shut = endpoint_->receive_shut_.load(std::memory_order_relaxed);
  if (!endpoint_->queue_.empty() || shut) events |= kSocketReadable;
  if (shut) events |= base::kEventRdHup;
  if (shut && send_shut_.load(std::memory_order_relaxed)) events |= base::kEventHup;
  if (error_.load(std::memory_order_acquire) != 0) events |= base::kEventErr;
  return events;
}

bool UdpSocket::Bound() {
  base::FiberMutexLock naming(naming_);
  return bound_;
}

bool UdpSocket::HasPeer() {
  bool has = false;
  net().udp().Update(*endpoint_, [&](PortBinding& b) { has = b.peer.port != 0; });
  return has;
}

}  // namespace sentry
