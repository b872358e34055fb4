#include "runsc/container/exec.h"

#include <charconv>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/host/files.h"
#include "runsc/oci/names.h"

namespace runsc::cmd {
namespace {

struct ExecFlags {
  std::string cwd, user, process_file;
  std::vector<std::string> env, additional_gids, caps, pass_fds;
  bool tty = false;
  int64_t preserve_fds = 0;
  container::ExecOptions options;

  void Register(config::FlagSet& flags) {
    flags.String("cwd", &cwd, "working directory; the container's if not given");
    flags.StringList("env", &env, "NAME=value in addition to the container's environment; may be repeated");
    flags.Alias("e", "env");
    flags.String("user", &user, "uid[:gid]");
    flags.Alias("u", "user");
    flags.StringList("additional-gids", &additional_gids, "supplementary group; may be repeated");
    flags.Alias("g", "additional-gids");
    flags.StringList("cap", &caps, "capability in addition to the container's; may be repeated");
    flags.Alias("c", "cap");
    flags.Bool("tty", &tty, "give the process a terminal");
    flags.Alias("t", "tty");
    flags.Bool("detach", &options.detach, "do not wait for the process");
    flags.Alias("d", "detach");
    flags.String("process", &process_file, "JSON file with the process, instead of flags and arguments");
    flags.Alias("p", "process");
    flags.String("pid-file", &options.pid_file, "file that gets the host pid that stands for the process");
    flags.String("internal-pid-file", &options.internal_pid_file, "file that gets the pid in the container");
    flags.String("console-socket", &options.console_socket,
                 "Unix socket that gets the master of the process's terminal");
    flags.StringList("pass-fd", &pass_fds, "M:N hands our descriptor M to the process as N; may be repeated");
    flags.Int("preserve-fds", &preserve_fds, "hand descriptors 3 to 3+N-1 to the process");
    flags.Bool("no-new-privs", &options.process.no_new_privileges, "the process cannot gain privileges by exec");
    for (const char* name : {"process-label", "apparmor", "cgroup", "user-log"}) flags.IgnoredString(name);
    flags.IgnoredBool("ignore-paused");
    flags.IgnoredBool("no-subreaper");
  }
};

bool ParseId(std::string_view text, uint32_t* id) {
  *id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *id);
  return error == std::errc() && end == text.data() + text.size() && *id != 0xffffffff;
}

// The container's own process with what the flags change.
absl::StatusOr<oci::Process> ProcessFromFlags(const ExecFlags& flags, const oci::Process& base,
                                              std::vector<std::string> args) {
  oci::Process process = base;
  process.args = std::move(args);
  process.terminal = flags.tty || !flags.options.console_socket.empty();
  if (!flags.cwd.empty()) {
    if (flags.cwd[0] != '/')
      return absl::InvalidArgumentError("invalid value \"" + flags.cwd + "\" for flag -cwd: must be absolute");
    process.cwd = flags.cwd;
  }
  for (const std::string& variable : flags.env) process.env.push_back(variable);
  if (!flags.user.empty()) {
    size_t colon = flags.user.find(':');
    if (!ParseId(std::string_view(flags.user).substr(0, colon), &process.user.uid) ||
        (colon != std::string::npos && !ParseId(std::string_view(flags.user).substr(colon + 1), &process.user.gid))) {
      return absl::InvalidArgumentError("invalid value \"" + flags.user +
                                        "\" for flag -user: must be uid[:gid], numbers");
    }
  }
  for (const std::string& text : flags.additional_gids) {
    uint32_t gid;
    if (!ParseId(text, &gid))
      return absl::InvalidArgumentError("invalid value \"" + text + "\" for flag -additional-gids");
    process.user.additional_gids.push_back(gid);
  }
  for (const std::string& name : flags.caps) {
    std::optional<int> number = oci::CapabilityNumber(name);
    if (!number) return absl::InvalidArgumentError("invalid value \"" + name + "\" for flag -cap: no such capability");
    if (!process.capabilities) process.capabilities.emplace();
    uint64_t bit = uint64_t{1} << *number;
    process.capabilities->bounding |= bit;
    process.capabilities->effective |= bit;
    process.capabilities->permitted |= bit;
  }
  process.no_new_privileges = process.no_new_privileges || flags.options.process.no_new_privileges;
  return process;
}

}  // namespace

absl::StatusOr<int> Exec(Context& context) {
  config::FlagSet flags;
  ExecFlags exec;
  exec.Register(flags);
  ASSIGN_OR_RETURN(
      Arguments arguments,
      ParseArguments(context, flags, "[flags] <id> <command> [arguments] | -process FILE <id>", 1, kAnyNumber, true));
  if (arguments.help_asked) return 0;
  for (const std::string& text : exec.pass_fds) {
    ASSIGN_OR_RETURN(auto pair, ParsePassFd(text));
    exec.options.passed_fds.push_back(pair);
  }
  AddPreservedFds(exec.preserve_fds, exec.options.passed_fds);
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  std::vector<std::string> args(arguments.values.begin() + 1, arguments.values.end());
  if (!exec.process_file.empty()) {
    ASSIGN_OR_RETURN(std::string json, host::ReadFile(exec.process_file));
    ASSIGN_OR_RETURN(exec.options.process, oci::ParseProcess(json, exec.process_file));
  } else {
    if (args.empty())
      return absl::InvalidArgumentError("no command is given; usage: runsc exec [flags] <id> <command> [arguments]");
    ASSIGN_OR_RETURN(oci::Spec spec, container.Spec());
    ASSIGN_OR_RETURN(exec.options.process, ProcessFromFlags(exec, *spec.process, std::move(args)));
  }
  return container::Exec(container, exec.options);
}

}  // namespace runsc::cmd
