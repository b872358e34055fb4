// Both ends of the control interface: frames as they come out of a socket, requests at a server, replies at a client.
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sentry/control/client.h"
#include "sentry/control/framing.h"
#include "sentry/control/messages.h"

namespace {

using namespace sentry::control;  // NOLINT: a test program

// A socket whose other end has sent `data` and is closed.
base::UniqueFd SocketWith(const uint8_t* data, size_t size) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return base::UniqueFd();
  base::UniqueFd reader(fds[0]), writer(fds[1]);
  (void)send(writer.get(), data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  shutdown(writer.get(), SHUT_WR);
  return reader;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  {
    base::UniqueFd socket = SocketWith(data, size);
    FrameReader reader;
    Frame frame;
    for (bool open = true; open;) {
      FrameReader::State state = reader.Receive(socket.get(), MSG_DONTWAIT);
      open = state == FrameReader::State::kFrame || state == FrameReader::State::kNeedMore;
      while (reader.Next(frame)) {
        pb::Request request;
        if (request.ParseFromString(frame.payload) && request.has_exec()) {
          std::vector<base::UniqueFd> fds;
          (void)ProcessFromMessage(request.exec().process(), fds);
        }
      }
    }
  }
  ControlClient client(SocketWith(data, size));
  (void)client.GetStats();
  return 0;
}
