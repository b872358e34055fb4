#include <csignal>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/oci/names.h"

namespace runsc::cmd {

absl::StatusOr<int> Kill(Context& context) {
  config::FlagSet flags;
  bool all = false;
  int64_t pid = 0, pgid = 0;
  flags.Bool("all", &all, "send the signal to all processes of the container");
  flags.Alias("a", "all");
  flags.Int("pid", &pid, "send it to this process, by its pid in the container");
  flags.Int("pgid", &pgid, "send it to this process group");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id> [signal]", 1, 2));
  if (arguments.help_asked) return 0;
  if ((all ? 1 : 0) + (pid != 0 ? 1 : 0) + (pgid != 0 ? 1 : 0) > 1) {
    return absl::InvalidArgumentError("only one of -all, -pid and -pgid can be given");
  }
  if (pid < 0 || pid > 1 << 30 || pgid < 0 || pgid > 1 << 30)
    return absl::InvalidArgumentError("a pid must be positive");
  int signo = SIGTERM;
  if (arguments.values.size() == 2) {
    std::optional<int> number = oci::SignalNumber(arguments.values[1]);
    if (!number) return absl::InvalidArgumentError("unknown signal \"" + arguments.values[1] + "\"");
    signo = *number;
  }
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], false));
  RETURN_IF_ERROR(container::Kill(container, {all, static_cast<int>(pid), static_cast<int>(pgid)}, signo));
  return 0;
}

}  // namespace runsc::cmd
