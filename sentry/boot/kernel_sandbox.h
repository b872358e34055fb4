// The Sandbox that is a kernel: wires platform, memory file, kernel, file systems and system call table together, and
// answers the control server.
//
// Locking: mu_ guards the processes that were started from outside. It comes before no other lock: nothing of the
// kernel is called with it held.
#ifndef SENTRY_BOOT_KERNEL_SANDBOX_H_
#define SENTRY_BOOT_KERNEL_SANDBOX_H_

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"
#include "base/reactor.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "sentry/boot/boot.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

class KernelSandbox final : public Sandbox {
 public:
  explicit KernelSandbox(BootSpec& spec) : spec_(spec) {}
  // Everything that needs calls which the filter forbids.
  absl::Status Prepare();
  // Tests fill a root that has no gofer; called between the mounts and init.
  void set_root_preparer_for_test(std::function<void(VfsContext&)> prepare) { prepare_root_ = std::move(prepare); }
  ~KernelSandbox() override;

  absl::Status Load() override;
  absl::Status Start() override;
  absl::StatusOr<int32_t> CreateProcess(control::ProcessSpec spec) override;
  void WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) override;
  absl::Status SignalProcess(int32_t pid, int signo) override;
  absl::Status SignalGroup(int32_t pgid, int signo) override;
  absl::Status SignalAll(int signo) override;
  absl::Status SignalForeground(int32_t pid, int signo) override;
  std::vector<control::ProcessInfo> ListProcesses() override;
  absl::Status Pause() override;
  absl::Status Resume() override;
  absl::Status ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) override;
  control::Stats GetStats() override;

 private:
  struct Process {
    RefPtr<Tty> tty;
    std::optional<int> status;
    std::vector<std::function<void(absl::StatusOr<int>)>> waiters;
  };
  // Runs `body` on a fiber and waits for it. Control thread only.
  void OnFiber(std::function<void()> body);
  absl::Status LoadOnFiber();
  // Makes the process and registers for its end; does not start it.
  absl::StatusOr<RefPtr<ThreadGroup>> MakeProcess(control::ProcessSpec& spec, bool is_init);
  absl::StatusOr<RefPtr<FdTable>> MakeDescriptors(control::ProcessSpec& spec, MountNamespace& mounts, RefPtr<Tty>* tty);
  void OnExit(int32_t pid, int status);

  BootSpec& spec_;
  std::unique_ptr<platform::MemoryFile> memory_file_;
  std::unique_ptr<platform::Platform> platform_;
  std::unique_ptr<base::Scheduler> scheduler_;
  std::unique_ptr<base::Timer> started_timer_;
  std::unique_ptr<Kernel> kernel_;
  RefPtr<MountNamespace> mounts_;
  RefPtr<UtsNamespace> uts_;
  RefPtr<base::RefCounted> net_;
  RefPtr<ThreadGroup> init_;
  std::function<void(VfsContext&)> prepare_root_;
  bool started_ = false;  // control thread only

  base::Mutex mu_;
  std::map<int32_t, Process> processes_ GUARDED_BY(mu_);
};

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_KERNEL_SANDBOX_H_
