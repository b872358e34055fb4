#include "sentry/socket/inet/send_control.h"

#include <netinet/in.h>

#include <cstring>

namespace sentry {
namespace {

template <typename T>
Result<T> ReadAs(const ControlMessage& message) {
  T value;
  if (message.data.size() != sizeof(value)) return Errno(EINVAL);
  memcpy(&value, message.data.data(), sizeof(value));
  return value;
}

// An int within [low, 255]; −1 leaves the default.
Result<void> ReadByte(const ControlMessage& message, int low, int& out) {
  const int value = TRY(ReadAs<int>(message));
  if (value < low || value > 255) return Errno(EINVAL);
  if (value >= 0) out = value;
  return {};
}

Result<void> ParseV4(const ControlMessage& message, SendControl& out) {
  switch (message.type) {
    case IP_TTL:
      return ReadByte(message, 1, out.ttl);
    case IP_TOS:
      if (message.data.size() != 1) return ReadByte(message, 0, out.tos);
      out.tos = static_cast<uint8_t>(message.data[0]);
      return {};
    case IP_PKTINFO: {
      in_pktinfo info = TRY(ReadAs<in_pktinfo>(message));
      if (info.ipi_spec_dst.s_addr != 0) out.source = IpAddress::V4(ntohl(info.ipi_spec_dst.s_addr));
      return {};
    }
    default:
      return Errno(EINVAL);
  }
}

Result<void> ParseV6(const ControlMessage& message, SendControl& out) {
  switch (message.type) {
    case IPV6_HOPLIMIT:
      return ReadByte(message, -1, out.ttl);
    case IPV6_TCLASS:
      return ReadByte(message, -1, out.tos);
    case IPV6_PKTINFO: {
      in6_pktinfo info = TRY(ReadAs<in6_pktinfo>(message));
      IpAddress source;
      memcpy(source.bytes.data(), &info.ipi6_addr, 16);
      if (!source.IsAny()) out.source = source;
      return {};
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

Result<SendControl> ParseSendControl(std::span<const ControlMessage> control, bool v4) {
  SendControl out;
  for (const ControlMessage& message : control) {
    if (v4 && message.level == IPPROTO_IP) TRY(ParseV4(message, out));
    if (!v4 && message.level == IPPROTO_IPV6) TRY(ParseV6(message, out));
  }
  if (out.source && !out.source->IsLoopback()) return Errno(EINVAL);  // no address of ours
  return out;
}

}  // namespace sentry
