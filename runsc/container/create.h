// Creating a container: everything of `runsc create` and the first half of `runsc run`.
#ifndef RUNSC_CONTAINER_CREATE_H_
#define RUNSC_CONTAINER_CREATE_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/config/config.h"
#include "runsc/container/console.h"
#include "runsc/container/state.h"
#include "sentry/boot/boot.h"

namespace runsc::container {

struct CreateOptions {
  std::string id;
  std::string bundle;  // absolute
  std::string console_socket;
  std::string pid_file;
  std::vector<std::pair<int, int>> passed_fds;  // ours, the guest's
  // The caller stays and waits: the sandbox dies with it, and a terminal without a console socket is the caller's.
  bool attached = false;
  // Instead of BUNDLE/config.json.
  std::optional<std::string> spec_json;
  sentry::boot::SandboxFactory factory = nullptr;
};

struct CreatedContainer {
  StateDirectory directory;  // locked
  State state;
  std::optional<Pty> terminal;  // attached, without console socket
};

// On failure nothing is left behind: no process, no directory, no cgroup.
absl::StatusOr<CreatedContainer> CreateContainer(const config::Config& config, const CreateOptions& options);

// The debug log of one of our processes (`command`: "create", "boot", "gofer", …), opened for appending; invalid
// without --debug-log.
base::UniqueFd OpenDebugLog(const config::Config& config, const std::string& id, const std::string& command);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_CREATE_H_
