// The OCI runtime configuration (config.json, runtime-spec 1.1) as plain data. Only what this runtime acts upon;
// members that it does not know are ignored, as the specification asks.
#ifndef RUNSC_OCI_SPEC_H_
#define RUNSC_OCI_SPEC_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace runsc::oci {

// The version that this runtime implements, printed by --version and state.
inline constexpr std::string_view kOciVersion = "1.1.0";

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<uint32_t> additional_gids;
};

// Bit masks by capability number.
struct Capabilities {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
};

struct Rlimit {
  int resource = 0;
  uint64_t soft = 0;
  uint64_t hard = 0;
};

struct Process {
  bool terminal = false;
  uint16_t console_rows = 0;
  uint16_t console_columns = 0;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd = "/";
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
};

struct Root {
  std::string path;  // absolute once the bundle is known
  bool readonly = false;
};

struct Mount {
  std::string destination;
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<int> timeout_s;
};

struct Hooks {
  std::vector<Hook> prestart;
  std::vector<Hook> create_runtime;
  std::vector<Hook> create_container;
  std::vector<Hook> start_container;
  std::vector<Hook> poststart;
  std::vector<Hook> poststop;
};

struct Namespace {
  std::string type;
  std::string path;  // empty: a new one
};

// Limits that were not given are absent. −1 means unlimited, as in the specification.
struct Resources {
  std::optional<int64_t> memory_limit, memory_reservation, memory_swap, memory_kernel, memory_kernel_tcp;
  std::optional<uint64_t> memory_swappiness;
  std::optional<bool> memory_disable_oom_killer;
  std::optional<uint64_t> cpu_shares, cpu_period, cpu_realtime_period, cpu_burst;
  std::optional<int64_t> cpu_quota, cpu_realtime_runtime, cpu_idle;
  std::string cpuset_cpus, cpuset_mems;
  std::optional<int64_t> pids_limit;
  std::optional<uint16_t> blkio_weight;
  std::map<std::string, std::string> unified;
};

// A range of ids inside of the container and where it begins outside.
struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
};

// linux.seccomp. Actions as SECCOMP_RET_* of Linux, errnoRet included.
struct SeccompArg {
  uint32_t index = 0;
  uint64_t value = 0, value_two = 0;
  std::string op;  // SCMP_CMP_…
};
struct SeccompRule {
  std::vector<std::string> names;
  uint32_t action = 0;
  std::vector<SeccompArg> args;
};
struct Seccomp {
  uint32_t default_action = 0;
  std::vector<SeccompRule> rules;
};

struct Linux {
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  std::vector<Namespace> namespaces;
  std::string cgroups_path;
  Resources resources;
  std::map<std::string, std::string> sysctl;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::optional<Seccomp> seccomp;
};

struct Spec {
  std::string oci_version;
  std::optional<Process> process;
  Root root;
  std::string hostname;
  std::string domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  Linux linux_;
};

// Parses and checks a configuration. An error names the member: `config.json: process.args[1] must be a string, not a
// number`.
absl::StatusOr<Spec> ParseSpec(std::string_view json);
// A process object alone, as `exec --process` takes it. `name` is for error messages.
absl::StatusOr<Process> ParseProcess(std::string_view json, std::string_view name);
// A linux.resources object alone, as `update --resources` takes it.
absl::StatusOr<Resources> ParseResources(std::string_view json, std::string_view name);

// The configuration that `runsc spec` writes.
struct SpecTemplate {
  std::vector<std::string> args = {"sh"};
  std::string cwd = "/";
  std::string netns;
  bool terminal = true;
};
std::string DefaultSpecJson(const SpecTemplate& options);

}  // namespace runsc::oci

#endif  // RUNSC_OCI_SPEC_H_
