// FakeSandbox: SandboxOps without a kernel, for the tests of the control plumbing and of runsc itself. Its programs are
// names that it acts out:
//
//   true · false · exit N        end at once with that status
//   die N                        is killed by signal N
//   echo WORD…                   writes the words to its standard output, ends with 0
//   sleep                        waits until a signal kills it (SIGCONT, SIGCHLD, SIGWINCH and SIGURG are ignored)
//   trap                         writes "signal N\n" to its standard output for each signal; SIGKILL and SIGTERM kill
//   it missing · denied             cannot be started, with the errors of the real thing
#ifndef SENTRY_CONTROL_TESTING_FAKE_SANDBOX_H_
#define SENTRY_CONTROL_TESTING_FAKE_SANDBOX_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "sentry/control/sandbox_ops.h"

namespace sentry::control {

// What CreateProcess and Load say about a program that cannot be run; OK for one that can.
absl::Status CheckFakeProgram(const std::vector<std::string>& argv);

class FakeSandbox final : public SandboxOps {
 public:
  explicit FakeSandbox(ProcessSpec* init) : init_(init) {}

  absl::Status Start() override;
  absl::StatusOr<int32_t> CreateProcess(ProcessSpec spec) override;
  void WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) override;
  absl::Status SignalProcess(int32_t pid, int signo) override;
  absl::Status SignalGroup(int32_t pgid, int signo) override { return SignalProcess(pgid, signo); }
  absl::Status SignalAll(int signo) override;
  absl::Status SignalForeground(int32_t pid, int signo) override { return SignalProcess(pid, signo); }
  std::vector<ProcessInfo> ListProcesses() override;
  absl::Status Pause() override;
  absl::Status Resume() override;
  absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) override;
  Stats GetStats() override;

 private:
  struct Process {
    ProcessSpec* spec = nullptr;
    ProcessSpec owned;
    std::optional<int> status;
    std::vector<std::function<void(absl::StatusOr<int>)>> waiters;
  };
  void Run(int32_t pid);
  void End(int32_t pid, int status);

  ProcessSpec* init_;
  bool started_ = false;
  bool paused_ = false;
  int32_t next_pid_ = 2;
  std::map<int32_t, Process> processes_;
};

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_TESTING_FAKE_SANDBOX_H_
