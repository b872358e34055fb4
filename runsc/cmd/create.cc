#include "runsc/container/create.h"

#include <unistd.h>

#include <charconv>

#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/container/container.h"
#include "runsc/container/exec.h"
#include "runsc/host/files.h"

namespace runsc::cmd {
namespace {

// The flags that create and run share.
struct CreateFlags {
  std::string bundle = ".";
  std::vector<std::string> pass_fds;
  int64_t preserve_fds = 0;
  container::CreateOptions options;

  void Register(config::FlagSet& flags) {
    flags.String("bundle", &bundle, "directory of config.json");
    flags.Alias("b", "bundle");
    flags.String("console-socket", &options.console_socket,
                 "Unix socket that gets the master of the container's terminal");
    flags.String("pid-file", &options.pid_file, "file that gets the pid of the sandbox");
    flags.StringList("pass-fd", &pass_fds, "M:N hands our descriptor M to the container as N; may be repeated");
    flags.Int("preserve-fds", &preserve_fds, "hand descriptors 3 to 3+N-1 to the container");
    flags.IgnoredString("user-log");
    // runc's: there is no host root to pivot in, and no session keyring.
    flags.IgnoredBool("no-pivot");
    flags.IgnoredBool("no-new-keyring");
    flags.IgnoredBool("no-subreaper");
  }

  absl::Status Finish(const Context& context, const std::string& id) {
    options.id = id;
    options.bundle = host::AbsolutePath(bundle);
    options.factory = context.kernel.factory;
    for (const std::string& text : pass_fds) {
      ASSIGN_OR_RETURN(auto pair, ParsePassFd(text));
      options.passed_fds.push_back(pair);
    }
    AddPreservedFds(preserve_fds, options.passed_fds);
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<std::pair<int, int>> ParsePassFd(const std::string& text) {
  int own = -1, guest = -1;
  const char* end = text.data() + text.size();
  auto first = std::from_chars(text.data(), end, own);
  bool good = first.ec == std::errc() && own >= 0;
  if (good && first.ptr == end) return std::make_pair(own, own);
  if (good && *first.ptr == ':') {
    auto second = std::from_chars(first.ptr + 1, end, guest);
    if (second.ec == std::errc() && second.ptr == end && guest >= 0) return std::make_pair(own, guest);
  }
  return absl::InvalidArgumentError("invalid value \"" + text + "\" for flag -pass-fd: must be M:N");
}

void AddPreservedFds(int64_t count, std::vector<std::pair<int, int>>& fds) {
  constexpr int64_t kMost = 60;  // a control message carries no more
  for (int64_t i = 0; i < count && i < kMost; ++i) fds.emplace_back(static_cast<int>(3 + i), static_cast<int>(3 + i));
}

absl::StatusOr<int> Create(Context& context) {
  config::FlagSet flags;
  CreateFlags create;
  create.Register(flags);
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  RETURN_IF_ERROR(create.Finish(context, arguments.values[0]));
  RETURN_IF_ERROR(container::CreateContainer(context.config, create.options).status());
  return 0;
}

absl::StatusOr<int> Run(Context& context) {
  config::FlagSet flags;
  CreateFlags create;
  create.Register(flags);
  bool detach = false;
  flags.Bool("detach", &detach, "do not wait for the container");
  flags.Alias("d", "detach");
  flags.IgnoredBool("keep");
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "[flags] <id>", 1, 1));
  if (arguments.help_asked) return 0;
  create.options.attached = !detach;
  RETURN_IF_ERROR(create.Finish(context, arguments.values[0]));
  ASSIGN_OR_RETURN(container::CreatedContainer created, container::CreateContainer(context.config, create.options));
  if (!detach) return container::RunInForeground(context.config, std::move(created));
  container::Container container{std::move(created.directory), std::move(created.state), container::Status::kCreated};
  absl::Status started = container::Start(container);
  if (!started.ok()) {
    (void)container::Delete(container, true);
    return started;
  }
  return 0;
}

absl::StatusOr<int> Start(Context& context) {
  config::FlagSet flags;
  ASSIGN_OR_RETURN(Arguments arguments, ParseArguments(context, flags, "<id>", 1, 1));
  if (arguments.help_asked) return 0;
  ASSIGN_OR_RETURN(container::Container container,
                   container::Container::Open(context.config, arguments.values[0], true));
  RETURN_IF_ERROR(container::Start(container));
  return 0;
}

}  // namespace runsc::cmd
