// BootSpec: everything a sentry needs to know, and RunSandbox: what a sentry process does.
//
// runsc parses the OCI configuration, opens what has to be opened on the host and forks; the child calls RunSandbox and
// never sees JSON, a host path or the environment. The steps, in this order:
//
//   1. The clone that made the process gave it its own user, mount, IPC, UTS, PID and (unless network=host or a given
//      namespace) network namespaces. It waits for its id maps, pivots into an empty read-only tmpfs, takes the ids of
//      nobody, gives up every capability, sets no_new_privs and the limits, and closes every descriptor that the spec
//      does not name.
//   2. SandboxFactory: what needs calls that the filter will not allow (platform with its zygote, memory file,
//   executors).
//   3. The seccomp allow-list, for all threads (sentry/boot/isolation/seccomp.h).
//   4. Sandbox::Load: kernel, mounts, init's program. Its failure is `runsc create`'s failure.
//   5. The control server; init runs when `start` says so. RunSandbox returns when init has ended.
#ifndef SENTRY_BOOT_BOOT_H_
#define SENTRY_BOOT_BOOT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "sentry/control/process_spec.h"
#include "sentry/control/sandbox_ops.h"

namespace sentry::boot {

// exclusive: nobody else changes the files, so the client may cache names and attributes. shared: revalidate.
enum class FileAccess : uint8_t { kExclusive, kShared };
// kNone: loopback only. kSandbox: the container's own network namespace. kHost: host sockets.
enum class NetworkMode : uint8_t { kNone, kSandbox, kHost };
enum class HostUds : uint8_t { kNone = 0, kOpen = 1, kCreate = 2, kAll = 3 };  // bits

// Where the writable upper layers live (--overlay2).
enum class OverlayMedium : uint8_t {
  kNone,    // writes go to the gofer's tree
  kMemory,  // sandbox memory
  kFile,    // overlay_file of the root or the mount, which has no name on the host
};

struct MountSpec {
  std::string destination;  // absolute, cleaned
  std::string type;         // "bind" (served by the gofer), tmpfs, proc, sysfs, devpts, devtmpfs, mqueue, cgroup, …
  std::string source;       // as in the configuration; only for /proc/mounts
  uint64_t flags = 0;       // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, … (sys/mount.h)
  std::string data;         // options of the file system, comma separated: "mode=755,size=65536k"
  int gofer_mount = -1;     // bind: the tree's index on the gofer connection (0 is the root)
  FileAccess access = FileAccess::kShared;
  bool source_is_file = false;  // bind: the tree is one file (or socket), not a directory
  OverlayMedium overlay = OverlayMedium::kNone;
  base::UniqueFd overlay_file;  // with OverlayMedium::kFile: empty, open for reading and writing
};

// linux.seccomp. Actions are SECCOMP_RET_* with their data.
struct SeccompCondition {
  enum class Op : uint8_t { kNotEqual, kLess, kLessOrEqual, kEqual, kGreaterOrEqual, kGreater, kMaskedEqual };
  uint32_t index = 0;  // of the argument, 0 to 5
  Op op = Op::kEqual;
  uint64_t value = 0;      // kMaskedEqual: the mask
  uint64_t value_two = 0;  // kMaskedEqual: what the rest is compared with
};
struct SeccompRule {
  std::vector<std::string> names;
  uint32_t action = 0;
  std::vector<SeccompCondition> conditions;  // all of them
};
struct SeccompProfile {
  uint32_t default_action = 0;
  std::vector<SeccompRule> rules;
};

struct BootSpec {
  std::string container_id;
  std::string sandbox_id;  // the same for a stand-alone container
  std::map<std::string, std::string> annotations;

  control::ProcessSpec process;           // init
  std::optional<SeccompProfile> seccomp;  // for init and for what is executed later
  std::string hostname;
  std::string domainname;

  // Files. Tree 0 of the gofer connection is the root; mounts follow in the order of the configuration, which is the
  // order to mount them in.
  base::UniqueFd gofer;  // the client's end of the connection
  bool root_readonly = false;
  FileAccess root_access = FileAccess::kExclusive;
  OverlayMedium root_overlay = OverlayMedium::kMemory;
  uint64_t overlay_size_limit = 0;  // bytes per upper layer; 0: the default of tmpfs
  base::UniqueFd overlay_file;      // as in MountSpec
  std::vector<MountSpec> mounts;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  std::map<std::string, std::string> sysctl;

  // Host features that flags opened.
  NetworkMode network = NetworkMode::kNone;
  // With kHost: files of the host's /proc/net by name, open for reading.
  std::vector<std::pair<std::string, base::UniqueFd>> host_net_files;
  HostUds host_uds = HostUds::kNone;
  bool host_fifo = false;

  std::string platform = "systrap";
  base::UniqueFd kvm;  // /dev/kvm, for that platform; opened by the process itself in step 1
  bool systrap_patching = true;
  int cpu_count = 1;          // CPUs that the guest sees; an executor for each
  double cpu_limit = 0;       // CPUs' worth of time that the host gives us; 0: no limit
  uint64_t memory_limit = 0;  // bytes; 0: what the host has
  int64_t pids_limit = 0;     // guest tasks; 0: no limit
  bool strace = false;
  std::vector<std::string> strace_syscalls;  // empty: all
  uint64_t fail_allocations = 0;             // for tests: every so manieth for a guest fails; 0: none
  bool debug = false;  // a filter violation is reported in the debug log before the process is killed

  // Descriptors of the process itself.
  base::UniqueFd control;    // listening stream socket of the control interface
  base::UniqueFd ready;      // one report (control/ready.h) when Load succeeded or failed, then closed
  base::UniqueFd id_maps;    // read side of a pipe: a byte comes when the id maps are written
  base::UniqueFd user_log;   // may be invalid
  base::UniqueFd debug_log;  // may be invalid
  bool log_json = false;
  bool die_with_parent = false;  // attached: PDEATHSIG
  uint32_t host_uid = 65534;     // what the process becomes inside of its user namespace
  uint32_t host_gid = 65534;
};

// A sandbox before and after it runs. Implemented by the kernel's wiring; a fake one in the tests.
class Sandbox : public control::SandboxOps {
 public:
  // Step 4. Under the filter: no path can be opened, no namespace entered. kNotFound and kPermissionDenied with the
  // texts of SandboxOps::CreateProcess when init's program is missing or not executable.
  virtual absl::Status Load() = 0;
};

// Step 2. `spec` stays alive and unmoved for as long as the sandbox; the factory may take descriptors and strings out
// of it. The process is single-threaded and without capabilities; it may start threads.
using SandboxFactory = absl::StatusOr<std::unique_ptr<Sandbox>> (*)(BootSpec& spec);

// The real one (target sentry_boot_kernel).
absl::StatusOr<std::unique_ptr<Sandbox>> NewKernelSandbox(BootSpec& spec);

// The system call table for `runsc syscalls`: a row per number with name and state, as aligned text or as JSON. Same
// target.
std::string DescribeSystemCalls(bool json);

// Returns the exit code of the process: init's, 128 + the signal that killed it, or 128 when the sandbox could not be
// made (the reason went through `ready`).
int RunSandbox(BootSpec spec, SandboxFactory factory);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_BOOT_H_
