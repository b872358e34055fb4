#include "sentry/control/messages.h"

namespace sentry::control {

std::vector<int> ProcessToMessage(const ProcessSpec& spec, pb::Process& message) {
  for (const std::string& arg : spec.argv) message.add_argv(arg);
  for (const std::string& variable : spec.envv) message.add_envv(variable);
  message.set_cwd(spec.cwd);
  message.set_uid(spec.uid);
  message.set_gid(spec.gid);
  for (uint32_t gid : spec.additional_gids) message.add_additional_gids(gid);
  message.set_umask(spec.umask);
  for (const Rlimit& limit : spec.rlimits) {
    pb::Rlimit* m = message.add_rlimits();
    m->set_resource(limit.resource);
    m->set_soft(limit.soft);
    m->set_hard(limit.hard);
  }
  pb::CapabilitySets* caps = message.mutable_capabilities();
  caps->set_effective(spec.capabilities.effective);
  caps->set_permitted(spec.capabilities.permitted);
  caps->set_inheritable(spec.capabilities.inheritable);
  caps->set_bounding(spec.capabilities.bounding);
  caps->set_ambient(spec.capabilities.ambient);
  message.set_no_new_privs(spec.no_new_privs);
  message.set_terminal(spec.terminal);
  message.set_terminal_rows(spec.terminal_rows);
  message.set_terminal_columns(spec.terminal_columns);

  std::vector<int> fds;
  for (const base::UniqueFd& fd : spec.stdio) {
    if (!fd.valid()) break;
    fds.push_back(fd.get());
  }
  message.set_stdio_count(static_cast<uint32_t>(fds.size()));
  for (const auto& [fd, guest] : spec.passed_fds) {
    fds.push_back(fd.get());
    message.add_passed_fds(guest);
  }
  return fds;
}

absl::StatusOr<ProcessSpec> ProcessFromMessage(const pb::Process& message, std::vector<base::UniqueFd>& fds) {
  ProcessSpec spec;
  if (message.argv_size() == 0) return absl::InvalidArgumentError("no program to run");
  if (message.cwd().empty() || message.cwd()[0] != '/')
    return absl::InvalidArgumentError("cwd must be an absolute path");
  size_t stdio = message.stdio_count();
  if (stdio > spec.stdio.size() || fds.size() != stdio + static_cast<size_t>(message.passed_fds_size())) {
    return absl::InvalidArgumentError("wrong number of descriptors");
  }
  for (const std::string& arg : message.argv()) spec.argv.push_back(arg);
  for (const std::string& variable : message.envv()) spec.envv.push_back(variable);
  spec.cwd = message.cwd();
  spec.uid = message.uid();
  spec.gid = message.gid();
  spec.additional_gids.assign(message.additional_gids().begin(), message.additional_gids().end());
  spec.umask = message.umask() & 0777;
  for (const pb::Rlimit& limit : message.rlimits()) {
    if (limit.resource() < 0 || limit.resource() > 15 || limit.soft() > limit.hard()) {
      return absl::InvalidArgumentError("bad resource limit");
    }
    spec.rlimits.push_back({limit.resource(), limit.soft(), limit.hard()});
  }
  const pb::CapabilitySets& caps = message.capabilities();
  spec.capabilities = {caps.effective(), caps.permitted(), caps.inheritable(), caps.bounding(), caps.ambient()};
  spec.no_new_privs = message.no_new_privs();
  spec.terminal = message.terminal();
  spec.terminal_rows = static_cast<uint16_t>(message.terminal_rows());
  spec.terminal_columns = static_cast<uint16_t>(message.terminal_columns());
  for (size_t i = 0; i < stdio; ++i) spec.stdio[i] = std::move(fds[i]);
  for (int i = 0; i < message.passed_fds_size(); ++i) {
    if (message.passed_fds(i) < 0) return absl::InvalidArgumentError("bad descriptor number");
    spec.passed_fds.emplace_back(std::move(fds[stdio + static_cast<size_t>(i)]), message.passed_fds(i));
  }
  fds.clear();
  return spec;
}

void ProcessInfoToMessage(const ProcessInfo& info, pb::ProcessInfo& message) {
  message.set_pid(info.pid);
  message.set_ppid(info.ppid);
  message.set_pgid(info.pgid);
  message.set_uid(info.uid);
  message.set_start_time_unix_ns(info.start_time_unix_ns);
  message.set_cpu_time_ns(info.cpu_time_ns);
  message.set_cpu_percent(info.cpu_percent);
  message.set_tty(info.tty);
  message.set_command(info.command);
}

ProcessInfo ProcessInfoFromMessage(const pb::ProcessInfo& message) {
  ProcessInfo info;
  info.pid = message.pid();
  info.ppid = message.ppid();
  info.pgid = message.pgid();
  info.uid = message.uid();
  info.start_time_unix_ns = message.start_time_unix_ns();
  info.cpu_time_ns = message.cpu_time_ns();
  info.cpu_percent = message.cpu_percent();
  info.tty = message.tty();
  info.command = message.command();
  return info;
}

void StatsToMessage(const Stats& stats, pb::StatsReply& message) {
  message.set_cpu_user_ns(stats.cpu_user_ns);
  message.set_cpu_system_ns(stats.cpu_system_ns);
  message.set_memory_usage_bytes(stats.memory_usage_bytes);
  message.set_memory_max_bytes(stats.memory_max_bytes);
  message.set_memory_limit_bytes(stats.memory_limit_bytes);
  message.set_memory_cache_bytes(stats.memory_cache_bytes);
  message.set_pids_current(stats.pids_current);
  message.set_pids_limit(stats.pids_limit);
}

Stats StatsFromMessage(const pb::StatsReply& message) {
  Stats stats;
  stats.cpu_user_ns = message.cpu_user_ns();
  stats.cpu_system_ns = message.cpu_system_ns();
  stats.memory_usage_bytes = message.memory_usage_bytes();
  stats.memory_max_bytes = message.memory_max_bytes();
  stats.memory_limit_bytes = message.memory_limit_bytes();
  stats.memory_cache_bytes = message.memory_cache_bytes();
  stats.pids_current = message.pids_current();
  stats.pids_limit = message.pids_limit();
  return stats;
}

absl::Status StatusFromMessage(int32_t code, const std::string& error) {
  if (code == 0) return absl::OkStatus();
  if (code < 0 || code > static_cast<int32_t>(absl::StatusCode::kUnauthenticated)) {
    code = static_cast<int32_t>(absl::StatusCode::kUnknown);
  }
  return absl::Status(static_cast<absl::StatusCode>(code), error);
}

}  // namespace sentry::control
