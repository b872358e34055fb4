// Host processes: making them in new namespaces, and telling whether one is still the one that was made.
#ifndef RUNSC_HOST_PROCESS_H_
#define RUNSC_HOST_PROCESS_H_

#include <sys/types.h>

#include <cstdint>

#include "absl/status/statusor.h"

namespace runsc::host {

// fork(2) with CLONE_NEW* flags. Returns 0 in the child. Only from a single-threaded process: the C library's at-fork
// handlers do not run, but its idea of the thread id is kept right.
absl::StatusOr<pid_t> CloneProcess(uint64_t namespace_flags);

struct ProcessStatus {
  bool alive = false;       // exists and is not a zombie
  uint64_t start_time = 0;  // in clock ticks since boot; together with the pid it names a process for good
};

// What /proc/PID/stat says.
ProcessStatus GetProcessStatus(pid_t pid);
// True if `pid` is alive and is the process that started at start_time (a pid may have been used again).
bool IsSameProcess(pid_t pid, uint64_t start_time);
// Waits until the process has ended, or about `timeout_ms` have passed (−1: for ever). It need not be a child. True if
// it ended.
bool WaitForEnd(pid_t pid, uint64_t start_time, int timeout_ms);

}  // namespace runsc::host

#endif  // RUNSC_HOST_PROCESS_H_
