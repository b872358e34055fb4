// runsc with a fake in place of the kernel: the command line, the processes, the namespaces, the filters and the
// control interface are the real ones. See sentry/control/testing/fake_sandbox.h for what "programs" it runs.
#include <optional>

#include "runsc/cmd/command.h"
#include "sentry/control/testing/fake_sandbox.h"

namespace {

using sentry::boot::BootSpec;
using namespace sentry::control;  // NOLINT: a test program

class Fake final : public sentry::boot::Sandbox {
 public:
  explicit Fake(BootSpec& spec) : spec_(spec), fake_(&spec.process) {}
  absl::Status Load() override { return CheckFakeProgram(spec_.process.argv); }
  absl::Status Start() override { return fake_.Start(); }
  absl::StatusOr<int32_t> CreateProcess(ProcessSpec spec) override { return fake_.CreateProcess(std::move(spec)); }
  void WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) override {
    fake_.WaitProcess(pid, std::move(done));
  }
  absl::Status SignalProcess(int32_t pid, int signo) override { return fake_.SignalProcess(pid, signo); }
  absl::Status SignalGroup(int32_t pgid, int signo) override { return fake_.SignalGroup(pgid, signo); }
  absl::Status SignalAll(int signo) override { return fake_.SignalAll(signo); }
  absl::Status SignalForeground(int32_t pid, int signo) override { return fake_.SignalForeground(pid, signo); }
  std::vector<ProcessInfo> ListProcesses() override { return fake_.ListProcesses(); }
  absl::Status Pause() override { return fake_.Pause(); }
  absl::Status Resume() override { return fake_.Resume(); }
  absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) override {
    return fake_.ResizeTerminal(pid, rows, columns);
  }
  Stats GetStats() override { return fake_.GetStats(); }

 private:
  BootSpec& spec_;
  FakeSandbox fake_;
};

absl::StatusOr<std::unique_ptr<sentry::boot::Sandbox>> NewFake(BootSpec& spec) { return std::make_unique<Fake>(spec); }

}  // namespace

int main(int argc, char** argv) {
  runsc::cmd::Kernel kernel;
  kernel.factory = &NewFake;
  return runsc::cmd::Main(argc, argv, kernel);
}
