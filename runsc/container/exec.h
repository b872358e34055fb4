// Running a further process in a container, and running a container in the foreground.
#ifndef RUNSC_CONTAINER_EXEC_H_
#define RUNSC_CONTAINER_EXEC_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/config/config.h"
#include "runsc/container/container.h"
#include "runsc/container/create.h"
#include "runsc/oci/spec.h"

namespace runsc::container {

struct ExecOptions {
  oci::Process process;
  bool detach = false;
  std::string pid_file;           // gets the host pid that stands for the process
  std::string internal_pid_file;  // gets the guest's pid
  std::string console_socket;
  std::vector<std::pair<int, int>> passed_fds;
};

// Attached: waits, and returns the exit code. Detached: a child of ours stays behind that ends with the process's exit
// code, passes signals on to it, and takes it along when it is killed; returns 0 at once.
absl::StatusOr<int> Exec(const Container& container, const ExecOptions& options);

// Starts a created container, waits for its end, deletes it; returns its exit code.
absl::StatusOr<int> RunInForeground(const config::Config& config, CreatedContainer created);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_EXEC_H_
