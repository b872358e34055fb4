#include "runsc/container/spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/status_macros.h"
#include "runsc/container/gofer_process.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"
#include "runsc/host/process.h"
#include "sentry/control/ready.h"

namespace runsc::container {
namespace {

constexpr uint32_t kNobody = 65534;

struct Pipe {
  base::UniqueFd read, write;
  static absl::StatusOr<Pipe> Make() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0) return host::ErrnoStatus(errno, "pipe");
    return Pipe{base::UniqueFd(fds[0]), base::UniqueFd(fds[1])};
  }
};

absl::Status WriteMap(pid_t pid, const char* file, const std::vector<oci::IdMapping>& mappings) {
  std::string text;
  for (const oci::IdMapping& m : mappings) {
    text += std::to_string(m.container_id) + " " + std::to_string(m.host_id) + " " + std::to_string(m.size) + "\n";
  }
  return host::WriteExisting(AT_FDCWD, "/proc/" + std::to_string(pid) + "/" + file, text);
}

absl::Status WriteMaps(pid_t pid, const std::vector<oci::IdMapping>& uids, const std::vector<oci::IdMapping>& gids) {
  RETURN_IF_ERROR(WriteMap(pid, "uid_map", uids));
  absl::Status status = WriteMap(pid, "gid_map", gids);
  if (status.ok()) return status;
  // Without CAP_SETGID a group can be mapped only by giving up setgroups(2) (man 7 user_namespaces).
  RETURN_IF_ERROR(host::WriteExisting(AT_FDCWD, "/proc/" + std::to_string(pid) + "/setgroups", "deny"));
  return WriteMap(pid, "gid_map", gids);
}

// The sentry needs one id, whatever it is: those of the guest are its own affair. Nobody's, or without root ours.
absl::Status WriteSandboxMaps(pid_t pid) {
  if (geteuid() == 0 && WriteMaps(pid, {{kNobody, kNobody, 1}}, {{kNobody, kNobody, 1}}).ok()) return absl::OkStatus();
  return WriteMaps(pid, {{kNobody, geteuid(), 1}}, {{kNobody, getegid(), 1}});
}

absl::Status ExplainClone(const absl::Status& status) {
  return absl::Status(status.code(), "cannot create the sandbox's namespaces (" + std::string(status.message()) +
                                         "); user namespaces may be disabled, see /proc/sys/user/max_user_namespaces");
}

// While it lives, this process (and what it clones) is in the network namespace at `path`.
class JoinedNetwork {
 public:
  absl::Status Join(const std::string& path) {
    ASSIGN_OR_RETURN(own_, host::Open(AT_FDCWD, "/proc/self/ns/net", O_RDONLY));
    auto target = host::Open(AT_FDCWD, path, O_RDONLY);
    if (!target.ok()) {
      return absl::Status(target.status().code(),
                          "config.json: linux.namespaces: network: " + std::string(target.status().message()));
    }
    if (setns(target->get(), CLONE_NEWNET) < 0)
      return host::ErrnoStatus(errno, "cannot join the network namespace " + path);
    joined_ = true;
    return absl::OkStatus();
  }
  ~JoinedNetwork() {
    if (joined_ && setns(own_.get(), CLONE_NEWNET) < 0) _exit(128);  // we would go on in the container's network
  }

 private:
  base::UniqueFd own_;
  bool joined_ = false;
};

}  // namespace

absl::Status Child::Release() {
  char go = 1;
  if (write(go_.get(), &go, 1) != 1) return absl::UnavailableError("a process of the sandbox ended at once");
  go_.reset();
  return absl::OkStatus();
}

absl::Status Child::AwaitReady(std::string_view who) { return sentry::control::AwaitReady(ready_.get(), who); }

void Child::Kill() {
  if (process_.pid <= 0) return;
  kill(process_.pid, SIGKILL);
  while (waitpid(process_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  process_.pid = 0;
}

absl::StatusOr<Child> SpawnSandbox(sentry::boot::BootSpec boot, const SandboxSpawnOptions& options) {
  Child child;
  ASSIGN_OR_RETURN(Pipe go, Pipe::Make());
  ASSIGN_OR_RETURN(Pipe ready, Pipe::Make());
  uint64_t flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID;
  pid_t pid;
  {
    JoinedNetwork network;
    if (!options.network_namespace.empty()) {
      RETURN_IF_ERROR(network.Join(options.network_namespace));
    } else if (boot.network != sentry::boot::NetworkMode::kHost) {
      flags |= CLONE_NEWNET;
    }
    auto cloned = host::CloneProcess(flags);
    if (!cloned.ok()) return ExplainClone(cloned.status());
    pid = *cloned;
    if (pid == 0) {
      go.write.reset();
      ready.read.reset();
      boot.id_maps = std::move(go.read);
      boot.ready = std::move(ready.write);
      _exit(sentry::boot::RunSandbox(std::move(boot), options.factory));
    }
  }
  child.process_.pid = pid;
  child.go_ = std::move(go.write);
  child.ready_ = std::move(ready.read);
  absl::Status mapped = WriteSandboxMaps(pid);
  if (!mapped.ok()) {
    child.Kill();
    return absl::Status(mapped.code(), "cannot map the sandbox's user: " + std::string(mapped.message()));
  }
  child.process_.start_time = host::GetProcessStatus(pid).start_time;
  return child;
}

absl::StatusOr<Child> SpawnGofer(GoferSpawnOptions options) {
  Child child;
  ASSIGN_OR_RETURN(Pipe go, Pipe::Make());
  ASSIGN_OR_RETURN(Pipe ready, Pipe::Make());
  uint64_t flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWNET;
  std::vector<oci::IdMapping> uids = options.uid_mappings, gids = options.gid_mappings;
  if (geteuid() != 0 && uids.empty()) {
    uids = {{0, geteuid(), 1}};
    gids = {{0, getegid(), 1}};
  }
  if (!uids.empty()) flags |= CLONE_NEWUSER;
  // Connecting to a socket of the host does not depend on the network namespace (man 7 unix), so it always gets one of
  // its own.
  auto cloned = host::CloneProcess(flags);
  if (!cloned.ok()) return ExplainClone(cloned.status());
  if (*cloned == 0) {
    go.write.reset();
    ready.read.reset();
    _exit(RunGofer(std::move(options), std::move(go.read), std::move(ready.write)));
  }
  child.process_.pid = *cloned;
  child.go_ = std::move(go.write);
  child.ready_ = std::move(ready.read);
  if (!uids.empty()) {
    absl::Status mapped = WriteMaps(*cloned, uids, gids);
    if (!mapped.ok()) {
      child.Kill();
      return absl::Status(mapped.code(), "cannot map the gofer's users: " + std::string(mapped.message()));
    }
  }
  child.process_.start_time = host::GetProcessStatus(*cloned).start_time;
  return child;
}

}  // namespace runsc::container
