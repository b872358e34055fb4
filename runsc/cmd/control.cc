// The verbs that ask a running sandbox: wait, pause, resume, events.
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"

namespace runsc::cmd {
namespace {

using nlohmann::ordered_json;

absl::StatusOr<int> WithContainer(Context& context, absl::Status (*f)(container::Container&)) {
  config::FlagSet flags;
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "<id>", 1, 1));
  if (arguments.help_asked) return 0;
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], true));
  RETURN_IF_ERROR(f(container));
  return 0;
}

std::string StatsJson(const container::Container& container, const sentry::control::Stats& stats) {
  uint64_t memory = stats.memory_usage_bytes;
  // What the host charges is what counts against the limit.
  auto cgroup = cgroup::Cgroup::Restore(container.state.cgroup_directories, {});
  if (auto usage = cgroup.MemoryUsage()) memory = *usage;
  ordered_json usage = {{"usage", memory}};
  if (stats.memory_limit_bytes != 0) usage["limit"] = stats.memory_limit_bytes;
  if (stats.memory_max_bytes != 0) usage["max"] = stats.memory_max_bytes;
  ordered_json pids = {{"current", stats.pids_current}};
  if (stats.pids_limit != 0) pids["limit"] = stats.pids_limit;
  ordered_json json = {{"type", "stats"},
                       {"id", container.state.id},
                       {"data",
                        {{"cpu",
                          {{"usage",
                            {{"kernel", stats.cpu_system_ns},
                             {"user", stats.cpu_user_ns},
                             {"total", stats.cpu_user_ns + stats.cpu_system_ns}}}}},
                         {"memory",
                          {{"cache", stats.memory_cache_bytes},
                           {"usage", usage},
                           {"swap", ordered_json::object()},
                           {"kernel", ordered_json::object()},
                           {"kernelTCP", ordered_json::object()}}},
                         {"pids", pids},
                         {"network_interfaces", ordered_json::array()}}}};
  return json.dump();
}

}  // namespace

absl::StatusOr<int> Pause(Context& context) { return WithContainer(context, &container::Pause); }
absl::StatusOr<int> Resume(Context& context) { return WithContainer(context, &container::Resume); }

absl::StatusOr<int> Wait(Context& context) {
  config::FlagSet flags;
  int64_t pid = 1, root_pid = 0;
  flags.Int("pid", &pid, "wait for this process, by its pid in the container");
  flags.Int("rootpid", &root_pid, "the same, by its pid in the sandbox");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  if (root_pid != 0) pid = root_pid;
  if (pid <= 0 || pid > 1 << 30) return absl::InvalidArgumentError("a pid must be positive");
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  ASSIGN_OR_RETURN(auto client, container.Connect());
  ASSIGN_OR_RETURN(int status, client.Wait(static_cast<int32_t>(pid)));
  ordered_json json = {{"id", container.state.id}, {"exitStatus", container::ExitCode(status)}};
  printf("%s\n", json.dump().c_str());
  return 0;
}

absl::StatusOr<int> Events(Context& context) {
  config::FlagSet flags;
  bool once = false;
  int64_t interval = 5;
  flags.Bool("stats", &once, "print the statistics once");
  flags.Int("interval", &interval, "seconds between two lines");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  if (interval <= 0 || interval > 1 << 20)
    return absl::InvalidArgumentError("invalid value for flag -interval: must be positive");
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  ASSIGN_OR_RETURN(auto client, container.Connect());
  for (;;) {
    auto stats = client.GetStats();
    if (!once && absl::IsUnavailable(stats.status())) return 0;  // the container has ended
    if (!stats.ok()) return stats.status();
    printf("%s\n", StatsJson(container, *stats).c_str());
    fflush(stdout);
    if (once) return 0;
    sleep(static_cast<unsigned>(interval));
  }
}

}  // namespace runsc::cmd
