#include "sentry/socket/host_transfer.h"

#include <linux/udp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_MORE | MSG_EOR | MSG_CONFIRM;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK;
constexpr size_t kControlRoom = 1024;

// What a sender may say about one packet (man 7 ip, man 7 ipv6, man 7 udp).
bool MayPass(const ControlMessage& message) {
  switch (message.level) {
    case IPPROTO_IP:
      return message.type == IP_PKTINFO || message.type == IP_TTL || message.type == IP_TOS;
    case IPPROTO_IPV6:
      return message.type == IPV6_PKTINFO || message.type == IPV6_HOPLIMIT || message.type == IPV6_TCLASS;
    case IPPROTO_UDP:
      return message.type == UDP_SEGMENT;
    default:
      return false;
  }
}

Result<std::string> EncodeControl(std::span<const ControlMessage> messages) {
  std::string out;
  for (const ControlMessage& message : messages) {
    if (!MayPass(message)) return Errno(EINVAL);
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(message.data.size());
    header.cmsg_level = message.level;
    header.cmsg_type = message.type;
    out.append(reinterpret_cast<const char*>(&header), sizeof(header));
    out += message.data;
    out.resize((out.size() + alignof(cmsghdr) - 1) & ~(alignof(cmsghdr) - 1));
    if (out.size() > kControlRoom) return Errno(ENOBUFS);
  }
  return out;
}

void DecodeControl(msghdr& header, std::vector<ControlMessage>& out) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level == SOL_SOCKET) continue;
    out.push_back({c->cmsg_level, c->cmsg_type,
                   std::string(reinterpret_cast<const char*>(CMSG_DATA(c)), c->cmsg_len - CMSG_LEN(0))});
  }
}

}  // namespace

Result<size_t> SendToHost(int fd, bool stream, size_t max_packet, OutgoingMessage& message) {
  // Differs from Linux: descriptors of the guest mean nothing to the host. Those that have one of the host's behind
  // them are not handed out either: the gofer gave it for this sandbox, and who gets it could do more with it than the
  // guest may (its mount's flags, the sentry's locks and caches).
  if (message.rights != nullptr) return Errno(EINVAL);
  const std::string control = TRY(EncodeControl(message.control));
  const size_t length = message.data.remaining();
  if (!stream && length > max_packet) return Errno(EMSGSIZE);
  const size_t wanted = stream ? std::min(length, kPiece) : length;
  auto chunk = TRY(base::TryMakeRef<Chunk>(std::max(wanted, Chunk::kSmall)));
  if (wanted != 0) {
    size_t copied = TRY(message.data.CopyIn(std::span<std::byte>(chunk->data(), wanted)));
    if (copied == 0 || (!stream && copied != wanted)) return Errno(EFAULT);
    chunk->end = copied;
  }
  iovec iov{chunk->data(), chunk->end};
  SocketAddress to;
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (message.to != nullptr) {
    to = *message.to;
    header.msg_name = to.bytes;
    header.msg_namelen = to.length;
  }
  if (!control.empty()) {
    header.msg_control = const_cast<char*>(control.data());
    header.msg_controllen = control.size();
  }
  const int flags = (message.flags & kSendFlags) | MSG_DONTWAIT | MSG_NOSIGNAL;
  auto sent = base::HostRetry(SYS_sendmsg, fd, &header, flags);
  if (!sent.ok()) {
    message.data.Revert(chunk->end);
    return sent.error();
  }
  size_t n = static_cast<size_t>(*sent);
  if (n < chunk->end) message.data.Revert(chunk->end - n);
  return n;
}

Result<size_t> ReceiveFromHost(int fd, bool stream, size_t max_packet, bool control, IncomingMessage& message) {
  if ((message.flags & MSG_ERRQUEUE) != 0 && !control) return Errno(EAGAIN);
  const size_t room = message.data.remaining();
  const bool throw_away = stream && (message.flags & MSG_TRUNC) != 0;
  const size_t wanted = std::min(room, stream ? kPiece : max_packet + 1);
  auto chunk = TRY(base::TryMakeRef<Chunk>(std::max(wanted, Chunk::kSmall)));
  SocketAddress from;
  iovec iov{chunk->data(), wanted};
  msghdr header{};
  header.msg_name = from.bytes;
  header.msg_namelen = SocketAddress::kMax;
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control_bytes[kControlRoom];
  if (control) {
    header.msg_control = control_bytes;
    header.msg_controllen = sizeof(control_bytes);
  }
  const int flags =
      (message.flags & (kReceiveFlags | MSG_ERRQUEUE)) | MSG_DONTWAIT | (throw_away || !stream ? MSG_TRUNC : 0);
  size_t n = static_cast<size_t>(TRY(base::HostRetry(SYS_recvmsg, fd, &header, flags)));
  const size_t got = std::min(n, wanted);  // a datagram's length may be more
  if (got != 0 && !throw_away) {
    size_t copied = TRY(message.data.CopyOut(std::span<const std::byte>(chunk->data(), got)));
    if (copied != got && !stream) return Errno(EFAULT);
  }
  if (header.msg_namelen != 0 && header.msg_namelen <= SocketAddress::kMax) {
    from.length = header.msg_namelen;
    message.from = from;
  }
  if (control) DecodeControl(header, message.control);
  message.out_flags |= header.msg_flags & (MSG_TRUNC | MSG_OOB | MSG_EOR | MSG_CTRUNC | MSG_ERRQUEUE);
  if (stream) message.out_flags &= ~MSG_TRUNC;
  return stream || (message.flags & MSG_TRUNC) != 0 ? n : got;
}

base::EventMask HostSocketReadiness(int fd) {
  constexpr short kAll = POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDBAND | POLLWRBAND | POLLRDHUP;
  struct pollfd p = {fd, kAll, 0};
  struct timespec zero = {0, 0};
  auto n = base::HostRetry(SYS_ppoll, &p, 1, &zero, nullptr, 8);
  if (!n.ok()) return base::kEventErr;
  return static_cast<base::EventMask>(static_cast<unsigned short>(p.revents));
}

}  // namespace sentry
