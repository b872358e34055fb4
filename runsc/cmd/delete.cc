#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"

namespace runsc::cmd {

absl::StatusOr<int> Delete(Context& context) {
  config::FlagSet flags;
  bool force = false;
  flags.Bool("force", &force, "kill the container if it runs; no error if it does not exist");
  flags.Alias("f", "force");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[-force] <id>…", 1, kAnyNumber));
  if (arguments.help_asked) return 0;
  for (const std::string& id : arguments.values) {
    auto container = container::Container::Open(context.config, id, true);
    if (force && absl::IsNotFound(container.status())) continue;
    if (!container.ok()) return container.status();
    RETURN_IF_ERROR(container::Delete(*container, force));
  }
  return 0;
}

}  // namespace runsc::cmd
