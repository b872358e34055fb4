// The report that a sentry and a gofer send through their `ready` pipe: set up, or why not.
#ifndef SENTRY_CONTROL_READY_H_
#define SENTRY_CONTROL_READY_H_

#include <string_view>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace sentry::control {

// Sends `status` and closes the pipe.
void ReportReady(base::UniqueFd pipe, const absl::Status& status);

// Blocks until the report is there. kUnavailable when the process (named by `who` in the message) ended without one.
absl::Status AwaitReady(int pipe, std::string_view who);

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_READY_H_
