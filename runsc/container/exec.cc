#include "runsc/container/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/status_macros.h"
#include "runsc/container/boot_plan.h"
#include "runsc/container/console.h"
#include "runsc/container/foreground.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"

namespace runsc::container {
namespace {

using sentry::control::ControlClient;
using SignalTarget = sentry::control::pb::SignalRequest;

constexpr int kInitPid = 1;
constexpr int kKilled = 128 + SIGKILL;

// The signals a terminal makes: they are for whoever is in its foreground.
bool FromTerminal(int signo) {
  return signo == SIGINT || signo == SIGQUIT || signo == SIGTSTP || signo == SIGWINCH || signo == SIGHUP ||
         signo == SIGCONT;
}

// Waits for guest process `pid` in the foreground; its exit code, or that of a sandbox that was killed.
int WaitForExec(ControlClient& client, int32_t pid, bool terminal, Foreground& foreground) {
  auto wait = client.BeginWait(pid);
  if (!wait.ok()) return kKilled;
  int code = kKilled;
  foreground.Loop(
      client.socket(),
      [&] {
        int status = 0;
        auto done = client.FinishWait(*wait, status);
        if (!done.ok()) return true;
        if (*done) code = ExitCode(status);
        return *done;
      },
      [&](int signo) {
        auto target = terminal && FromTerminal(signo) ? SignalTarget::FOREGROUND : SignalTarget::PROCESS;
        (void)client.Signal(target, pid, signo);
      });
  return code;
}

// What stays behind after a detached exec. It holds nothing of the caller's but what it was born with and closes that.
[[noreturn]] void StandFor(ControlClient client, int32_t pid, base::UniqueFd slave, Foreground foreground) {
  prctl(PR_SET_NAME, "runsc-exec");
  setsid();
  if (slave.valid()) ioctl(slave.get(), TIOCSCTTY, 0);  // an engine's terminal then sends its signals here
  int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  std::vector<int> keep = {client.socket(), foreground.signals()};
  std::sort(keep.begin(), keep.end());
  unsigned first = 3;
  for (int fd : keep) {
    if (fd > static_cast<int>(first)) syscall(SYS_close_range, first, fd - 1, 0);
    first = static_cast<unsigned>(fd) + 1;
  }
  syscall(SYS_close_range, first, ~0U, 0);
  if (chdir("/") < 0) _exit(128);
  bool terminal = slave.release() >= 0;
  _exit(WaitForExec(client, pid, terminal, foreground));
}

}  // namespace

absl::StatusOr<int> Exec(const Container& container, const ExecOptions& options) {
  if (container.status == Status::kPaused) {
    return absl::FailedPreconditionError("cannot exec in container \"" + container.state.id + "\": it is paused");
  }
  if (container.status != Status::kRunning && container.status != Status::kCreated) {
    return absl::FailedPreconditionError("cannot exec in container \"" + container.state.id +
                                         "\": container not running");
  }
  if (options.process.terminal && options.detach && options.console_socket.empty()) {
    return absl::InvalidArgumentError("a detached process with a terminal needs --console-socket");
  }
  ASSIGN_OR_RETURN(ControlClient client, container.Connect());
  sentry::control::ProcessSpec process = MakeProcessSpec(options.process);
  std::optional<Pty> terminal;
  if (process.terminal) {
    ASSIGN_OR_RETURN(terminal, OpenPty(process.terminal_rows, process.terminal_columns));
    for (base::UniqueFd& fd : process.stdio) fd = terminal->slave.Duplicate();
  } else {
    for (int fd = 0; fd < 3; ++fd) {
      base::UniqueFd& target = process.stdio[static_cast<size_t>(fd)];
      target.reset(fcntl(fd, F_DUPFD_CLOEXEC, 3));
      if (!target.valid()) target.reset(open("/dev/null", O_RDWR | O_CLOEXEC));
    }
  }
  for (auto [own, guest] : options.passed_fds) {
    base::UniqueFd fd(fcntl(own, F_DUPFD_CLOEXEC, 3));
    if (!fd.valid()) return host::ErrnoStatus(errno, "cannot pass descriptor " + std::to_string(own));
    process.passed_fds.emplace_back(std::move(fd), guest);
  }
  if (!options.console_socket.empty() && terminal) RETURN_IF_ERROR(SendMaster(options.console_socket, *terminal));

  auto pid = client.Exec(process, true);
  if (!pid.ok()) {
    return absl::Status(pid.status().code(), absl::IsUnavailable(pid.status()) ? "container not running"
                                                                               : std::string(pid.status().message()));
  }
  process.stdio = {};
  process.passed_fds.clear();
  if (!options.internal_pid_file.empty()) {
    RETURN_IF_ERROR(host::WriteAtomically(AT_FDCWD, options.internal_pid_file, std::to_string(*pid), 0644));
  }
  if (options.detach) {
    Foreground foreground{base::UniqueFd()};  // before the fork: a signal may come as soon as the pid is known
    pid_t child = fork();
    if (child < 0) return host::ErrnoStatus(errno, "fork");
    if (child == 0) {
      base::UniqueFd slave;
      if (terminal) slave = std::move(terminal->slave);
      StandFor(std::move(client), *pid, std::move(slave), std::move(foreground));
    }
    if (!options.pid_file.empty()) {
      RETURN_IF_ERROR(host::WriteAtomically(AT_FDCWD, options.pid_file, std::to_string(child), 0644));
    }
    return 0;
  }
  if (!options.pid_file.empty()) {
    RETURN_IF_ERROR(host::WriteAtomically(AT_FDCWD, options.pid_file, std::to_string(getpid()), 0644));
  }
  base::UniqueFd master;
  if (terminal) {
    terminal->slave.reset();
    if (options.console_socket.empty()) master = std::move(terminal->master);
  }
  Foreground foreground(std::move(master));
  return WaitForExec(client, *pid, terminal.has_value(), foreground);
}

absl::StatusOr<int> RunInForeground(const config::Config& config, CreatedContainer created) {
  Container container;
  container.directory = std::move(created.directory);
  container.state = std::move(created.state);
  container.status = Status::kCreated;
  const HostProcess sandbox = container.state.sandbox;
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, sandbox.pid, 0)));
  base::UniqueFd master;
  if (created.terminal) master = std::move(created.terminal->master);
  bool terminal = master.valid();
  int status = 0;
  absl::Status started;
  {
    Foreground foreground(std::move(master));
    auto client = container.Connect();
    started = client.ok() ? Start(container) : client.status();
    if (started.ok()) {
      // Others may do with it what they like while it runs.
      if (flock(container.directory.fd(), LOCK_UN) < 0) started = host::ErrnoStatus(errno, "flock");
      foreground.Loop(
          pidfd.get(), [&] { return waitpid(sandbox.pid, &status, WNOHANG) == sandbox.pid; },
          [&](int signo) {
            auto target = terminal && FromTerminal(signo) ? SignalTarget::FOREGROUND : SignalTarget::PROCESS;
            (void)client->Signal(target, kInitPid, signo);
          });
    }
  }
  // Somebody may have deleted it already.
  if (container.directory.Lock().ok()) {
    container.status = started.ok() ? Status::kStopped : container.status;
    absl::Status deleted = Delete(container, true);
    if (started.ok() && !deleted.ok()) return deleted;
  }
  RETURN_IF_ERROR(started);
  return ExitCode(status);
}

}  // namespace runsc::container
