#include "runsc/oci/spec.h"

#include <fcntl.h>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/host/files.h"

namespace runsc::cmd {

absl::StatusOr<int> Spec(Context& context) {
  config::FlagSet flags;
  std::string bundle = ".";
  oci::SpecTemplate options;
  flags.String("bundle", &bundle, "directory to write config.json to");
  flags.Alias("b", "bundle");
  flags.String("cwd", &options.cwd, "working directory of the process");
  flags.String("netns", &options.netns, "path of a network namespace to join");
  flags.IgnoredBool("rootless");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] [command…]", 0, kAnyNumber, true));
  if (arguments.help_asked) return 0;
  if (!arguments.values.empty()) {
    options.args = arguments.values;
    options.terminal = false;
  }
  std::string path = host::AbsolutePath(bundle) + "/config.json";
  auto file = host::Open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
  if (absl::IsAlreadyExists(file.status())) return absl::AlreadyExistsError("file " + path + " exists already");
  if (!file.ok()) return file.status();
  RETURN_IF_ERROR(host::WriteAll(file->get(), oci::DefaultSpecJson(options)));
  return 0;
}

}  // namespace runsc::cmd
