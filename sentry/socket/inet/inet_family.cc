// AF_INET and AF_INET6 as socket(2) and /proc/net see them.
#include <netinet/in.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sentry/socket/inet/tcp_socket.h"
#include "sentry/socket/inet/udp_socket.h"

namespace sentry {
namespace {

// inet_create()
Result<RefPtr<Socket>> CreateInet(const SocketRequest& request) {
  if (request.protocol < 0 || request.protocol >= IPPROTO_MAX) return Errno(EINVAL);
  switch (request.type) {
    case SOCK_STREAM:
      if (request.protocol != 0 && request.protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
      return RefPtr<Socket>(base::MakeRef<TcpSocket>(request));
    case SOCK_DGRAM:
      // Linux gives ICMP sockets to the groups of net.ipv4.ping_group_range: by default none.
      if (request.protocol == IPPROTO_ICMP || request.protocol == IPPROTO_ICMPV6) return Errno(EACCES);
      if (request.protocol != 0 && request.protocol != IPPROTO_UDP) return Errno(EPROTONOSUPPORT);
      return RefPtr<Socket>(base::MakeRef<UdpSocket>(request));
    case SOCK_RAW:
      return Errno(EPERM);  // there are no packets to see
    default:
      return Errno(ESOCKTNOSUPPORT);
  }
}

// Addresses in /proc/net are 32-bit words in the machine's order.
std::string ProcAddress(const IpEndpoint& e, bool v6) {
  std::string text;
  auto word = [&](int at) {
    uint32_t w;
    memcpy(&w, e.address.bytes.data() + at, 4);
    absl::StrAppend(&text, absl::StrFormat("%08X", w));
  };
  if (v6) {
    for (int at = 0; at < 16; at += 4) word(at);
  } else {
    word(12);
  }
  return absl::StrCat(text, absl::StrFormat(":%04X", e.port));
}

}  // namespace

void RegisterInetSockets() {
  RegisterSocketProvider({AF_INET, &CreateInet, nullptr});
  RegisterSocketProvider({AF_INET6, &CreateInet, nullptr});
}

std::string TcpProcNet(NetworkNamespace& net, bool v6) {
  std::string text =
      v6 ? "  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
           "tm->when "
           "retrnsmt   uid  timeout inode\n"
         : "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
           "                                                     \n";
  int slot = 0;
  for (auto& binding : net.tcp().List()) {
    auto& e = static_cast<TcpEndpoint&>(*binding);
    int state = e.LinuxState();
    if (e.v6 != v6 || state == 7) continue;  // TCP_CLOSE: not hashed
    std::string line = absl::StrFormat("%4d: %s %s %02X %08X:%08X %02X:%08X %08X %5u %8d %u %d %016x %d %d %d %d %d",
                                       slot++, ProcAddress(e.local, v6), ProcAddress(e.peer, v6), state, 0, e.Pending(),
                                       0, 0, 0, e.uid, 0, e.ino, 1, 0, 100, 0, 0, 10, state == 10 ? 0 : -1);
    if (!v6) line.resize(std::max<size_t>(line.size(), 149), ' ');
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

std::string UdpProcNet(NetworkNamespace& net, bool v6) {
  std::string text = v6 ? "  sl  local_address                         remote_address                        st "
                          "tx_queue rx_queue tr tm->when "
                          "retrnsmt   uid  timeout inode ref pointer drops\n"
                        : "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
                          "inode ref pointer drops"
                          "             \n";
  for (auto& binding : net.udp().List()) {
    auto& e = static_cast<UdpEndpoint&>(*binding);
    if (e.v6 != v6) continue;
    absl::StrAppend(&text,
                    absl::StrFormat("%5d: %s %s %02X %08X:%08X %02X:%08X %08X %5u %8d %u %d %016x %u\n", e.local.port,
                                    ProcAddress(e.local, v6), ProcAddress(e.peer, v6), e.peer.port != 0 ? 1 : 7, 0,
                                    e.Pending(), 0, 0, 0, e.uid, 0, e.ino, 2, 0, e.drops()));
  }
  return text;
}

std::string SockstatProcNet(NetworkNamespace& net, bool v6) {
  size_t tcp = 0, udp = 0;
  for (auto& b : net.tcp().List()) tcp += b->v6 == v6;
  for (auto& b : net.udp().List()) udp += b->v6 == v6;
  if (v6)
    return absl::StrFormat(
        "TCP6: inuse %u\nUDP6: inuse %u\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n", tcp, udp);
  return absl::StrFormat(
      "sockets: used %u\nTCP: inuse %u orphan 0 tw 0 alloc %u mem %d\nUDP: inuse %u mem 0\nUDPLITE: inuse 0\nRAW: "
      "inuse 0\n"
      "FRAG: inuse 0 memory 0\n",
      net.tcp().size() + net.udp().size() + net.UnixObjects().size(), tcp, net.tcp().size(), QueuedBytes() / 4096, udp);
}

}  // namespace sentry
