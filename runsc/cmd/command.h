// The verbs of the command line. Each is a function in a file of its own that reads its flags and arguments and returns
// the exit code; a failure of ours is a status, which Main reports and turns into 128.
#ifndef RUNSC_CMD_COMMAND_H_
#define RUNSC_CMD_COMMAND_H_

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/config/config.h"
#include "runsc/config/flag_set.h"
#include "sentry/boot/boot.h"

namespace runsc::cmd {

// What runsc knows of the kernel that it starts. Tests put a fake in its place.
struct Kernel {
  sentry::boot::SandboxFactory factory = nullptr;
  // The system call table for `runsc syscalls`, as a table of text or as JSON. May be null.
  std::string (*describe_syscalls)(bool json) = nullptr;
};

struct Context {
  config::Config config;
  Kernel kernel;
  std::string verb;
  std::vector<std::string> words;  // after the verb
};

// Reads flags, then between `min` and `max` arguments. runc takes flags after arguments, too (`kill ID --all`), so they
// are taken there, unless the arguments are somebody else's command line (`trailing_command`). help_asked: usage was
// printed, and the verb has nothing more to do.
struct Arguments {
  bool help_asked = false;
  std::vector<std::string> values;
};
absl::StatusOr<Arguments> ParseArguments(const Context& context, config::FlagSet& flags, const std::string& usage,
                                         size_t min, size_t max, bool trailing_command = false);
inline constexpr size_t kAnyNumber = ~size_t{0};

// "M:N" or "M" of --pass-fd, "N" of --preserve-fds: (ours, the guest's).
absl::StatusOr<std::pair<int, int>> ParsePassFd(const std::string& text);
void AddPreservedFds(int64_t count, std::vector<std::pair<int, int>>& fds);

absl::StatusOr<int> Create(Context& context);
absl::StatusOr<int> Start(Context& context);
absl::StatusOr<int> Run(Context& context);
absl::StatusOr<int> Exec(Context& context);
absl::StatusOr<int> Kill(Context& context);
absl::StatusOr<int> Delete(Context& context);
absl::StatusOr<int> State(Context& context);
absl::StatusOr<int> List(Context& context);
absl::StatusOr<int> Ps(Context& context);
absl::StatusOr<int> Wait(Context& context);
absl::StatusOr<int> Pause(Context& context);
absl::StatusOr<int> Resume(Context& context);
absl::StatusOr<int> Events(Context& context);
absl::StatusOr<int> Update(Context& context);
absl::StatusOr<int> Spec(Context& context);
absl::StatusOr<int> Do(Context& context);
absl::StatusOr<int> Features(Context& context);
absl::StatusOr<int> Syscalls(Context& context);

// The whole program.
int Main(int argc, char** argv, const Kernel& kernel);

}  // namespace runsc::cmd

#endif  // RUNSC_CMD_COMMAND_H_
