#include "sentry/control/ready.h"

#include <string>

#include "base/syscall_unsafe.h"
#include "sentry/control/control.pb.h"
#include "sentry/control/messages.h"

namespace sentry::control {
namespace {

// One pipe write of up to PIPE_BUF is whole; a longer reason is cut.
constexpr size_t kMaxErrorBytes = 3000;

}  // namespace

void ReportReady(base::UniqueFd pipe, const absl::Status& status) {
  if (!pipe.valid()) return;
  pb::Ready ready;
  // A success has to be told from an empty pipe, so something is always written.
  ready.set_code(static_cast<int32_t>(status.code()));
  ready.set_error(status.ok() ? "ok" : std::string(status.message().substr(0, kMaxErrorBytes)));
  std::string bytes = ready.SerializeAsString();
  (void)base::HostRetry(SYS_write, pipe.get(), bytes.data(), bytes.size());
}

absl::Status AwaitReady(int pipe, std::string_view who) {
  std::string bytes;
  char buffer[4096];
  while (bytes.size() < 2 * sizeof(buffer)) {
    auto n = base::HostRetry(SYS_read, pipe, buffer, sizeof(buffer));
    if (!n.ok() || *n == 0) break;
    bytes.append(buffer, static_cast<size_t>(*n));
  }
  pb::Ready ready;
  if (bytes.empty() || !ready.ParseFromString(bytes)) {
    return absl::UnavailableError(std::string(who) + " ended before it was ready; --debug-log may tell why");
  }
  return StatusFromMessage(ready.code(), ready.error());
}

}  // namespace sentry::control
