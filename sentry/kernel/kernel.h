// Kernel: the root of every object graph of a sandbox.
#ifndef SENTRY_KERNEL_KERNEL_H_
#define SENTRY_KERNEL_KERNEL_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "sentry/kernel/async_signals.h"
#include "sentry/kernel/futex.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/pid_namespace.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/time/time_keeper.h"

namespace sentry {

class IpcNamespace;

// Serves a system call: set by sentry/syscalls, because the table is above the kernel. Returns the value for rax or an
// Errno, the ERESTART ones included.
using SystemCallHandler = Result<int64_t> (*)(Task& task, uint64_t number, const uint64_t args[6]);
// Loads a program into a fresh mm: set by sentry/boot to sentry/loader's.
struct ExecImage {
  RefPtr<MemoryManager> mm;
  Addr entry = 0, stack = 0;
  std::string comm;
  VfsPath path;  // of the executable (the interpreter's for scripts)
  // set-user-ID and file capabilities, already decided: what the new credentials are.
  CredentialsRef creds;
  bool secure = false;
  // The mm has no address space yet: it takes over that of the task's mm (MemoryManager::TakeOver).
  bool takes_over = false;
};
using ExecLoader = std::function<Result<ExecImage>(Task& task, const Task::ExecRequest& request)>;

class Kernel {
 public:
  struct Options {
    base::Scheduler* scheduler = nullptr;
    platform::Platform* platform = nullptr;
    platform::MemoryFile* memory_file = nullptr;
    int cpus = 1;               // what guests see
    uint64_t max_tasks = 0;     // 0: kPidMax
    uint64_t total_memory = 0;  // what /proc/meminfo and sysinfo show
    bool strace = false;
    bool allow_suid = false;
    bool allow_tsc = true;  // the vDSO may read the TSC (TimeKeeper::HostTrustsTsc)
  };
  explicit Kernel(Options options);
  ~Kernel();

  const Options& options() const { return options_; }
  base::Scheduler& scheduler() { return *options_.scheduler; }
  platform::Platform& platform() { return *options_.platform; }
  platform::MemoryFile& memory_file() { return *options_.memory_file; }
  MmEnvironment& mm_env() { return mm_env_; }
  TaskSet& tasks() { return tasks_; }
  FutexManager& futexes() { return futexes_; }
  TimeKeeper& time() { return time_; }
  AsyncSignals& async_signals() { return *async_signals_; }
  const RefPtr<IpcNamespace>& root_ipc() const { return root_ipc_; }
  int cpus() const { return options_.cpus; }
  // The first 64 of them, as sched_getaffinity(2) shows them.
  uint64_t cpu_mask() const { return options_.cpus >= 64 ? ~uint64_t{0} : (uint64_t{1} << options_.cpus) - 1; }

  // Wiring (boot, before the first task).
  void SetSystemCallHandler(SystemCallHandler handler) { handler_ = handler; }
  SystemCallHandler system_call_handler() const { return handler_; }
  void SetExecLoader(ExecLoader loader) { loader_ = std::move(loader); }
  const ExecLoader& exec_loader() const { return loader_; }
  // Makes a pidfd (fs/anon); `task` null refers to the process.
  using PidfdFactory = std::function<Result<RefPtr<FileDescription>>(Kernel&, RefPtr<ThreadGroup>, uint32_t flags)>;
  void SetPidfdFactory(PidfdFactory factory) { pidfd_factory_ = std::move(factory); }
  const PidfdFactory& pidfd_factory() const { return pidfd_factory_; }

  // --- Processes from outside: the container's init and `runsc exec`.
  struct ProcessSpec {
    std::vector<std::string> argv, envp;
    std::string executable;  // "": argv[0] looked up in envp's PATH
    CredentialsRef creds;
    std::string cwd = "/";
    VfsPath root;  // invalid: the root of `mounts`
    uint32_t umask = 022;
    RefPtr<FdTable> fds;
    RefPtr<MountNamespace> mounts;
    RefPtr<UtsNamespace> uts;
    RefPtr<base::RefCounted> net;
    RefPtr<PidNamespace> pid_namespace;  // with no init yet: the process becomes it
    Limits limits = Limits::Default();
    RefPtr<Tty> tty;  // becomes the controlling terminal of a new session
  };
  // Parks. The Errno of the exec: ENOENT, EACCES, ENOEXEC…
  Result<RefPtr<ThreadGroup>> CreateProcess(ProcessSpec spec);
  // Lets it run. Separate so that `create` can report errors before `start`.
  void StartProcess(ThreadGroup& tg);
  // `done` is called once, on any thread, with wait4's status when the process is gone; nobody else reaps it.
  void OnProcessExit(ThreadGroup& tg, std::function<void(int status)> done);

  RefPtr<Task> FindTask(int tid, const PidNamespace& ns) EXCLUDES(tasks_.mu);
  RefPtr<ThreadGroup> FindThreadGroup(int pid, const PidNamespace& ns) EXCLUDES(tasks_.mu);
  RefPtr<ProcessGroup> FindProcessGroup(int pgid, const PidNamespace& ns) EXCLUDES(tasks_.mu);
  // Task::ChangeAnswers of all: for what many tasks may share.
  void ChangeAnswers() EXCLUDES(tasks_.mu);
  // Snapshot in tid order.
  std::vector<RefPtr<Task>> Tasks(const PidNamespace& ns) EXCLUDES(tasks_.mu);
  std::vector<RefPtr<ThreadGroup>> ThreadGroups(const PidNamespace& ns) EXCLUDES(tasks_.mu);

  // runsc pause/resume: no task makes progress in between.
  void Pause();
  void Resume();
  bool paused() const { return paused_.load(std::memory_order_acquire); }
  base::WaitQueue& pause_events() { return pause_events_; }
  // SIGKILL to everything; for the end of the sandbox.
  void KillAll();

  // CPU time of all tasks, past ones included as far as somebody has waited for them.
  int64_t TotalCpuNs() EXCLUDES(tasks_.mu);
  LoadAverage::Values SampleLoad() EXCLUDES(tasks_.mu) { return load_.Sample(time_.BoottimeNow(), TotalCpuNs()); }

  void GetRandom(std::span<std::byte> out);  // the host's getrandom

  // --- Internal to kernel/, with TaskSet::mu held: the tree.
  // Gives the task its ids in its namespace and all above. EAGAIN (no id, limits), EEXIST and EINVAL (set_tid), ENOMEM
  // (dying).
  Result<void> AddTaskLocked(Task& task, const std::vector<int>& set_tid);
  void RemoveIdsLocked(Task& task);

 private:
  // MmEnvironment::stop_threads.
  void StopThreadsOf(MemoryManager& mm) EXCLUDES(tasks_.mu);
  static Result<std::string> LookUpExecutable(Task& task, const ProcessSpec& spec);
  Options options_;
  MmEnvironment mm_env_;
  TaskSet tasks_;
  FutexManager futexes_;
  TimeKeeper time_;
  LoadAverage load_{base::HostClockNs(CLOCK_BOOTTIME)};
  const RefPtr<AsyncSignals> async_signals_;
  const RefPtr<IpcNamespace> root_ipc_;
  SystemCallHandler handler_ = nullptr;
  ExecLoader loader_;
  PidfdFactory pidfd_factory_;
  std::atomic<bool> paused_{false};
  base::WaitQueue pause_events_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_KERNEL_H_
