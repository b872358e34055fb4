#include "sentry/control/framing.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/syscall_unsafe.h"

namespace sentry::control {
namespace {

constexpr size_t kHeaderBytes = 4;
constexpr size_t kReadBytes = 16 << 10;

uint32_t Length(const char* header) {
  uint32_t length;
  memcpy(&length, header, sizeof(length));
  return length;
}

}  // namespace

FrameReader::State FrameReader::Receive(int fd, int flags) {
  if (broken_) return State::kBroken;
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameFds * sizeof(int))];
  size_t have = buffer_.size();
  buffer_.resize(have + kReadBytes);
  iovec vec{buffer_.data() + have, kReadBytes};
  msghdr message{};
  message.msg_iov = &vec;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  auto result = base::HostRetry(SYS_recvmsg, fd, &message, flags | MSG_CMSG_CLOEXEC);
  buffer_.resize(have + (result.ok() ? static_cast<size_t>(*result) : 0));
  if (!result.ok()) {
    if (result.failed_with(EAGAIN)) return State::kNeedMore;
    broken_ = !result.failed_with(ECONNRESET);
    return broken_ ? State::kBroken : State::kClosed;
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int received;
      memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      fds_.emplace_back(received);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0 || fds_.size() > kMaxFrameFds) {
    broken_ = true;
    return State::kBroken;
  }
  if (*result == 0) return State::kClosed;
  size_t available = buffer_.size() - consumed_;
  if (available >= kHeaderBytes) {
    uint32_t length = Length(buffer_.data() + consumed_);
    if (length > kMaxFrameBytes) {
      broken_ = true;
      return State::kBroken;
    }
    if (available >= kHeaderBytes + length) return State::kFrame;
  }
  return State::kNeedMore;
}

bool FrameReader::Next(Frame& frame) {
  size_t available = buffer_.size() - consumed_;
  if (broken_ || available < kHeaderBytes) return false;
  uint32_t length = Length(buffer_.data() + consumed_);
  if (length > kMaxFrameBytes) {
    broken_ = true;
    return false;
  }
  if (available < kHeaderBytes + length) return false;
  frame.payload.assign(buffer_, consumed_ + kHeaderBytes, length);
  frame.fds = std::move(fds_);
  fds_.clear();
  consumed_ += kHeaderBytes + length;
  if (consumed_ == buffer_.size()) {
    buffer_.clear();
    buffer_.shrink_to_fit();
    consumed_ = 0;
  } else if (consumed_ > kMaxFrameBytes) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  return true;
}

std::string EncodeFrame(std::string_view payload) {
  uint32_t length = static_cast<uint32_t>(payload.size());
  std::string frame(reinterpret_cast<const char*>(&length), kHeaderBytes);
  frame += payload;
  return frame;
}

absl::Status SendFrame(int socket, std::string_view frame, const std::vector<int>& fds) {
  if (fds.size() > kMaxFrameFds) return absl::InvalidArgumentError("too many descriptors in one control message");
  if (frame.size() > kMaxFrameBytes + kHeaderBytes) {
    return absl::InvalidArgumentError("control message is too large (arguments and environment)");
  }
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFrameFds * sizeof(int))] = {};
  bool first = true;
  while (!frame.empty()) {
    iovec vec{const_cast<char*>(frame.data()), frame.size()};
    msghdr message{};
    message.msg_iov = &vec;
    message.msg_iovlen = 1;
    if (first && !fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
      memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
    }
    auto sent = base::HostRetry(SYS_sendmsg, socket, &message, MSG_NOSIGNAL);
    if (!sent.ok()) {
      return absl::UnavailableError(std::string("cannot send to the sandbox: ") + strerror(sent.error().value()));
    }
    frame.remove_prefix(static_cast<size_t>(*sent));
    first = false;
  }
  return absl::OkStatus();
}

bool SendPending(int socket, std::string& pending) {
  size_t sent = 0;
  bool healthy = true;
  while (sent < pending.size()) {
    iovec vec{pending.data() + sent, pending.size() - sent};
    msghdr message{};
    message.msg_iov = &vec;
    message.msg_iovlen = 1;
    auto n = base::HostRetry(SYS_sendmsg, socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!n.ok()) {
      healthy = n.failed_with(EAGAIN);
      break;
    }
    sent += static_cast<size_t>(*n);
  }
  pending.erase(0, sent);
  return healthy;
}

}  // namespace sentry::control
