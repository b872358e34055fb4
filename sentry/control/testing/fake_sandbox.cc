#include "sentry/control/testing/fake_sandbox.h"

#include <signal.h>

#include <cstdlib>

#include "base/syscall_unsafe.h"

namespace sentry::control {
namespace {

void WriteText(const ProcessSpec& spec, const std::string& text) {
  (void)base::HostRetry(SYS_write, spec.stdio[1].get(), text.data(), text.size());
}

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

bool IgnoredByDefault(int signo) {
  return signo == SIGCONT || signo == SIGCHLD || signo == SIGWINCH || signo == SIGURG;
}

}  // namespace

absl::Status CheckFakeProgram(const std::vector<std::string>& argv) {
  std::string program = BaseName(argv.at(0));
  if (program == "missing") {
    return absl::NotFoundError("exec: \"" + argv[0] + "\": executable file not found in $PATH");
  }
  if (program == "denied") return absl::PermissionDeniedError("exec: \"" + argv[0] + "\": permission denied");
  return absl::OkStatus();
}

absl::Status FakeSandbox::Start() {
  if (started_) return absl::FailedPreconditionError("the container runs already");
  started_ = true;
  processes_[1].spec = init_;
  Run(1);
  return absl::OkStatus();
}

absl::StatusOr<int32_t> FakeSandbox::CreateProcess(ProcessSpec spec) {
  if (absl::Status status = CheckFakeProgram(spec.argv); !status.ok()) return status;
  int32_t pid = next_pid_++;
  Process& process = processes_[pid];
  process.owned = std::move(spec);
  process.spec = &process.owned;
  Run(pid);
  return pid;
}

void FakeSandbox::Run(int32_t pid) {
  const ProcessSpec& spec = *processes_[pid].spec;
  std::string program = BaseName(spec.argv[0]);
  int number = spec.argv.size() > 1 ? atoi(spec.argv[1].c_str()) : 0;
  if (program == "sleep" || program == "trap") return;
  if (program == "die") return End(pid, number);
  if (program == "echo") {
    std::string text;
    for (size_t i = 1; i < spec.argv.size(); ++i) text += (i > 1 ? " " : "") + spec.argv[i];
    WriteText(spec, text + "\n");
  }
  End(pid, (program == "exit" ? number : program == "false" ? 1 : 0) << 8);
}

void FakeSandbox::End(int32_t pid, int status) {
  Process& process = processes_[pid];
  if (process.status) return;
  process.status = status;
  for (base::UniqueFd& fd : process.spec->stdio) fd.reset();
  auto waiters = std::move(process.waiters);
  for (auto& done : waiters) done(status);
}

void FakeSandbox::WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) {
  if (pid == 1) processes_[1].spec = init_;
  auto it = processes_.find(pid);
  if (it == processes_.end()) return done(absl::NotFoundError("no such process"));
  if (it->second.status) return done(*it->second.status);
  it->second.waiters.push_back(std::move(done));
}

absl::Status FakeSandbox::SignalProcess(int32_t pid, int signo) {
  auto it = processes_.find(pid);
  if (it == processes_.end() || it->second.status) return absl::NotFoundError("no such process");
  if (BaseName(it->second.spec->argv[0]) == "trap" && started_) {
    WriteText(*it->second.spec, "signal " + std::to_string(signo) + "\n");
    if (signo != SIGKILL && signo != SIGTERM) return absl::OkStatus();
  }
  if (!IgnoredByDefault(signo)) End(pid, signo);
  return absl::OkStatus();
}

absl::Status FakeSandbox::SignalAll(int signo) {
  for (auto& [pid, process] : processes_) {
    if (!process.status) (void)SignalProcess(pid, signo);
  }
  return absl::OkStatus();
}

std::vector<ProcessInfo> FakeSandbox::ListProcesses() {
  std::vector<ProcessInfo> list;
  for (auto& [pid, process] : processes_) {
    if (process.status) continue;
    ProcessInfo info;
    info.pid = pid;
    info.pgid = pid;
    info.uid = process.spec->uid;
    info.command = BaseName(process.spec->argv[0]);
    list.push_back(std::move(info));
  }
  return list;
}

absl::Status FakeSandbox::Pause() {
  paused_ = true;
  return absl::OkStatus();
}

absl::Status FakeSandbox::Resume() {
  paused_ = false;
  return absl::OkStatus();
}

absl::Status FakeSandbox::ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) {
  auto it = processes_.find(pid);
  if (it == processes_.end()) return absl::NotFoundError("no such process");
  it->second.spec->terminal_rows = rows;
  it->second.spec->terminal_columns = columns;
  return absl::OkStatus();
}

Stats FakeSandbox::GetStats() {
  Stats stats;
  stats.cpu_user_ns = 1000;
  stats.memory_usage_bytes = 1 << 20;
  stats.pids_current = ListProcesses().size();
  return stats;
}

}  // namespace sentry::control
