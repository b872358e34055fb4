// What can be done with a container that exists.
#ifndef RUNSC_CONTAINER_CONTAINER_H_
#define RUNSC_CONTAINER_CONTAINER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/config/config.h"
#include "runsc/container/state.h"
#include "runsc/oci/spec.h"
#include "sentry/control/client.h"

namespace runsc::container {

// A container as it was found. With `lock`, nobody changes its state until this object is gone.
struct Container {
  StateDirectory directory;
  State state;
  Status status = Status::kStopped;  // now

  static absl::StatusOr<Container> Open(const config::Config& config, const std::string& id, bool lock);
  // The configuration that it was created from.
  absl::StatusOr<oci::Spec> Spec() const;
  // To its sandbox. kFailedPrecondition "container not running" when that is dead.
  absl::StatusOr<sentry::control::ControlClient> Connect() const;
  absl::Status SetStatus(Status status);
};

absl::Status Start(Container& container);
absl::Status Pause(Container& container);
absl::Status Resume(Container& container);

struct KillTarget {
  bool all = false;
  int pid = 0;   // in the guest; 0: init
  int pgid = 0;  // in the guest
};
absl::Status Kill(Container& container, const KillTarget& target, int signo);

// Ends whatever is alive, removes cgroup and directory, runs the poststop hooks. Without `force` only a container that
// does not run.
absl::Status Delete(Container& container, bool force);

// The exit code that stands for a wait status.
int ExitCode(int wait_status);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_CONTAINER_H_
