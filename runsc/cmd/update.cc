#include <optional>

#include "base/status_macros.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/host/files.h"

namespace runsc::cmd {
namespace {

// A number that is absent until its flag is given.
template <typename T>
void Number(config::FlagSet& flags, const char* name, std::optional<T>* target, const char* help) {
  flags.Custom(name, "", help, [target](const std::string& text) {
    int64_t value = 0;
    config::FlagSet number;
    number.Int("n", &value, "");
    if (!number.Set("n", text).ok()) return absl::InvalidArgumentError("must be a number");
    *target = static_cast<T>(value);
    return absl::OkStatus();
  });
}

}  // namespace

absl::StatusOr<int> Update(Context& context) {
  config::FlagSet flags;
  oci::Resources r;
  std::string file;
  flags.String("resources", &file, "JSON file with a linux.resources object, - for standard input");
  flags.Alias("r", "resources");
  Number(flags, "blkio-weight", &r.blkio_weight, "weight of block I/O");
  Number(flags, "cpu-period", &r.cpu_period, "CPU period in microseconds");
  Number(flags, "cpu-quota", &r.cpu_quota, "CPU time per period in microseconds");
  Number(flags, "cpu-burst", &r.cpu_burst, "CPU time that may be saved up, in microseconds");
  Number(flags, "cpu-share", &r.cpu_shares, "relative CPU shares");
  Number(flags, "cpu-rt-period", &r.cpu_realtime_period, "real-time period in microseconds");
  Number(flags, "cpu-rt-runtime", &r.cpu_realtime_runtime, "real-time runtime in microseconds");
  Number(flags, "cpu-idle", &r.cpu_idle, "1: only what other groups leave");
  flags.String("cpuset-cpus", &r.cpuset_cpus, "CPUs");
  flags.String("cpuset-mems", &r.cpuset_mems, "memory nodes");
  Number(flags, "memory", &r.memory_limit, "memory limit in bytes");
  Number(flags, "memory-reservation", &r.memory_reservation, "soft memory limit in bytes");
  Number(flags, "memory-swap", &r.memory_swap, "limit of memory and swap in bytes");
  Number(flags, "pids-limit", &r.pids_limit, "number of processes");
  flags.IgnoredString("kernel-memory");
  flags.IgnoredString("kernel-memory-tcp");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  if (!file.empty()) {
    auto json = file == "-" ? host::ReadAll(0, "standard input") : host::ReadFile(file);
    if (!json.ok()) return json.status();
    ASSIGN_OR_RETURN(r, oci::ParseResources(*json, file == "-" ? "standard input" : file));
  }
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], true));
  if (container.status == container::Status::kStopped) return absl::FailedPreconditionError("container not running");
  if (container.state.cgroup_directories.empty()) {
    return absl::FailedPreconditionError("container \"" + container.state.id + "\" has no cgroup: nothing to update");
  }
  auto cgroup = cgroup::Cgroup::Restore(container.state.cgroup_directories, {});
  RETURN_IF_ERROR(cgroup.Apply(r));
  return 0;
}

}  // namespace runsc::cmd
