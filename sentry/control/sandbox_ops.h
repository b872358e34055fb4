// SandboxOps: what the control server asks of the kernel. The kernel implements it (sentry/boot); the tests have a
// fake.
//
// Called on the control thread, an ordinary host thread, never on a fiber, one call at a time. An implementation that
// needs fiber locks runs its work on a fiber and joins it. Failure is an absl::Status whose message is shown to a
// person as it is; the code tells kNotFound (no such process or file), kPermissionDenied, kInvalidArgument and
// kFailedPrecondition (wrong state) from the rest.
#ifndef SENTRY_CONTROL_SANDBOX_OPS_H_
#define SENTRY_CONTROL_SANDBOX_OPS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sentry/control/process_spec.h"

namespace sentry::control {

// One thread group in the guest, for ps.
struct ProcessInfo {
  int32_t pid = 0;
  int32_t ppid = 0;
  int32_t pgid = 0;
  uint32_t uid = 0;
  int64_t start_time_unix_ns = 0;
  uint64_t cpu_time_ns = 0;
  uint32_t cpu_percent = 0;  // of its life, as ps's C column
  std::string tty = "?";     // "pts/0"
  std::string command;       // comm, or argv[0]
};

struct Stats {
  uint64_t cpu_user_ns = 0;
  uint64_t cpu_system_ns = 0;
  uint64_t memory_usage_bytes = 0;  // the memory file's resident size and what the sentry itself charges
  uint64_t memory_max_bytes = 0;    // high-water mark; 0 unknown
  uint64_t memory_limit_bytes = 0;  // 0 none
  uint64_t memory_cache_bytes = 0;
  uint64_t pids_current = 0;  // guest tasks
  uint64_t pids_limit = 0;    // 0 none
};

class SandboxOps {
 public:
  virtual ~SandboxOps() = default;

  // Lets init run. Once; kFailedPrecondition the second time.
  virtual absl::Status Start() = 0;
  // Makes and runs a further process in the container (exec). Returns its guest pid. kNotFound with
  // `exec: "x": executable file not found in $PATH` (or `stat /x: no such file or directory`), kPermissionDenied with
  // `exec: "/x": permission denied`: engines look for these words.
  virtual absl::StatusOr<int32_t> CreateProcess(ProcessSpec spec) = 0;
  // Calls `done` exactly once with a wait status (man 2 waitpid), on any thread, perhaps before returning; kNotFound
  // when `pid` is neither init nor a process of CreateProcess. A process that ended already is reported until it was
  // waited for once; init for as long as the sandbox lives.
  virtual void WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) = 0;

  virtual absl::Status SignalProcess(int32_t pid, int signo) = 0;
  virtual absl::Status SignalGroup(int32_t pgid, int signo) = 0;
  virtual absl::Status SignalAll(int signo) = 0;
  // To the foreground process group of the terminal that `pid` (init, or one of CreateProcess) was started with: what
  // the host's line discipline would have sent (^C, ^\, ^Z, a changed window size).
  virtual absl::Status SignalForeground(int32_t pid, int signo) = 0;

  virtual std::vector<ProcessInfo> ListProcesses() = 0;
  // Stops every guest task at its next boundary and returns when all have; Resume lets them go on. Idempotent.
  virtual absl::Status Pause() = 0;
  virtual absl::Status Resume() = 0;
  // Sets the size of the terminal that `pid` was started with.
  virtual absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) = 0;
  virtual Stats GetStats() = 0;
};

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_SANDBOX_OPS_H_
