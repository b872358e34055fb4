#include "sentry/socket/host_transfer.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr int kSendFlags = MSG_OOB | MSG_DONTROUTE | MSG_MORE | MSG_EOR | MSG_CONFIRM;
constexpr int kReceiveFlags = MSG_OOB | MSG_PEEK;

}  // namespace

Result<size_t> SendToHost(int fd, bool stream, size_t max_packet, OutgoingMessage& message) {
  // Differs from Linux: descriptors of the guest mean nothing to the host. Those that have one of the host's behind
  // them are not handed out either: the gofer gave it for this sandbox, and who gets it could do more with it than the
  // guest may (its mount's flags, the sentry's locks and caches).
  if (message.rights != nullptr) return Errno(EINVAL);
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

Result<size_t> ReceiveFromHost(int fd, bool stream, size_t max_packet, IncomingMessage& message) {
  if ((message.flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
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
  const int flags = (message.flags & kReceiveFlags) | MSG_DONTWAIT | (throw_away || !stream ? MSG_TRUNC : 0);
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
  message.out_flags |= header.msg_flags & (MSG_TRUNC | MSG_OOB | MSG_EOR | MSG_CTRUNC);
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
