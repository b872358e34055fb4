#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/logging.h"
#include "base/status_macros.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/version.h"
#include "runsc/container/create.h"
#include "runsc/host/errno_status.h"
#include "runsc/oci/spec.h"

namespace runsc::cmd {
namespace {

constexpr int kOwnFailure = 128;

struct Verb {
  const char* name;
  const char* summary;
  absl::StatusOr<int> (*run)(Context&);
};

constexpr Verb kVerbs[] = {
    {"create", "create a container", &Create},
    {"delete", "delete a container", &Delete},
    {"do", "run a command in a sandbox that sees this host's files read-only", &Do},
    {"events", "print statistics of a container", &Events},
    {"exec", "run a further process in a container", &Exec},
    {"features", "print what this runtime supports", &Features},
    {"kill", "send a signal to a container", &Kill},
    {"list", "list containers", &List},
    {"pause", "stop all processes of a container", &Pause},
    {"ps", "list the processes of a container", &Ps},
    {"resume", "continue a paused container", &Resume},
    {"run", "create, start and wait for a container", &Run},
    {"spec", "write a config.json to begin with", &Spec},
    {"start", "start a created container", &Start},
    {"state", "print the state of a container", &State},
    {"syscalls", "print the system calls that the kernel serves", &Syscalls},
    {"update", "change the limits of a container", &Update},
    {"wait", "wait for a container's end", &Wait},
};

void PrintUsage(FILE* out, const config::FlagSet& flags) {
  fprintf(out, "Usage: runsc <global flags> <command> <flags> <arguments>\n\nCommands:\n");
  for (const Verb& verb : kVerbs) fprintf(out, "  %-10s %s\n", verb.name, verb.summary);
  fprintf(out, "\n`runsc <command> -help` shows its flags.\n\nGlobal flags:\n%s", flags.Help().c_str());
}

// A caller may have closed the standard streams; what we open must not take their place.
void OccupyStandardStreams() {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) _exit(kOwnFailure);
  }
}

absl::StatusOr<base::UniqueFd> OpenUserLog(const config::Config& config) {
  if (config.log.empty()) return base::UniqueFd();
  base::UniqueFd fd(open(config.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return host::ErrnoStatus(errno, "cannot open the log " + config.log);
  return fd;
}

absl::StatusOr<int> RunVerb(Context& context, const config::FlagSet& flags) {
  if (context.verb == "help") {
    PrintUsage(stdout, flags);
    return 0;
  }
  for (const Verb& verb : kVerbs) {
    if (context.verb == verb.name) return verb.run(context);
  }
  return absl::InvalidArgumentError("there is no command \"" + context.verb + "\"; `runsc help` lists them");
}

int Report(const absl::Status& status) {
  fprintf(stderr, "runsc: %s\n", std::string(status.message()).c_str());
  base::LogFatalToUser(std::string(status.message()));
  return kOwnFailure;
}

}  // namespace

absl::StatusOr<Arguments> ParseArguments(const Context& context, config::FlagSet& flags, const std::string& usage,
                                         size_t min, size_t max, bool trailing_command) {
  Arguments arguments;
  size_t end = 0;
  RETURN_IF_ERROR(flags.Parse(context.words, 0, &end));
  while (!trailing_command && end < context.words.size()) {
    arguments.values.push_back(context.words[end]);
    RETURN_IF_ERROR(flags.Parse(context.words, end + 1, &end));
  }
  if (flags.help_asked()) {
    arguments.help_asked = true;
    printf("Usage: runsc %s %s\n%s", context.verb.c_str(), usage.c_str(), flags.Help().c_str());
    return arguments;
  }
  if (trailing_command)
    arguments.values.assign(context.words.begin() + static_cast<ptrdiff_t>(end), context.words.end());
  if (arguments.values.size() < min || arguments.values.size() > max) {
    return absl::InvalidArgumentError("wrong number of arguments; usage: runsc " + context.verb + " " + usage);
  }
  return arguments;
}

int Main(int argc, char** argv, const Kernel& kernel) {
  OccupyStandardStreams();
  Context context;
  context.kernel = kernel;
  config::FlagSet flags;
  config::RegisterFlags(flags, context.config);
  std::vector<std::string> words(argv + 1, argv + argc);
  size_t end = 0;
  absl::Status parsed = flags.Parse(words, 0, &end);
  if (context.config.version) {
    printf("runsc version %s\nspec: %s\n", kVersion, std::string(oci::kOciVersion).c_str());
    return 0;
  }
  auto user_log = OpenUserLog(context.config);
  base::LogFormat format = context.config.log_format == "json" ? base::LogFormat::kJson : base::LogFormat::kText;
  if (user_log.ok()) base::SetUserLog({user_log->get(), format, base::LogLevel::kError});
  if (!parsed.ok()) return Report(parsed);
  if (!user_log.ok()) return Report(user_log.status());
  if (flags.help_asked()) {
    PrintUsage(stdout, flags);
    return 0;
  }
  if (end >= words.size()) {
    PrintUsage(stderr, flags);
    return kOwnFailure;
  }
  if (absl::Status valid = config::Validate(context.config); !valid.ok()) return Report(valid);
  context.verb = words[end];
  context.words.assign(words.begin() + static_cast<ptrdiff_t>(end) + 1, words.end());

  base::UniqueFd debug_log = container::OpenDebugLog(context.config, "", context.verb);
  base::SetDebugLog({debug_log.get(), format, context.config.debug ? base::LogLevel::kDebug : base::LogLevel::kInfo});
  absl::StatusOr<int> code = RunVerb(context, flags);
  fflush(stdout);
  return code.ok() ? *code : Report(code.status());
}

}  // namespace runsc::cmd
