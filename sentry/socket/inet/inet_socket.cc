#include "sentry/socket/inet/inet_socket.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

namespace sentry {
namespace {

// An option that is kept and read back, with the range Linux takes.
struct KeptOptionRow {
  int name, initial, min, max;
};
constexpr KeptOptionRow kIpOptions[] = {
    {IP_TOS, 0, 0, 255},
    {IP_TTL, 64, -1, 255},
    {IP_RECVOPTS, 0, 0, 1},
    {IP_RETOPTS, 0, 0, 1},
    {IP_PKTINFO, 0, 0, 1},
    {IP_MTU_DISCOVER, 1, 0, 5},
    {IP_RECVERR, 0, 0, 1},
    {IP_RECVTTL, 0, 0, 1},
    {IP_RECVTOS, 0, 0, 1},
    {IP_FREEBIND, 0, 0, 1},
    {IP_RECVORIGDSTADDR, 0, 0, 1},
    {IP_MINTTL, 0, 0, 255},
    {IP_NODEFRAG, 0, 0, 1},
    {IP_BIND_ADDRESS_NO_PORT, 0, 0, 1},
    {IP_MULTICAST_TTL, 1, -1, 255},
    {IP_MULTICAST_LOOP, 1, 0, 1},
    {IP_MULTICAST_ALL, 1, 0, 1},
    {IP_UNICAST_IF, 0, INT32_MIN, INT32_MAX},
    {IP_PASSSEC, 0, 0, 1},
    {IP_CHECKSUM, 0, 0, 1},
};
constexpr KeptOptionRow kIpv6Options[] = {
    {IPV6_UNICAST_HOPS, 64, -1, 255},
    {IPV6_MULTICAST_HOPS, 1, -1, 255},
    {IPV6_MULTICAST_LOOP, 1, 0, 1},
    {IPV6_MULTICAST_IF, 0, 0, 1},
    {IPV6_RECVPKTINFO, 0, 0, 1},
    {IPV6_RECVHOPLIMIT, 0, 0, 1},
    {IPV6_RECVTCLASS, 0, 0, 1},
    {IPV6_TCLASS, 0, -1, 255},
    {IPV6_MTU_DISCOVER, 1, 0, 5},
    {IPV6_RECVERR, 0, 0, 1},
    {IPV6_DONTFRAG, 0, 0, 1},
    {IPV6_RECVORIGDSTADDR, 0, 0, 1},
    {IPV6_RECVRTHDR, 0, 0, 1},
    {IPV6_RECVHOPOPTS, 0, 0, 1},
    {IPV6_RECVDSTOPTS, 0, 0, 1},
    {IPV6_RECVPATHMTU, 0, 0, 1},
    {IPV6_AUTOFLOWLABEL, 1, 0, 1},
    {IPV6_FREEBIND, 0, 0, 1},
    {IPV6_ADDR_PREFERENCES, 0, 0, INT32_MAX},
    {IPV6_MINHOPCOUNT, 0, 0, 255},
    {IPV6_MULTICAST_ALL, 1, 0, 1},
    {IPV6_UNICAST_IF, 0, INT32_MIN, INT32_MAX},
    {IPV6_RECVFRAGSIZE, 0, 0, 1},
    {33 /*IPV6_FLOWINFO_SEND*/, 0, 0, 1},
};

template <size_t N>
const KeptOptionRow* FindOption(const KeptOptionRow (&rows)[N], int name) {
  auto it = std::find_if(std::begin(rows), std::end(rows), [&](const KeptOptionRow& r) { return r.name == name; });
  return it != std::end(rows) ? it : nullptr;
}

}  // namespace

InetSocket::InetSocket(const SocketRequest& request, int protocol)
    : Socket(request.family, request.type, protocol, request.file_flags, request.creds.get()), request_(request) {}

Result<IpEndpoint> InetSocket::ParseAddress(const SocketAddress& address) const {
  if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
  IpEndpoint e;
  if (v6()) {
    if (address.family() == AF_INET) {
      // An IPv4 address on an IPv6 socket: UDP and TCP take it as a mapped one only through AF_INET6.
      return Errno(address.length < sizeof(sockaddr_in) ? EINVAL : EAFNOSUPPORT);
    }
    if (address.length < 24) return Errno(EINVAL);  // SIN6_LEN_RFC2133
    if (address.family() != AF_INET6) return Errno(EAFNOSUPPORT);
    auto a = address.As<sockaddr_in6>();
    memcpy(e.address.bytes.data(), &a.sin6_addr, 16);
    e.port = ntohs(a.sin6_port);
    return e;
  }
  if (address.length < sizeof(sockaddr_in)) return Errno(EINVAL);
  auto a = address.As<sockaddr_in>();
  // Linux takes AF_UNSPEC with INADDR_ANY for AF_INET (inet_bind).
  if (a.sin_family != AF_INET && !(a.sin_family == AF_UNSPEC && a.sin_addr.s_addr == 0)) return Errno(EAFNOSUPPORT);
  e.address = IpAddress::V4(ntohl(a.sin_addr.s_addr));
  e.port = ntohs(a.sin_port);
  return e;
}

SocketAddress InetSocket::MakeAddress(const IpEndpoint& e) const {
  if (!v6()) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(e.port);
    a.sin_addr.s_addr = e.address.IsV4() ? htonl(e.address.v4()) : 0;
    return SocketAddress::Of(a);
  }
  sockaddr_in6 a{};
  a.sin6_family = AF_INET6;
  a.sin6_port = htons(e.port);
  memcpy(&a.sin6_addr, e.address.bytes.data(), 16);
  return SocketAddress::Of(a);
}

Result<IpEndpoint> InetSocket::ParseBindAddress(VfsContext& ctx, const SocketAddress& address) {
  IpEndpoint e = TRY(ParseAddress(address));
  if (v6() && e.address.IsV4() && v6_only()) return Errno(EINVAL);
  if (!e.address.IsAny() && !e.address.IsLoopback()) {
    bool free = KeptInt(IPPROTO_IP, IP_FREEBIND, 0) != 0 || (v6() && KeptInt(IPPROTO_IPV6, IPV6_FREEBIND, 0) != 0);
    if (!free) return Errno(EADDRNOTAVAIL);
  }
  if (e.port != 0 && e.port < request_.net->unprivileged_port_start.load(std::memory_order_relaxed) &&
      !(ctx.creds != nullptr && ctx.creds->Capable(CAP_NET_BIND_SERVICE))) {
    return Errno(EACCES);
  }
  return e;
}

Result<IpEndpoint> InetSocket::Route(IpEndpoint to, IpAddress* source) const {
  if (to.address.IsAny()) to.address = to.address.IsV4() ? IpAddress::V4(INADDR_LOOPBACK) : IpAddress::V6Loopback();
  if (v6_only() && to.address.IsV4()) return Errno(ENETUNREACH);
  if (!to.address.IsLoopback()) return Errno(ENETUNREACH);
  if (source->IsAny()) {
    if (source->IsV4() && v6() && !to.address.IsV4()) return Errno(EINVAL);
    *source = to.address.IsV4() ? IpAddress::V4(INADDR_LOOPBACK) : IpAddress::V6Loopback();
  }
  if (source->IsV4() != to.address.IsV4()) return Errno(ENETUNREACH);
  return to;
}

int InetSocket::KeptInt(int level, int name, int initial) {
  std::string kept = KeptOption(level, name, initial);
  int v = initial;
  if (kept.size() >= sizeof(v)) memcpy(&v, kept.data(), sizeof(v));
  return v;
}

// do_ip_getsockopt(), do_ipv6_getsockopt().
Result<std::string> InetSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level == IPPROTO_IP) {
    if (const KeptOptionRow* row = FindOption(kIpOptions, name)) return KeptOption(level, name, row->initial);
    switch (name) {
      case IP_OPTIONS:
        return std::string();
      case IP_MTU:
        if (!HasPeer()) return Errno(ENOTCONN);
        return IntBytes(kLoopbackMtu);
      case IP_MULTICAST_IF:
        return KeptOption(level, name, 0);
      case IP_TRANSPARENT:
        return IntBytes(0);
      default:
        return Errno(ENOPROTOOPT);
    }
  }
  if (level == IPPROTO_IPV6) {
    if (!v6()) return Errno(ENOPROTOOPT);
    if (name == IPV6_V6ONLY) return IntBytes(v6_only() ? 1 : 0);
    if (name == IPV6_MTU) {
      if (!HasPeer()) return Errno(ENOTCONN);
      return IntBytes(kLoopbackMtu);
    }
    if (const KeptOptionRow* row = FindOption(kIpv6Options, name)) return KeptOption(level, name, row->initial);
    return Errno(ENOPROTOOPT);
  }
  return Socket::GetOption(ctx, level, name);
}

Result<void> InetSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != IPPROTO_IP && level != IPPROTO_IPV6) return Socket::SetOption(ctx, level, name, value);
  if (level == IPPROTO_IPV6 && !v6()) return Errno(ENOPROTOOPT);
  const bool ip4 = level == IPPROTO_IP;
  switch (name) {
    case IP_ADD_MEMBERSHIP:
    case IP_ADD_SOURCE_MEMBERSHIP:
    case MCAST_JOIN_GROUP:
      if (ip4) return Errno(ENODEV);  // lo does not do multicast here
      break;
    case IP_DROP_MEMBERSHIP:
    case IP_DROP_SOURCE_MEMBERSHIP:
      if (ip4) return Errno(EADDRNOTAVAIL);
      break;
    case IP_TRANSPARENT:
      if (ip4) return Errno(ctx.creds != nullptr && ctx.creds->Capable(CAP_NET_ADMIN) ? EOPNOTSUPP : EPERM);
      break;
    case IP_OPTIONS:
      if (ip4) return value.empty() ? Result<void>() : Result<void>(Errno(EINVAL));
      break;
    case IP_MULTICAST_IF:
      if (ip4) {
        if (value.size() < 4) return Errno(EINVAL);
        KeepOption(level, name, value.substr(0, 4));
        return {};
      }
      break;
    default:
      break;
  }
  if (!ip4 && name == IPV6_JOIN_GROUP) return Errno(ENODEV);
  if (!ip4 && name == IPV6_LEAVE_GROUP) return Errno(EADDRNOTAVAIL);
  int v;
  if (ip4 && !value.empty() && value.size() < sizeof(int)) {
    v = static_cast<uint8_t>(value[0]);  // ip_setsockopt takes a byte as well
  } else {
    v = TRY(IntValue(value));
  }
  if (!ip4 && name == IPV6_V6ONLY) {
    if (Bound()) return Errno(EINVAL);
    v6_only_.store(v != 0, std::memory_order_relaxed);
    return {};
  }
  const KeptOptionRow* row = ip4 ? FindOption(kIpOptions, name) : FindOption(kIpv6Options, name);
  if (row == nullptr) return Errno(ENOPROTOOPT);
  if (row->min == 0 && row->max == 1) {
    v = v != 0 ? 1 : 0;
  } else if (ip4 && name == IP_TOS) {
    v &= 0xff;
  } else if (v < row->min || v > row->max || (ip4 && name == IP_TTL && v == 0)) {
    return Errno(EINVAL);
  }
  if (v == -1 && row->min == -1) v = row->initial;  // back to the default
  KeepOption(level, name, IntBytes(v));
  return {};
}

}  // namespace sentry
