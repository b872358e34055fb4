#include "runsc/host/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"

namespace runsc::host {

absl::StatusOr<pid_t> CloneProcess(uint64_t namespace_flags) {
  // The C library keeps the thread id in its thread descriptor, at the address it gave to set_tid_address(2); fork(2)
  // has the kernel store the child's id there. So do we, or locks and raise(3) in the child would use the parent's.
  int* tid_address = nullptr;
  uint64_t flags = namespace_flags | SIGCHLD;
  if (prctl(PR_GET_TID_ADDRESS, &tid_address) == 0 && tid_address != nullptr) {
    flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
  }
  long pid = syscall(SYS_clone, flags, nullptr, nullptr, tid_address, nullptr);
  if (pid < 0) return ErrnoStatus(errno, "clone");
  return static_cast<pid_t>(pid);
}

ProcessStatus GetProcessStatus(pid_t pid) {
  ProcessStatus status;
  if (pid <= 0) return status;
  absl::StatusOr<std::string> stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  if (!stat.ok()) return status;
  // "pid (comm) state ppid …": comm may hold anything, so look from its last parenthesis (man 5 proc).
  size_t paren = stat->rfind(')');
  if (paren == std::string::npos || paren + 2 >= stat->size()) return status;
  std::string_view rest = std::string_view(*stat).substr(paren + 2);
  char state = rest[0];
  for (int field = 3; field < 22; ++field) {  // starttime is field 22
    size_t space = rest.find(' ');
    if (space == std::string_view::npos) return status;
    rest.remove_prefix(space + 1);
  }
  std::from_chars(rest.data(), rest.data() + rest.size(), status.start_time);
  status.alive = state != 'Z' && state != 'X' && state != 'x';
  return status;
}

bool IsSameProcess(pid_t pid, uint64_t start_time) {
  ProcessStatus status = GetProcessStatus(pid);
  return status.alive && status.start_time == start_time;
}

bool WaitForEnd(pid_t pid, uint64_t start_time, int timeout_ms) {
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!IsSameProcess(pid, start_time)) return true;
  if (!pidfd.valid()) return !IsSameProcess(pid, start_time);
  pollfd p{pidfd.get(), POLLIN, 0};
  int n;
  do {
    n = poll(&p, 1, timeout_ms);
  } while (n < 0 && errno == EINTR);
  return n > 0;
}

}  // namespace runsc::host
