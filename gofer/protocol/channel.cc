#include "gofer/protocol/channel.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <cstring>

#include "base/syscall_unsafe.h"

namespace gofer {

namespace {

// Room for one descriptor more than any packet may carry, so that a packet with too many is told from a full descriptor
// table.
constexpr size_t kMaxReceivedFds = 2;

}  // namespace

base::Result<Channel> MakeChannel() {
  int fds[2];
  TRY(base::Host(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
  Channel channel{base::UniqueFd(fds[0]), base::UniqueFd(fds[1])};
  // Rounded up to a tick by the kernel.
  const timeval timeout = {.tv_sec = 0, .tv_usec = 1};
  TRY(base::Host(SYS_setsockopt, channel.client.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
  return channel;
}

base::Result<void> SendPacket(int socket, std::span<const uint8_t> packet, int fd, bool wait) {
  iovec iov = {const_cast<uint8_t*>(packet.data()), packet.size()};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
  }
  TRY(base::HostRetry(SYS_sendmsg, socket, &message, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)));
  return {};
}

base::Result<size_t> ReceivePacket(int socket, std::span<uint8_t> buffer, base::UniqueFd* fd, bool* fd_lost,
                                   bool wait) {
  iovec iov = {buffer.data(), buffer.size()};
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxReceivedFds)];
  // Without a control buffer the kernel closes whatever descriptors the peer sent, and says MSG_CTRUNC.
  if (fd != nullptr) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
  }
  size_t size = TRY(base::HostRetry(SYS_recvmsg, socket, &message, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT)));
  base::UniqueFd received[kMaxReceivedFds];
  size_t count = 0;
  if (fd != nullptr) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      size_t bytes = header->cmsg_len - CMSG_LEN(0);
      for (size_t at = 0; at + sizeof(int) <= bytes && count < kMaxReceivedFds; at += sizeof(int)) {
        int value;
        memcpy(&value, CMSG_DATA(header) + at, sizeof(int));
        received[count++].reset(value);
      }
    }
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) return base::Errno(EMSGSIZE);
  bool truncated = (message.msg_flags & MSG_CTRUNC) != 0;
  // With room for two, truncation means more than two, or a full descriptor table (then fewer than were sent arrived).
  if (count > 1 || (truncated && (fd == nullptr || count != 0))) return base::Errno(EBADMSG);
  if (fd != nullptr) *fd = std::move(received[0]);
  if (fd_lost != nullptr) *fd_lost = truncated;
  return size;
}

}  // namespace gofer
