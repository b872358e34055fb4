// ThreadGroup: a process. (Linux: signal_struct and the thread group leader's task_struct)
#ifndef SENTRY_KERNEL_THREAD_GROUP_H_
#define SENTRY_KERNEL_THREAD_GROUP_H_

#include <sys/resource.h>

#include <array>
#include <functional>
#include <list>
#include <memory>

#include "base/mutex.h"
#include "base/reactor.h"
#include "base/ref_ptr.h"
#include "base/wait_queue.h"
#include "sentry/kernel/pid_namespace.h"
#include "sentry/kernel/process_group.h"
#include "sentry/kernel/signal.h"

namespace sentry {

class Kernel;
class PosixTimers;
class Task;

inline constexpr int kRlimits = 16;  // RLIM_NLIMITS
struct Limits {
  std::array<abi::Rlimit, kRlimits> values;
  static Limits Default();  // as a fresh Linux boot gives init
};

// CPU time and counters of finished tasks.
struct Usage {
  int64_t user_ns = 0, system_ns = 0;
  uint64_t voluntary_switches = 0, involuntary_switches = 0, minor_faults = 0, major_faults = 0;
  uint64_t max_rss_kb = 0;
  uint64_t read_bytes = 0, written_bytes = 0, reads = 0, writes = 0;  // rchar, wchar, syscr, syscw
  void Add(const Usage& o);
};

class ThreadGroup final : public base::RefCounted {
 public:
  ThreadGroup(Kernel& kernel, RefPtr<PidNamespace> ns, RefPtr<SignalHandlers> handlers, int exit_signal,
              const Limits& limits);
  ~ThreadGroup() override;

  Kernel& kernel() const { return kernel_; }
  PidNamespace& pid_namespace() const { return *pid_namespace_; }
  // In its own namespace, and as seen from another (0: not visible).
  int pid() const { return pid_.load(std::memory_order_relaxed); }
  int PidIn(const PidNamespace& ns) const;  // TaskSet::mu

  Limits limits() const EXCLUDES(limits_mu_) {
    base::MutexLock l(limits_mu_);
    return limits_;
  }
  uint64_t Limit(int resource) const EXCLUDES(limits_mu_) {  // the soft one
    base::MutexLock l(limits_mu_);
    return limits_.values[resource].rlim_cur;
  }
  void SetLimit(int resource, abi::Rlimit value) EXCLUDES(limits_mu_);  // takes TaskSet::mu
  void ChangeAnswersLocked();  // Task::ChangeAnswers of its threads; TaskSet::mu

  // --- Guarded by TaskSet::mu.
  std::list<Task*> tasks;         // live threads
  int live_count = 0;             // threads that have not exited
  int leaving = 0;                // threads that have, and are not through with it: the last of them ends the process
  Task* leader = nullptr;         // stays until reaped (zombie)
  ThreadGroup* parent = nullptr;  // real parent process; null for the namespace's init of the sandbox
  Task* parent_task = nullptr;    // the thread that forked it (PDEATHSIG, __WNOTHREAD); null once that exited
  std::list<ThreadGroup*> children;
  RefPtr<ProcessGroup> process_group;
  bool child_subreaper = false;
  std::atomic<bool> thp_disabled{false};  // PR_SET_THP_DISABLE: kept and shown
  bool has_execed = false;                // since fork: setpgid by the parent then fails with EACCES
  Usage dead_threads_usage;               // of exited threads
  Usage children_usage;                   // of waited-for children (RUSAGE_CHILDREN)
  // Exit: set when the last thread has exited.
  bool zombie = false;
  int wait_status = 0;  // as wait4 gives it
  // Job control reports for wait (WUNTRACED, WCONTINUED).
  bool stop_reported_pending = false, continue_reported_pending = false;
  bool stop_notify_due = false, continue_notify_due = false;  // SIGCHLD not sent yet
  int stop_signal_reported = 0;
  std::function<void(int status)> on_exit;  // the sandbox waits for it (init, runsc exec): nobody else reaps it
  const int64_t start_time_ns;              // CLOCK_BOOTTIME

  // Children changed state: wait4, waitid. Its own exit: pidfd polls.
  base::WaitQueue child_events;
  base::WaitQueue exit_events;

  // --- Guarded by handlers->mu (the siglock); `handlers` itself by TaskSet::mu plus its own lock (execve unshares it).
  RefPtr<SignalHandlers> handlers;
  PendingSignals pending;      // process-directed
  bool group_exiting = false;  // exit_group, fatal signal or exec's de_thread under way
  int group_exit_status = 0;
  Task* exec_task = nullptr;         // the thread that execs and outlives the others
  bool group_stopped = false;        // every thread has to stop
  bool group_stop_complete = false;  // … and has
  int group_stop_signal = 0;
  int exit_signal;  // to the parent at the end (SIGCHLD; −1 none)

  // POSIX timers and interval timers (own lock inside).
  PosixTimers& timers() { return *timers_; }

  // CPU time of the process, threads past and present.
  Usage TotalUsage();        // takes TaskSet::mu
  Usage TotalUsageLocked();  // with it held

  // SIGCHLD for a stop or continuation that is to be reported. Takes TaskSet::mu.
  void NotifyParentStopped(bool stopped);

  std::atomic<int> pid_{0};  // set once before publication, in its own namespace
  std::atomic<int> oom_score_adj{0};

 private:
  Kernel& kernel_;
  RefPtr<PidNamespace> pid_namespace_;
  mutable base::Mutex limits_mu_;
  Limits limits_ GUARDED_BY(limits_mu_);
  std::unique_ptr<PosixTimers> timers_;
};

// si_code (CLD_EXITED, CLD_KILLED, CLD_DUMPED) of a wait status.
int ChildCode(int status);

}  // namespace sentry

#endif  // SENTRY_KERNEL_THREAD_GROUP_H_
