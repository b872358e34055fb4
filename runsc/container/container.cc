#include "runsc/container/container.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/logging.h"
#include "base/status_macros.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/container/boot_plan.h"
#include "runsc/container/hooks.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"
#include "runsc/host/process.h"

namespace runsc::container {
namespace {

using sentry::control::ControlClient;
using SignalTarget = sentry::control::pb::SignalRequest;

constexpr int kInitPid = 1;
// A sandbox that does not answer for this long is stuck; SIGKILL then does not ask it.
constexpr int kControlTimeoutS = 10;

absl::Status NotRunning() { return absl::FailedPreconditionError("container not running"); }

// Sends through a pidfd, so that the pid cannot have become somebody else's in between.
void KillProcess(const HostProcess& process) {
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  if (!pidfd.valid() || !host::IsSameProcess(process.pid, process.start_time)) return;
  syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
}

void EndProcess(const HostProcess& process) {
  if (process.pid <= 0) return;
  KillProcess(process);
  host::WaitForEnd(process.pid, process.start_time, 10000);
  waitpid(process.pid, nullptr, WNOHANG);  // if it is our own child
}

// startContainer hooks belong into the container: they run there, before init does.
absl::Status RunStartContainerHooks(const Container& container, const oci::Spec& spec, ControlClient& client) {
  const auto& hooks = spec.hooks.start_container;
  std::string json = OciStateJson(container.state, Status::kCreated, false);
  for (size_t i = 0; i < hooks.size(); ++i) {
    std::string name = "hooks.startContainer[" + std::to_string(i) + "] (" + hooks[i].path + "): ";
    int in[2];
    if (pipe2(in, O_CLOEXEC) < 0) return host::ErrnoStatus(errno, "pipe");
    sentry::control::ProcessSpec process = MakeProcessSpec(*spec.process);
    process.argv = hooks[i].args.empty() ? std::vector<std::string>{hooks[i].path} : hooks[i].args;
    process.argv[0] = hooks[i].path;  // the sandbox finds the program by it; a different name would be lost
    process.envv = hooks[i].env;
    process.cwd = "/";
    process.terminal = false;
    process.stdio[0].reset(in[0]);
    base::UniqueFd feed(in[1]);
    process.stdio[1].reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
    process.stdio[2].reset(open("/dev/null", O_WRONLY | O_CLOEXEC));
    auto pid = client.Exec(process, true);
    if (!pid.ok()) return absl::Status(pid.status().code(), name + std::string(pid.status().message()));
    process.stdio[0].reset();
    // The state is far below a pipe's capacity.
    if (write(feed.get(), json.data(), json.size()) < 0) LOG_DEBUG("hook does not read its input");
    feed.reset();
    ASSIGN_OR_RETURN(int status, client.Wait(*pid));
    if (int code = ExitCode(status); code != 0) {
      return absl::InternalError(name + "exit status " + std::to_string(code));
    }
  }
  return absl::OkStatus();
}

}  // namespace

int ExitCode(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

absl::StatusOr<Container> Container::Open(const config::Config& config, const std::string& id, bool lock) {
  Container container;
  ASSIGN_OR_RETURN(container.directory, StateDirectory::Open(config.root, id));
  if (lock) RETURN_IF_ERROR(container.directory.Lock());
  ASSIGN_OR_RETURN(container.state, container.directory.Load());
  container.status = CurrentStatus(container.state);
  return container;
}

absl::StatusOr<oci::Spec> Container::Spec() const {
  ASSIGN_OR_RETURN(std::string json, host::ReadFile(directory.fd(), "config.json"));
  return oci::ParseSpec(json);
}

absl::StatusOr<ControlClient> Container::Connect() const {
  if (status == Status::kStopped) return NotRunning();
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return host::ErrnoStatus(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock", directory.fd());
  if (connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) return NotRunning();
    return host::ErrnoStatus(errno, "cannot connect to the sandbox of container \"" + state.id + "\"");
  }
  return ControlClient(std::move(socket));
}

absl::Status Container::SetStatus(Status new_status) {
  status = new_status;
  state.status = new_status;
  return directory.Save(state);
}

absl::Status Start(Container& container) {
  if (container.status != Status::kCreated) {
    return absl::FailedPreconditionError("cannot start container \"" + container.state.id + "\": it is " +
                                         std::string(StatusName(container.status)) + ", not created");
  }
  ASSIGN_OR_RETURN(ControlClient client, container.Connect());
  ASSIGN_OR_RETURN(oci::Spec spec, container.Spec());
  if (!spec.hooks.start_container.empty()) RETURN_IF_ERROR(RunStartContainerHooks(container, spec, client));
  RETURN_IF_ERROR(client.Start());
  RETURN_IF_ERROR(container.SetStatus(Status::kRunning));
  if (!spec.hooks.poststart.empty()) {
    // config.md#posix-platform-hooks: a poststart hook that fails is an error of start.
    RETURN_IF_ERROR(RunHooks(spec.hooks.poststart, "poststart", OciStateJson(container.state, Status::kRunning, false),
                             container.state.bundle));
  }
  return absl::OkStatus();
}

absl::Status Pause(Container& container) {
  if (container.status != Status::kRunning && container.status != Status::kCreated) {
    return absl::FailedPreconditionError("cannot pause container \"" + container.state.id + "\": it is " +
                                         std::string(StatusName(container.status)));
  }
  ASSIGN_OR_RETURN(ControlClient client, container.Connect());
  RETURN_IF_ERROR(client.Pause());
  return container.SetStatus(Status::kPaused);
}

absl::Status Resume(Container& container) {
  if (container.status != Status::kPaused) {
    return absl::FailedPreconditionError("cannot resume container \"" + container.state.id + "\": it is " +
                                         std::string(StatusName(container.status)) + ", not paused");
  }
  ASSIGN_OR_RETURN(ControlClient client, container.Connect());
  RETURN_IF_ERROR(client.Resume());
  return container.SetStatus(Status::kRunning);
}

absl::Status Kill(Container& container, const KillTarget& target, int signo) {
  if (container.status == Status::kStopped) {
    // Callers use --all to be sure that nothing is left, which is so.
    if (target.all) return absl::OkStatus();
    return NotRunning();
  }
  ASSIGN_OR_RETURN(ControlClient client, container.Connect());
  timeval limit{kControlTimeoutS, 0};
  setsockopt(client.socket(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  absl::Status status;
  if (target.all) {
    status = client.Signal(SignalTarget::ALL, 0, signo);
  } else if (target.pgid != 0) {
    status = client.Signal(SignalTarget::GROUP, target.pgid, signo);
  } else {
    status = client.Signal(SignalTarget::PROCESS, target.pid != 0 ? target.pid : kInitPid, signo);
  }
  // A created container has no init that could take a signal, and a stuck sandbox does not answer; its process ends
  // anyway.
  bool whole = target.pid == 0 && target.pgid == 0;
  if (whole && signo == SIGKILL && (container.status == Status::kCreated || absl::IsUnavailable(status))) {
    KillProcess(container.state.sandbox);
    return absl::OkStatus();
  }
  if (absl::IsUnavailable(status)) return NotRunning();
  return status;
}

absl::Status Delete(Container& container, bool force) {
  bool running = container.status == Status::kRunning || container.status == Status::kPaused;
  if (running && !force) {
    return absl::FailedPreconditionError("cannot delete container \"" + container.state.id +
                                         "\" that is not stopped: " + std::string(StatusName(container.status)));
  }
  EndProcess(container.state.sandbox);
  EndProcess(container.state.gofer);
  cgroup::Cgroup::Restore(container.state.cgroup_directories, container.state.cgroup_created).Remove();
  auto spec = container.Spec();
  RETURN_IF_ERROR(container.directory.Remove());
  if (spec.ok() && !spec->hooks.poststop.empty()) {
    absl::Status hooks = RunHooks(spec->hooks.poststop, "poststop",
                                  OciStateJson(container.state, Status::kStopped, false), container.state.bundle);
    // "log a warning, but continue" (runtime.md#lifecycle)
    if (!hooks.ok()) LOG_WARNING("%s", std::string(hooks.message()).c_str());
  }
  return absl::OkStatus();
}

}  // namespace runsc::container
