// Frames on a control socket: length-prefixed messages with descriptors, sent and taken apart. Both ends are
// non-blocking capable; neither trusts the other.
#ifndef SENTRY_CONTROL_FRAMING_H_
#define SENTRY_CONTROL_FRAMING_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace sentry::control {

// Arguments and environment of a process may take 2 MiB on Linux (ARG_MAX at the default stack limit).
inline constexpr uint32_t kMaxFrameBytes = 4 << 20;
inline constexpr size_t kMaxFrameFds = 64;

struct Frame {
  std::string payload;
  std::vector<base::UniqueFd> fds;
};

// Collects what a stream socket delivers and cuts it into frames.
class FrameReader {
 public:
  enum class State { kFrame, kNeedMore, kClosed, kBroken };
  // Reads once from `fd` (recvmsg with the given MSG_ flags). kBroken: an oversized frame, too many descriptors, an
  // error of the host; the connection is to be closed.
  State Receive(int fd, int flags);
  // The next whole frame, if one is there.
  bool Next(Frame& frame);
  bool broken() const { return broken_; }

 private:
  std::string buffer_;
  size_t consumed_ = 0;
  std::vector<base::UniqueFd> fds_;  // received and not yet handed out; they belong to the frame that comes next
  bool broken_ = false;
};

// The bytes of a frame with this payload.
std::string EncodeFrame(std::string_view payload);

// Sends all of `frame`, blocking. Descriptors go with the first byte.
absl::Status SendFrame(int socket, std::string_view frame, const std::vector<int>& fds);

// Writes all that the socket takes without waiting; removes it from `pending`. False if the connection is broken.
bool SendPending(int socket, std::string& pending);

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_FRAMING_H_
