// Conversions between the control protocol's messages and plain structures, with the checks a message needs.
#ifndef SENTRY_CONTROL_MESSAGES_H_
#define SENTRY_CONTROL_MESSAGES_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sentry/control/control.pb.h"
#include "sentry/control/process_spec.h"
#include "sentry/control/sandbox_ops.h"

namespace sentry::control {

// Fills `message`; returns the descriptors to send with it, which stay the spec's.
std::vector<int> ProcessToMessage(const ProcessSpec& spec, pb::Process& message);
// Takes the descriptors it needs. kInvalidArgument if the numbers do not fit together.
absl::StatusOr<ProcessSpec> ProcessFromMessage(const pb::Process& message, std::vector<base::UniqueFd>& fds);

void ProcessInfoToMessage(const ProcessInfo& info, pb::ProcessInfo& message);
ProcessInfo ProcessInfoFromMessage(const pb::ProcessInfo& message);
void StatsToMessage(const Stats& stats, pb::StatsReply& message);
Stats StatsFromMessage(const pb::StatsReply& message);

// A code of a message, which may be any number.
absl::Status StatusFromMessage(int32_t code, const std::string& error);

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_MESSAGES_H_
