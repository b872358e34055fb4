#include "runsc/container/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "base/status_macros.h"
#include "base/unique_fd.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"

namespace runsc::container {
namespace {

constexpr size_t kMaxErrorText = 4096;

int64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void Exec(const oci::Hook& hook, const std::string& bundle, int network_namespace, int in, int err) {
  std::vector<std::string> args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  setpgid(0, 0);  // so that a hook that takes too long can be killed with its children
  if (network_namespace >= 0 && setns(network_namespace, CLONE_NEWNET) < 0) _exit(126);
  int null = open("/dev/null", O_WRONLY);
  dup2(in, 0);
  dup2(null, 1);
  dup2(err, 2);
  syscall(SYS_close_range, 3, ~0U, 0);
  if (chdir(bundle.c_str()) < 0 && chdir("/") < 0) _exit(126);
  execve(hook.path.c_str(), Pointers(args).data(), Pointers(hook.env).data());
  dprintf(2, "%s", host::ErrnoText(errno).c_str());
  _exit(127);
}

absl::Status RunHook(const oci::Hook& hook, const std::string& state_json, const std::string& bundle,
                     int network_namespace) {
  int in[2], err[2];
  if (pipe2(in, O_CLOEXEC) < 0) return host::ErrnoStatus(errno, "pipe");
  base::UniqueFd in_read(in[0]), in_write(in[1]);
  if (pipe2(err, O_CLOEXEC) < 0) return host::ErrnoStatus(errno, "pipe");
  base::UniqueFd err_read(err[0]), err_write(err[1]);

  pid_t pid = fork();
  if (pid < 0) return host::ErrnoStatus(errno, "fork");
  if (pid == 0) Exec(hook, bundle, network_namespace, in_read.get(), err_write.get());
  in_read.reset();
  err_write.reset();
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));

  // A hook need not read its input, and may write more than a pipe holds: attend to both until it has ended.
  fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
  fcntl(err_read.get(), F_SETFL, O_NONBLOCK);
  struct sigaction ignore {
  }, before;
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  std::string_view unsent = state_json;
  std::string errors;
  int64_t deadline = hook.timeout_s ? NowMs() + *hook.timeout_s * int64_t{1000} : -1;
  bool timed_out = false;
  for (;;) {
    pollfd fds[3] = {{pidfd.get(), POLLIN, 0}, {in_write.get(), POLLOUT, 0}, {err_read.get(), POLLIN, 0}};
    int64_t left = deadline < 0 ? -1 : deadline - NowMs();
    if (deadline >= 0 && left <= 0) {
      timed_out = true;
      kill(-pid, SIGKILL);
      kill(pid, SIGKILL);
      break;
    }
    if (poll(fds, 3, static_cast<int>(left)) < 0) continue;
    if (fds[1].revents != 0) {
      ssize_t n = write(in_write.get(), unsent.data(), unsent.size());
      if (n > 0) unsent.remove_prefix(static_cast<size_t>(n));
      if (unsent.empty() || (n < 0 && errno != EAGAIN && errno != EINTR)) in_write.reset();
    }
    if (fds[2].revents != 0) {
      char buffer[1024];
      ssize_t n = read(err_read.get(), buffer, sizeof(buffer));
      if (n > 0 && errors.size() < kMaxErrorText) errors.append(buffer, static_cast<size_t>(n));
      if (n == 0) err_read.reset();
      if (n > 0) continue;  // the end only when there is no more to read
    }
    if (fds[0].revents != 0) break;
  }
  sigaction(SIGPIPE, &before, nullptr);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (timed_out) return absl::DeadlineExceededError("took longer than " + std::to_string(*hook.timeout_s) + " s");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  while (!errors.empty() && errors.back() == '\n') errors.pop_back();
  std::string what = WIFEXITED(status) ? "exit status " + std::to_string(WEXITSTATUS(status))
                                       : "killed by signal " + std::to_string(WTERMSIG(status));
  return absl::InternalError(errors.empty() ? what : what + ", " + errors);
}

}  // namespace

absl::Status RunHooks(const std::vector<oci::Hook>& hooks, std::string_view kind, const std::string& state_json,
                      const std::string& bundle, int network_namespace) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    absl::Status status = RunHook(hooks[i], state_json, bundle, network_namespace);
    if (!status.ok()) {
      return absl::Status(status.code(), "hooks." + std::string(kind) + "[" + std::to_string(i) + "] (" +
                                             hooks[i].path + "): " + std::string(status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace runsc::container
