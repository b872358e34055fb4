// ControlClient: runsc's end of the control interface. One thread, blocking calls. A sandbox may be compromised: what
// it answers is checked and bounded, and only ever shown or used as a number.
#ifndef SENTRY_CONTROL_CLIENT_H_
#define SENTRY_CONTROL_CLIENT_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "sentry/control/control.pb.h"
#include "sentry/control/framing.h"
#include "sentry/control/sandbox_ops.h"

namespace sentry::control {

class ControlClient {
 public:
  // `socket`: connected, blocking.
  explicit ControlClient(base::UniqueFd socket) : socket_(std::move(socket)) {}

  absl::Status Start();
  // The guest pid. `kill_on_hangup`: the process ends with this client.
  absl::StatusOr<int32_t> Exec(const ProcessSpec& spec, bool kill_on_hangup);
  // Blocks until the process has ended. kUnavailable if the sandbox died meanwhile.
  absl::StatusOr<int> Wait(int32_t pid);
  // The two halves of Wait, for callers that do something else in between (forward signals, copy a terminal): poll
  // socket() for input, then ask FinishWait, which reads once; kUnavailable when the sandbox is gone, false when there
  // is no answer yet.
  absl::StatusOr<uint64_t> BeginWait(int32_t pid);
  absl::StatusOr<bool> FinishWait(uint64_t request, int& wait_status);
  absl::Status Signal(pb::SignalRequest::Target target, int32_t pid, int signo);
  absl::StatusOr<std::vector<ProcessInfo>> Processes();
  absl::Status Pause();
  absl::Status Resume();
  absl::StatusOr<Stats> GetStats();
  absl::Status Resize(int32_t pid, uint16_t rows, uint16_t columns);

  int socket() const { return socket_.get(); }

 private:
  absl::StatusOr<uint64_t> Send(pb::Request& request, const std::vector<int>& fds = {});
  absl::StatusOr<pb::Reply> Receive(uint64_t id);
  absl::StatusOr<pb::Reply> Call(pb::Request& request, const std::vector<int>& fds = {});
  // Takes replies out of the reader into early_.
  absl::Status Collect();

  base::UniqueFd socket_;
  FrameReader reader_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, pb::Reply> early_;  // replies to other requests than the one that is waited for
};

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_CLIENT_H_
