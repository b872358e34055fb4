// ProcessSpec: a guest process to be started, as the OCI configuration's `process` object describes it, with nothing
// left to look up on the host.
#ifndef SENTRY_CONTROL_PROCESS_SPEC_H_
#define SENTRY_CONTROL_PROCESS_SPEC_H_

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace sentry::control {

struct Rlimit {
  int resource = 0;  // RLIMIT_… of Linux
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// Bit N is capability N (linux/capability.h).
struct CapabilitySets {
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  uint64_t bounding = 0;
  uint64_t ambient = 0;
};

struct ProcessSpec {
  std::vector<std::string> argv;  // at least one; argv[0] without a slash is looked up in envv's PATH
  std::vector<std::string> envv;  // "NAME=value"; HOME is added from the guest's /etc/passwd when absent, as runc does
  std::string cwd = "/";          // absolute; init's is created when it is missing, as runc does
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;
  uint32_t umask = 022;
  std::vector<Rlimit> rlimits;  // those not named keep the sandbox's defaults
  CapabilitySets capabilities;
  bool no_new_privs = false;

  // The guest's descriptors 0, 1 and 2. With `terminal` all three are the same host pty slave, which becomes the
  // controlling terminal of a new session. An invalid one is opened as the guest's /dev/null.
  bool terminal = false;
  uint16_t terminal_rows = 0;  // 0: leave the size alone
  uint16_t terminal_columns = 0;
  std::array<base::UniqueFd, 3> stdio;
  // Further host descriptors, with the guest's number for each (--pass-fd).
  std::vector<std::pair<base::UniqueFd, int>> passed_fds;
};

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_PROCESS_SPEC_H_
