// What control messages ask of one datagram: man 7 ip, man 7 ipv6 (ip_cmsg_send, ip6_datagram_send_ctl).
#ifndef SENTRY_SOCKET_INET_SEND_CONTROL_H_
#define SENTRY_SOCKET_INET_SEND_CONTROL_H_

#include <cstdint>
#include <optional>
#include <span>

#include "sentry/socket/port_table.h"
#include "sentry/socket/socket.h"

namespace sentry {

struct SendControl {
  int ttl = -1;                     // IP_TTL, IPV6_HOPLIMIT; −1: the socket's
  int tos = -1;                     // IP_TOS, IPV6_TCLASS
  std::optional<IpAddress> source;  // IP_PKTINFO, IPV6_PKTINFO
};

// `v4`: the datagram goes as IPv4. Messages for another protocol are left out, unknown ones are EINVAL.
Result<SendControl> ParseSendControl(std::span<const ControlMessage> control, bool v4);

}  // namespace sentry

#endif  // SENTRY_SOCKET_INET_SEND_CONTROL_H_
