#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "base/status_macros.h"
#include "base/syscall_unsafe.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/isolation/confine.h"
#include "sentry/boot/isolation/seccomp.h"
#include "sentry/control/ready.h"
#include "sentry/control/server.h"

namespace sentry::boot {
namespace {

constexpr int kOwnFailure = 128;  // the exit code for what is no fault of the guest's

absl::Status Failed(const char* what, base::Errno error) {
  return absl::InternalError(std::string(what) + ": " + strerror(error.value()));
}

absl::StatusOr<base::UniqueFd> OwnFd(const char* what, base::Result<long> fd) {
  if (!fd.ok()) return Failed(what, fd.error());
  return base::UniqueFd(static_cast<int>(*fd));
}

std::vector<int> DescriptorsToKeep(const BootSpec& spec) {
  std::vector<int> keep = {spec.gofer.get(),    spec.overlay_file.get(), spec.control.get(), spec.ready.get(),
                           spec.user_log.get(), spec.debug_log.get(),    spec.kvm.get()};
  for (const MountSpec& mount : spec.mounts) keep.push_back(mount.overlay_file.get());
  for (const auto& [name, fd] : spec.host_net_files) keep.push_back(fd.get());
  for (const base::UniqueFd& fd : spec.process.stdio) keep.push_back(fd.get());
  for (const auto& [fd, guest] : spec.process.passed_fds) keep.push_back(fd.get());
  std::erase_if(keep, [](int fd) { return fd < 3; });
  return keep;
}

// The terminal's line discipline is the host's: it sends signals to the foreground group of the session that it
// controls, which has to be ours for them to reach the guest.
absl::StatusOr<base::UniqueFd> AdoptTerminal(const control::ProcessSpec& process) {
  if (!process.terminal) return base::UniqueFd();
  auto adopted = base::Host(SYS_ioctl, process.stdio[0].get(), TIOCSCTTY, 0);
  if (!adopted.ok()) return Failed("cannot make the container's terminal our own", adopted.error());
  sigset_t set;
  sigemptyset(&set);
  for (int signo : {SIGINT, SIGQUIT, SIGTSTP, SIGWINCH, SIGHUP, SIGCONT}) sigaddset(&set, signo);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGTTOU, SIG_IGN);
  signal(SIGTTIN, SIG_IGN);
  return OwnFd("signalfd", base::Host(SYS_signalfd4, -1, &set, _NSIG / 8, SFD_NONBLOCK | SFD_CLOEXEC));
}

// Step 1 of boot.h.
absl::Status Isolate(BootSpec& spec) {
  char go;
  auto mapped = base::HostRetry(SYS_read, spec.id_maps.get(), &go, 1);
  if (!mapped.ok() || *mapped != 1) return absl::CancelledError("runsc ended while it started the sandbox");
  spec.id_maps.reset();

  isolation::ResetSignals();
  setsid();
  umask(0);
  ASSIGN_OR_RETURN(base::UniqueFd null,
                   OwnFd("cannot open /dev/null", base::Host(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC)));
  if (spec.platform == "kvm") {
    // The last moment at which there is a path to it.
    auto kvm = base::Host(SYS_openat, AT_FDCWD, "/dev/kvm", O_RDWR | O_CLOEXEC);
    if (!kvm.ok()) {
      return absl::FailedPreconditionError(std::string("--platform=kvm needs /dev/kvm: ") +
                                           strerror(kvm.error().value()) + "; try --platform=systrap");
    }
    spec.kvm.reset(static_cast<int>(*kvm));
  }
  isolation::RaiseOwnLimits();
  RETURN_IF_ERROR(isolation::EnterEmptyRoot());
  RETURN_IF_ERROR(isolation::SetIds(spec.host_uid, spec.host_gid));
  RETURN_IF_ERROR(isolation::LimitCapabilities(0));
  RETURN_IF_ERROR(isolation::KeepOnlyDescriptors(DescriptorsToKeep(spec), null.get()));
  (void)null.release();  // closed among the others
  if (spec.die_with_parent) {
    // After the change of ids, which clears it (man 2 prctl). A parent that died before has closed its end of the pipe.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pollfd p{spec.ready.get(), 0, 0};
    if (poll(&p, 1, 0) > 0 && (p.revents & POLLERR) != 0) return absl::CancelledError("runsc ended");
  }
  // The platform traces children of ours that are born before the filter; a process that cannot be dumped cannot be
  // traced.
  prctl(PR_SET_DUMPABLE, 1);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Sandbox>> Prepare(BootSpec& spec, SandboxFactory factory,
                                                 control::ControlServer::Options& server) {
  RETURN_IF_ERROR(Isolate(spec));
  LOG_DEBUG("boot: isolated");
  ASSIGN_OR_RETURN(server.terminal_signals, AdoptTerminal(spec.process));
  ASSIGN_OR_RETURN(server.wakeup, OwnFd("eventfd", base::Host(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC)));
  server.listener = std::move(spec.control);

  ASSIGN_OR_RETURN(std::unique_ptr<Sandbox> sandbox, factory(spec));
  LOG_DEBUG("boot: platform, memory and executors are there");
  prctl(PR_SET_DUMPABLE, 0);
  RETURN_IF_ERROR(isolation::InstallFilter(
      isolation::SentryFilterFor(spec.platform, spec.network == NetworkMode::kHost), spec.debug));
  LOG_DEBUG("boot: filter installed");
  RETURN_IF_ERROR(sandbox->Load());
  LOG_DEBUG("boot: init is loaded");
  return sandbox;
}

}  // namespace

int RunSandbox(BootSpec spec, SandboxFactory factory) {
  prctl(PR_SET_NAME, "runsc-sandbox");
  base::LogFormat format = spec.log_json ? base::LogFormat::kJson : base::LogFormat::kText;
  base::SetUserLog({spec.user_log.get(), format, base::LogLevel::kError});
  base::SetDebugLog({spec.debug_log.get(), format, spec.debug ? base::LogLevel::kDebug : base::LogLevel::kInfo});

  LOG_DEBUG("boot: sandbox %s", spec.sandbox_id.c_str());
  control::ControlServer::Options options;
  absl::StatusOr<std::unique_ptr<Sandbox>> sandbox = Prepare(spec, factory, options);
  if (!sandbox.ok()) {
    LOG_DEBUG("sandbox: %s", std::string(sandbox.status().message()).c_str());
    control::ReportReady(std::move(spec.ready), sandbox.status());
    return kOwnFailure;
  }
  control::ReportReady(std::move(spec.ready), absl::OkStatus());

  int wait_status = control::ControlServer(**sandbox, std::move(options)).Run();
  LOG_DEBUG("boot: init ended, wait status %#x", wait_status);
  // The end of the process frees everything at once, and much faster than destructors would.
  (void)sandbox->release();
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

}  // namespace sentry::boot
