// What TCP and UDP sockets over IPv4 and IPv6 share: addresses, ports, and the options of IPPROTO_IP and IPPROTO_IPV6
// (man 7 ip, ipv6).
//
// There are no packets: everything is delivered inside the sandbox, over an interface lo that has 127.0.0.0/8 and ::1.
// What is not on lo is not reachable (ENETUNREACH).
#ifndef SENTRY_SOCKET_INET_INET_SOCKET_H_
#define SENTRY_SOCKET_INET_INET_SOCKET_H_

#include "sentry/socket/network_namespace.h"
#include "sentry/socket/provider.h"
#include "sentry/socket/socket.h"

namespace sentry {

inline constexpr int kLoopbackMtu = 65536;
inline constexpr int kLoopbackIndex = 1;

class InetSocket : public Socket {
 public:
  Result<std::string> GetOption(VfsContext& ctx, int level, int name) override;
  Result<void> SetOption(VfsContext& ctx, int level, int name, std::string_view value) override;

 protected:
  InetSocket(const SocketRequest& request, int protocol);
  bool v6() const { return family() == AF_INET6; }
  bool v6_only() const { return v6_only_.load(std::memory_order_relaxed); }
  NetworkNamespace& net() { return *request_.net; }
  // A guest's address for this family. EINVAL (short), EAFNOSUPPORT. IPv4 addresses come out mapped.
  Result<IpEndpoint> ParseAddress(const SocketAddress& address) const;
  SocketAddress MakeAddress(const IpEndpoint& endpoint) const;
  // For bind: EADDRNOTAVAIL for what lo does not have, EACCES for privileged ports.
  Result<IpEndpoint> ParseBindAddress(VfsContext& ctx, const SocketAddress& address);
  // Where something for `to` goes: "any" means loopback. ENETUNREACH. `*source` is filled where it says any.
  Result<IpEndpoint> Route(IpEndpoint to, IpAddress* source) const;
  virtual bool Bound() = 0;
  virtual bool HasPeer() = 0;
  int KeptInt(int level, int name, int initial);

  const SocketRequest request_;

 private:
  std::atomic<bool> v6_only_{false};
};

// Registers AF_INET and AF_INET6.
void RegisterInetSockets();
// The texts of /proc/net/tcp, tcp6, udp, udp6, sockstat and sockstat6.
std::string TcpProcNet(NetworkNamespace& net, bool v6);
std::string UdpProcNet(NetworkNamespace& net, bool v6);
std::string SockstatProcNet(NetworkNamespace& net, bool v6);

}  // namespace sentry

#endif  // SENTRY_SOCKET_INET_INET_SOCKET_H_
