#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/create.h"
#include "runsc/container/exec.h"
#include "runsc/host/files.h"
#include "runsc/oci/names.h"

extern char** environ;

namespace runsc::cmd {
namespace {

using nlohmann::json;

std::vector<std::string> CapabilityList(uint64_t set) {
  std::vector<std::string> list;
  for (size_t i = 0; i < oci::CapabilityNames().size(); ++i) {
    if ((set >> i & 1) != 0) list.push_back(oci::CapabilityNames()[i]);
  }
  return list;
}

std::vector<std::string> Environment() {
  std::vector<std::string> env;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    std::string text = *variable;
    if (text.find('=') != std::string::npos && text[0] != '=') env.push_back(std::move(text));
  }
  return env;
}

// SRC[:DST], read-only like everything else unless written over by the overlay.
absl::StatusOr<json> VolumeMount(const std::string& volume) {
  size_t colon = volume.find(':');
  std::string source = host::AbsolutePath(volume.substr(0, colon));
  std::string destination = colon == std::string::npos ? source : volume.substr(colon + 1);
  if (destination.empty() || destination[0] != '/') {
    return absl::InvalidArgumentError("invalid value \"" + volume +
                                      "\" for flag -volume: must be SOURCE[:/DESTINATION]");
  }
  return json{{"destination", destination}, {"source", source}, {"type", "bind"}, {"options", {"rbind", "rw"}}};
}

}  // namespace

absl::StatusOr<int> Do(Context& context) {
  config::FlagSet flags;
  std::string root = "/", cwd;
  std::vector<std::string> volumes;
  bool force_overlay = true;
  flags.String("root", &root, "directory that becomes the root");
  flags.String("cwd", &cwd, "working directory; the current one if not given");
  flags.StringList("volume", &volumes, "SOURCE[:DESTINATION], writable on the host; may be repeated");
  flags.Bool("force-overlay", &force_overlay, "keep writes in memory, whatever --overlay2 says");
  flags.IgnoredBool("quiet");
  for (const char* name : {"ip", "uid-map", "gid-map", "erofs"}) flags.IgnoredString(name);
  ASSIGN_OR_RETURN(Arguments arguments,
                   ParseArguments(context, flags, "[flags] <command> [arguments]", 1, kAnyNumber, true));
  if (arguments.help_asked) return 0;

  root = host::AbsolutePath(root);
  if (cwd.empty()) cwd = root == "/" ? host::AbsolutePath(".") : "/";
  bool terminal = isatty(0) != 0 && isatty(1) != 0 && isatty(2) != 0;
  std::vector<std::string> caps = CapabilityList(oci::DefaultCapabilities());
  json spec = {{"ociVersion", oci::kOciVersion},
               {"root", {{"path", root}, {"readonly", false}}},
               {"hostname", "runsc-do"},
               {"process",
                {{"args", arguments.values},
                 {"env", Environment()},
                 {"cwd", cwd},
                 {"terminal", terminal},
                 {"capabilities", {{"bounding", caps}, {"effective", caps}, {"permitted", caps}}}}}};
  json mounts = json::array();
  for (const std::string& volume : volumes) {
    ASSIGN_OR_RETURN(json mount, VolumeMount(volume));
    mounts.push_back(std::move(mount));
  }
  spec["mounts"] = std::move(mounts);

  config::Config config = context.config;
  if (force_overlay && config.overlay.scope == config::Overlay::Scope::kNone) config.overlay = config::Overlay{};
  config.ignore_cgroups = true;
  // Somebody without root and without a runtime directory still may: the container lives only as long as this process.
  if (geteuid() != 0 && config.root == "/var/run/runsc") config.root = "/tmp/runsc-" + std::to_string(geteuid());

  container::CreateOptions options;
  options.id = "runsc-do-" + std::to_string(getpid()) + "-" + std::to_string(arc4random() % 1000000);
  options.bundle = host::AbsolutePath(".");
  options.attached = true;
  options.factory = context.kernel.factory;
  options.spec_json = spec.dump(-1, ' ', false, json::error_handler_t::replace);
  ASSIGN_OR_RETURN(container::CreatedContainer created, container::CreateContainer(config, options));
  return container::RunInForeground(config, std::move(created));
}

}  // namespace runsc::cmd
