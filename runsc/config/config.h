// Config: the global flags, spelled as gVisor spells them.
#ifndef RUNSC_CONFIG_CONFIG_H_
#define RUNSC_CONFIG_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/config/flag_set.h"

namespace runsc::config {

enum class Network { kNone, kSandbox, kHost };
enum class FileAccess { kExclusive, kShared };

// --overlay2: none, or {root|all}:{memory|self|dir=/path}[,size=N].
struct Overlay {
  enum class Scope { kNone, kRoot, kAll } scope = Scope::kRoot;
  enum class Medium { kMemory, kSelf, kDir } medium = Medium::kMemory;
  std::string dir;
  uint64_t size = 0;  // bytes; 0: no limit of its own
};
absl::StatusOr<Overlay> ParseOverlay(std::string_view text);

struct Config {
  std::string root;  // DefaultRoot() unless given
  std::string log;
  std::string log_format = "text";
  bool debug = false;
  std::string debug_log;
  std::string platform = "systrap";
  bool systrap_patching = true;
  bool systrap_disable_patching = false;
  Network network = Network::kSandbox;
  Overlay overlay;
  FileAccess file_access = FileAccess::kExclusive;
  FileAccess file_access_mounts = FileAccess::kShared;
  bool rootless = false;
  bool ignore_cgroups = false;
  bool systemd_cgroup = false;
  bool oci_seccomp = false;
  bool strace = false;
  std::string fail_allocations;  // with RUNSC_FAIL_ALLOCATIONS: N, so that every N-th for a guest fails
  std::string strace_syscalls;
  std::string host_uds = "none";
  std::string host_fifo = "none";
  bool allow_flag_override = false;
  bool version = false;
};

// Registers every global flag; targets are members of `config`.
void RegisterFlags(FlagSet& flags, Config& config);

// $XDG_RUNTIME_DIR/runsc, or /var/run/runsc.
std::string DefaultRoot();

// Contradictions between flags.
absl::Status Validate(const Config& config);

// Annotations `dev.gvisor.flag.NAME: value` of a container. Without --allow-flag-override only those that cannot weaken
// the sandbox.
absl::Status ApplyAnnotations(const std::map<std::string, std::string>& annotations, Config& config);

}  // namespace runsc::config

#endif  // RUNSC_CONFIG_CONFIG_H_
