// Task: a guest thread. A fiber whose body is: let the guest run, look at why it came back, serve the system call or
// the fault, deliver signals, again (DESIGN.md §3). Its code is split by activity: task_run.cc, task_clone.cc,
// task_exec.cc, task_exit.cc, task_signals.cc, task_stop.cc, task_block.cc, task_wait.cc, task_ptrace.cc,
// task_ptrace_attach.cc.
#ifndef SENTRY_KERNEL_TASK_H_
#define SENTRY_KERNEL_TASK_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fiber.h"
#include "base/wait_queue.h"
#include "platform/platform.h"
#include "sentry/kernel/fd_table.h"
#include "sentry/kernel/fs_context.h"
#include "sentry/kernel/ptrace_state.h"
#include "sentry/kernel/signal.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/kernel/uts_namespace.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/credentials.h"
#include "sentry/vfs/path.h"

namespace sentry {

class IpcNamespace;
class Kernel;
class SeccompFilter;
class SemUndoList;
class Task;

// What the parent of a vfork waits for.
struct VforkDone final : public base::RefCounted {
  std::atomic<bool> done{false};
  base::WaitQueue queue;
};

// What clone(2), clone3(2), fork and vfork come down to.
struct CloneRequest {
  uint64_t flags = 0;  // CLONE_* without the signal
  int exit_signal = 0;
  Addr stack = 0;           // 0: the parent's
  uint64_t stack_size = 0;  // clone3: stack is the lowest address
  Addr tls = 0;
  Addr parent_tid = 0, child_tid = 0;
  Addr pidfd = 0;  // where the descriptor goes
  std::vector<int> set_tid;
};

// Options of wait4 and waitid in one.
struct WaitRequest {
  enum class Who { kAny, kPid, kProcessGroup, kPidfdGroup } who = Who::kAny;
  int id = 0;
  uint32_t options = 0;  // WEXITED WSTOPPED WCONTINUED WNOHANG WNOWAIT __WALL __WCLONE __WNOTHREAD
  ThreadGroup* pidfd_target = nullptr;
};
struct WaitOutcome {
  int pid = 0;  // 0: WNOHANG and nothing
  uint32_t uid = 0;
  int status = 0;  // wait4's encoding
  int code = 0;    // CLD_*
  int value = 0;   // si_status: exit code or signal
  Usage usage;
};

// A restart block (man 2 restart_syscall): how to go on with an interrupted call whose timeout is relative.
using RestartBlock = std::function<Result<int64_t>(Task&)>;

class Task final : public base::RefCounted, public Blocker {
 public:
  struct Init {
    RefPtr<ThreadGroup> thread_group;
    RefPtr<MemoryManager> mm;
    RefPtr<FdTable> fds;
    RefPtr<FsContext> fs;
    RefPtr<MountNamespace> mounts;
    RefPtr<UtsNamespace> uts;
    RefPtr<base::RefCounted> net;  // the network namespace: socket/ knows its type
    CredentialsRef creds;
    std::string comm;
    std::unique_ptr<platform::Context> context;
  };
  Task(Kernel& kernel, Init init);
  ~Task() override;

  // The task of the running fiber; null on other fibers.
  static Task* Current();
  // Starts its fiber. Once, after it has been put into the tree.
  void Start();

  Kernel& kernel() const { return kernel_; }
  ThreadGroup& thread_group() const { return *thread_group_; }
  RefPtr<ThreadGroup> thread_group_ref() const { return thread_group_; }
  PidNamespace& pid_namespace() const { return thread_group_->pid_namespace(); }
  int tid() const { return tid_.load(std::memory_order_relaxed); }  // in its own namespace
  int TidIn(const PidNamespace& ns) const;                          // TaskSet::mu; 0: not visible
  int OwnTidIn(const PidNamespace& ns) const;                       // the same, taking it
  int PidIn(const PidNamespace& ns) const;                          // of its process, likewise

  // --- Own fiber only: the resources a handler uses.
  MemoryManager& mm() { return *mm_; }
  bool has_mm() const { return mm_ != nullptr; }  // not before its first program is loaded, nor after its end
  FdTable& fds() { return *fds_; }
  FsContext& fs() { return *fs_; }
  MountNamespace& mounts() { return *mounts_; }
  UtsNamespace& uts() { return *uts_; }
  const Credentials& creds() const { return *creds_; }
  CredentialsRef creds_ref() const { return creds_; }
  bool Capable(int cap) const { return creds_->Capable(cap); }
  platform::Registers& registers() { return context_->registers(); }
  platform::Context& context() { return *context_; }
  base::RefCounted* net() { return net_.get(); }
  IpcNamespace& ipc() { return *ipc_; }
  // For vfs calls; `start`: where a dirfd points (AT_FDCWD: the working directory). EBADF, ENOTDIR.
  VfsContext MakeVfsContext();
  Result<VfsPath> PathStart(Fd dirfd, std::string_view path);
  Result<RefPtr<FileDescription>> GetFile(Fd fd) { return fds_->Get(fd); }
  Result<Fd> InstallFile(RefPtr<FileDescription> file, bool cloexec);
  Result<FdReservation> ReserveFd();
  MmLimits mm_limits() const;
  // Whole-object replacement; take the task's lock because others look through the Snapshot functions.
  void SetCredentials(CredentialsRef creds) EXCLUDES(mu_);
  void SetMm(RefPtr<MemoryManager> mm) EXCLUDES(mu_);
  void SetFds(RefPtr<FdTable> fds) EXCLUDES(mu_);
  void SetFs(RefPtr<FsContext> fs) EXCLUDES(mu_);
  void SetMounts(RefPtr<MountNamespace> mounts) EXCLUDES(mu_);
  void SetUts(RefPtr<UtsNamespace> uts) EXCLUDES(mu_);
  void SetNet(RefPtr<base::RefCounted> net) EXCLUDES(mu_);
  void SetIpc(RefPtr<IpcNamespace> ipc) EXCLUDES(mu_);
  void SetComm(std::string_view comm) EXCLUDES(mu_);  // at most 15 bytes kept

  // --- Any fiber: what /proc, prlimit, process_vm_readv see. Null once the task has exited.
  RefPtr<MemoryManager> SnapshotMm() const EXCLUDES(mu_);
  RefPtr<FdTable> SnapshotFds() const EXCLUDES(mu_);
  RefPtr<FsContext> SnapshotFs() const EXCLUDES(mu_);
  RefPtr<MountNamespace> SnapshotMounts() const EXCLUDES(mu_);
  CredentialsRef SnapshotCreds() const EXCLUDES(mu_);
  RefPtr<UtsNamespace> SnapshotUts() const EXCLUDES(mu_);
  RefPtr<base::RefCounted> SnapshotNet() const EXCLUDES(mu_);
  RefPtr<IpcNamespace> SnapshotIpc() const EXCLUDES(mu_);
  std::string comm() const EXCLUDES(mu_);
  // 'R' running, 'S' waiting, 'D' waiting for the host, 'T' stopped, 't' stopped for its tracer, 'Z' zombie, 'X' dead.
  char state() const { return state_.load(std::memory_order_relaxed); }
  Usage usage() const;
  // A read or write of so many bytes was served (task_io_accounting). Own fiber.
  void CountRead(size_t bytes) { Add(read_bytes_, bytes), Add(reads_, 1); }
  void CountWrite(size_t bytes) { Add(written_bytes_, bytes), Add(writes_, 1); }
  const int64_t start_time_ns;

  // --- Waiting (task_block.cc). Own fiber only; no Mutex held.
  enum class Wake { kWoken, kTimedOut, kInterrupted };
  // Parks until Unpark by a wait entry of the caller, the deadline, or a signal. Spurious kWoken is possible.
  Wake ParkInterruptible(base::MonotonicNs deadline);
  Result<void> BlockUntil(base::WaitQueue& queue, base::EventMask mask, const std::function<bool()>& ready,
                          base::MonotonicNs deadline = base::kNever) override;
  // Runs `operation` until it returns something else than EAGAIN, waiting on the file in between; at once if it is
  // nonblocking. An interruption after nothing was done is ERESTARTSYS_; the deadline (SO_RCVTIMEO) EAGAIN.
  template <typename F>
  auto RetryUntilReady(FileDescription& file, base::EventMask mask, bool nonblock, F&& operation,
                       base::MonotonicNs deadline = base::kNever) -> decltype(operation()) {
    auto result = operation();
    if (nonblock || !result.failed_with(EAGAIN) || file.wait_queue() == nullptr) return result;
    base::WaitEntry entry(mask | base::kEventErr | base::kEventHup);
    base::ScopedWait wait(*file.wait_queue(), entry);
    for (;;) {
      result = operation();
      if (!result.failed_with(EAGAIN)) return result;
      const Wake wake = ParkInterruptible(deadline);
      if (wake == Wake::kWoken) continue;
      // What came together with the signal comes first (wait_event_interruptible looks at the condition last).
      result = operation();
      if (!result.failed_with(EAGAIN)) return result;
      return Errno(wake == Wake::kTimedOut ? EAGAIN : base::ERESTARTSYS_);
    }
  }
  bool SignalPending() const { return interrupted_.load(std::memory_order_acquire); }
  void SetRestartBlock(RestartBlock block) { restart_block_ = std::move(block); }
  RestartBlock TakeRestartBlock() { return std::exchange(restart_block_, nullptr); }

  // --- Signals (task_signals.cc). Sending: any fiber or thread, TaskSet::mu not held unless …Locked.
  // To this thread / to its process. ESRCH once it is dead; EAGAIN at RLIMIT_SIGPENDING for queued ones.
  Result<void> SendSignal(const SignalInfo& info);
  static Result<void> SendGroupSignal(ThreadGroup& tg, const SignalInfo& info);
  static Result<void> SendGroupSignalLocked(ThreadGroup& tg, const SignalInfo& from,
                                            base::RefPtr<base::RefCounted> timer = nullptr);
  Result<void> SendSignalLocked(const SignalInfo& from, base::RefPtr<base::RefCounted> timer = nullptr);
  // A synchronous signal that cannot be blocked or ignored (force_sig): default action if it is.
  void ForceSignal(const SignalInfo& info);
  // kill(2)'s permission rule.
  bool MaySignal(const Task& target, int signo) const;
  SignalSet blocked() const;
  // In rt_sigtimedwait(2), for which what it waits for counts as unblocked. Any thread.
  bool WaitsFor(int signo) const { return SignalSet(awaited_.load(std::memory_order_relaxed)).Has(signo); }
  void SetBlocked(SignalSet mask);
  // ppoll, sigsuspend…: `mask` for the duration of the call; the old one comes back after a handler's frame is made.
  void SetTemporaryMask(SignalSet mask);
  SignalSet PendingSet() const;  // sigpending(2)
  // sigtimedwait(2): takes one of `set`; EAGAIN at the deadline, EINTR.
  Result<SignalInfo> WaitForSignal(SignalSet set, base::MonotonicNs deadline);
  std::optional<QueuedSignal> TakeSignal(SignalSet set);  // signalfd's read
  base::WaitQueue& signal_events() {
    return signal_events_;
  }  // signalfd's poll: notified when something was queued for it
  Result<abi::KSigaction> Sigaction(int signo, const abi::KSigaction* action);
  Result<abi::StackT> Sigaltstack(const abi::StackT* stack);
  Result<int64_t> Sigreturn();

  // --- ptrace(2), the tracee's side (task_ptrace.cc) and the ties (task_ptrace_attach.cc). What a tracer does to a
  // stopped tracee is in tracee.h.
  bool traced() const { return slow_reasons_.load(std::memory_order_relaxed) & kSlowTraced; }
  const PtraceState& ptrace_state() const { return ptrace_; }  // TaskSet::mu
  bool WatchedWithoutCapability() const;                       // by a tracer that lacks CAP_SYS_PTRACE
  Result<void> PtraceTraceMe();                                // EPERM
  // PTRACE_ATTACH, PTRACE_SEIZE. ESRCH, EPERM. Parks.
  Result<void> PtraceAttach(Task& target, bool seize, uint32_t options);

  // --- Life (task_clone.cc, task_exec.cc, task_exit.cc, task_wait.cc).
  Result<int> Clone(const CloneRequest& request);  // the child's tid in the caller's namespace
  struct ExecRequest {
    VfsPath start;
    std::string path;
    uint32_t at_flags = 0;
    std::vector<std::string> argv, envp;
    std::string filename;            // AT_EXECFN: "/dev/fd/3/x" for execveat; "": the path
    bool path_inaccessible = false;  // … and that descriptor is close-on-exec
  };
  // On success the registers are those of the new program.
  Result<void> Exec(ExecRequest request);
  // Marks the task for exit; the fiber ends at the next boundary. Own fiber only.
  void Exit(int code);
  void ExitGroup(int code);
  Result<WaitOutcome> WaitChild(const WaitRequest& request);
  Result<void> Unshare(uint64_t flags);
  // setsid, setpgid, getpgid, getsid (process_group.cc).
  Result<int> SetSid();
  Result<void> SetPgid(int pid, int pgid);
  Result<int> GetPgid(int pid);
  Result<int> GetSid(int pid);

  // --- seccomp(2) (task_seccomp.cc, seccomp.h). Own fiber, except where noted.
  int seccomp_mode() const { return seccomp_mode_.load(std::memory_order_acquire); }  // SECCOMP_MODE_*; any thread
  int seccomp_filters() const;                                                        // how many; any thread
  // no_new_privs came with another thread's filter and is not in creds() yet; any thread.
  bool takes_no_new_privs() const { return take_no_new_privs_.load(std::memory_order_acquire); }
  Result<void> EnterSeccompStrict();  // EINVAL in filter mode
  // Puts a new filter on top of its own; `all_threads`: and gives all threads of the process its filters (TSYNC). 0, or
  // the tid of a thread that has filters of its own. EINVAL in strict mode, EBUSY for a second listener, ENOMEM.
  Result<int> AttachSeccompFilter(RefPtr<SeccompFilter> filter, bool all_threads);
  bool KillPending() const;  // SIGKILL, or the end of the process

  RefPtr<SemUndoList> sem_undo;  // own fiber; made on first use, shared by CLONE_SYSVSEM
  Addr clear_child_tid = 0;      // own fiber
  Addr robust_list_head = 0;     // own fiber
  int pdeath_signal = 0;         // TaskSet::mu
  uint64_t personality = 0;      // own fiber
  int64_t timer_slack_ns = 50'000, default_timer_slack_ns = 50'000;  // man 2 PR_SET_TIMERSLACK
  std::atomic<int> nice{0};
  std::atomic<int> ioprio{0};  // as ioprio_set(2) encodes it; 0: follows from nice
  std::atomic<uint64_t> affinity{~uint64_t{0}};
  // SCHED_OTHER, SCHED_BATCH or SCHED_IDLE, which are remembered and shown; the host schedules.
  std::atomic<int> sched_policy{0};
  std::atomic<bool> sched_reset_on_fork{false};

  void Interrupt();     // any thread: makes it look at its signals soon
  void KickForPause();  // any thread: leaves the guest, if it is there
  // The same for tasks of one address space; whether it was there. Any thread.
  bool KickOutOfGuest(const MemoryManager& mm) EXCLUDES(mu_);
  // Whether the kernel has to see every system call of this task, also those that a platform could answer by itself.
  // Any thread. Each reason has one owner, which sets and clears it; when that is another thread's fiber it makes the
  // task leave the guest afterwards (KickForPause), so that the platform finds out at the next Start.
  enum SlowReason : uint32_t { kSlowSeccomp = 1, kSlowTraced = 2 };
  bool NeedsSlowSyscalls() const { return slow_reasons_.load(std::memory_order_acquire) != 0; }
  void SetSlowReason(SlowReason reason, bool on) {
    if (on) {
      slow_reasons_.fetch_or(reason, std::memory_order_acq_rel);
    } else {
      slow_reasons_.fetch_and(~uint32_t{reason}, std::memory_order_acq_rel);
    }
    answers_stale_.store(true, std::memory_order_seq_cst);
  }
  // What getppid(2) and its like say has changed (task_answers.cc): when this returns, no call that begins says what it
  // was. Any thread, under any lock.
  void ChangeAnswers();
  PendingSignals& PendingForTimers() { return pending_; }  // siglock

 private:
  friend class Kernel;
  friend class ThreadGroup;
  friend class Tracee;
  friend void ReapLocked(ThreadGroup& tg);
  void Run();      // the fiber's body
  bool RunOnce();  // one trip to the guest; false: the task is finished
  void ServeSystemCall();
  void MakeSystemCall();
  void ServeFault(const platform::Exit& exit);
  void FinishSystemCall(uint64_t number, const Result<int64_t>& result);
  void LendMask();                              // lets the platform have the mask of blocked signals
  void ReturnMask(const platform::Exit& exit);  // and has it back
  void UpdateAnswers();                         // what the platform may answer by itself
  void FillAnswers(platform::CallAnswers& answers);
  void CountUserTime(int64_t ns, bool slept);
  void CountSystemTime(int64_t now);
  // What seccomp does with the call in the registers: its result without serving it, or nothing.
  std::optional<Result<int64_t>> RunSeccomp();
  // SECCOMP_RET_TRACE: stops for a tracer that wants PTRACE_EVENT_SECCOMP. False if there is none.
  bool StopForSeccompTrace(uint16_t data);
  void DieFromSeccomp(int signo, bool process);
  void TakeSeccompFilterLocked(SeccompFilter* filter);  // siglock
  void InheritSeccompLocked(const Task& parent);        // both siglocks
  void ReleaseSeccomp();
  bool HandleInterruptions();  // signals, stops, kills; false: exit
  void DeliverSignal(const QueuedSignal& signal, const abi::KSigaction& action);
  void FinishRestart(bool handler_runs, const abi::KSigaction* action);
  void ExitMain();
  // Siglock held (and TaskSet::mu where noted).
  void RecalculateInterruptedLocked();
  void TakeMaskLocked();  // the guest may not change it any more; after a signal was queued, before blocked() is asked
  bool HasDeliverableLocked() const;
  std::optional<QueuedSignal> DequeueLocked(SignalSet set);
  void KillLocked();                    // also TaskSet::mu
  void BeginGroupStop(int signo);       // takes TaskSet::mu
  bool ParticipateInGroupStopLocked();  // also TaskSet::mu; true: the stop is complete now
  Result<ProcessGroup*> ProcessGroupOfLocked(int pid);
  void WaitWhileStopped();  // and PTRACE_EVENT_STOP
  void WaitWhilePaused();
  void ReleaseVfork();
  void DropResources();
  void ReleaseSemUndo();
  Result<void> KillOtherThreads();  // execve's de_thread
  // The last thread has gone, and nobody waits for another: the process can be waited for. TaskSet::mu.
  static void FinishProcessLocked(ThreadGroup& tg);
  static void NotifyRealParentLocked(ThreadGroup& tg);
  static void ReleaseThreadLocked(Task& thread);  // a dead one that is not the leader
  void NotifyTracerOfExitLocked(int status);
  bool WaitForTracees(const WaitRequest& request, bool& any, WaitOutcome& out);  // TaskSet::mu

  // task_ptrace.cc; own fiber, no lock held.
  // Stops for the tracer with `code` and returns the signal it goes on with; `otherwise` at once if there is no tracer
  // or a SIGKILL is pending. `info`: what PTRACE_GETSIGINFO shows, and afterwards what PTRACE_SETSIGINFO made of it.
  int PtraceStop(int code, int why, uint64_t message, SignalInfo* info, int otherwise);
  int PtraceNotify(int code, int why, uint64_t message);
  void PtraceReport(PtraceEvent event, uint64_t message);  // if the tracer has asked for it
  bool PtraceEventEnabled(PtraceEvent event) const;
  int PtraceTrap();                        // group-stop, PTRACE_EVENT_STOP
  int PtraceSignal(QueuedSignal& signal);  // signal-delivery-stop; 0: forget it
  bool PtraceSyscallEntry();               // false: do not make the call
  void PtraceSyscallExit();
  bool PtraceSuspendsSeccomp() const;  // PTRACE_O_SUSPEND_SECCOMP
  void PtraceReportSyscall(uint64_t message);
  void NoteRestart();  // the registers may have changed: whether they ask for a restart
  // TaskSet::mu held.
  void NotifyTracerLocked(int why);
  void ResumeTraceeLocked(int signo);
  // task_ptrace_attach.cc; TaskSet::mu held.
  void LinkTracerLocked(Task& tracer, bool seized, uint32_t options, CredentialsRef creds);
  void UnlinkTracerLocked();
  void InheritTracerLocked(Task& parent);
  void DetachAllLocked();
  bool ptrace_reparented() const;  // traced, and not by its parent's process; TaskSet::mu

  Kernel& kernel_;
  RefPtr<ThreadGroup> thread_group_;  // set once
  std::atomic<int> tid_{0};           // in its own namespace; changes only in exec by a thread that is not the leader
  std::vector<std::pair<const PidNamespace*, int>> tids_;  // TaskSet::mu
  RefPtr<base::Fiber> fiber_;                              // set once by Start
  std::unique_ptr<platform::Context> context_;

  mutable base::Mutex
      mu_;  // guards the *replacement* of the pointers below: only the own fiber replaces, so it reads without
  RefPtr<MemoryManager> mm_;
  RefPtr<FdTable> fds_;
  RefPtr<FsContext> fs_;
  RefPtr<MountNamespace> mounts_;
  RefPtr<UtsNamespace> uts_;
  RefPtr<base::RefCounted> net_;
  RefPtr<IpcNamespace> ipc_;
  CredentialsRef creds_;
  std::string comm_ GUARDED_BY(mu_);

  // Siglock.
  PendingSignals pending_;
  // Written by the own fiber under the siglock; read by senders under it. In the guest the platform may have it, and
  // the guest may change it as long as mask_lent_, which implies that no signal is pending.
  std::atomic<uint64_t> blocked_{0};
  std::atomic<bool> mask_lent_{false};  // written under the siglock
  bool stopped_ = false;                // in a group stop
  bool stop_pending_ = false;           // has to take part in the group stop under way
  bool stop_dequeued_ = false;          // took a stop signal, and no SIGCONT came since
  int stop_signal_ = 0;                 // of the last group stop
  bool trap_stop_ = false;              // has to stop for its tracer (written with TaskSet::mu, too)
  bool trap_notify_ = false;            // has to tell a PTRACE_SEIZE tracer that the group stop has changed (likewise)
  bool killed_ = false;                 // SIGKILL or group exit: nothing else matters
  bool fatal_pending_ = false;          // … and it has not begun to exit: no stop for a tracer (likewise)

  std::atomic<uint64_t> awaited_{0};     // what rt_sigtimedwait(2) waits for; written by the own fiber
  std::optional<SignalSet> saved_mask_;  // own fiber
  abi::StackT altstack_{};               // own fiber
  RestartBlock restart_block_;           // own fiber
  uint64_t trap_number_ = 0, trap_error_code_ = 0, trap_address_ = 0;  // of the last fault; own fiber
  std::atomic<int> seccomp_mode_{0};                                   // written under the siglock
  // The newest filter, with a reference; replaced under the siglock by descendants of itself alone, by this task or by
  // another one of its process, so that its own fiber may use what it has loaded.
  std::atomic<SeccompFilter*> seccomp_filter_{nullptr};
  bool seccomp_released_ = false;               // siglock: it is exiting
  std::atomic<bool> take_no_new_privs_{false};  // set with a filter from another thread; own fiber obeys
  bool in_syscall_ = false;                     // own fiber: a restart may be due
  bool stepping_ = false;                       // own fiber: the context does single steps
  bool exiting_ = false;                        // own fiber
  std::atomic<bool> in_guest_{false};  // with interrupted_: each side writes its own, then reads the other's (seq_cst)
  int exit_status_ = 0;
  std::atomic<bool> interrupted_{
      false};  // something for HandleInterruptions; set under the siglock, cleared by the own fiber
  std::atomic<char> state_{'R'};
  std::atomic<uint32_t> slow_reasons_{0};  // SlowReason bits
  std::atomic<bool> answers_stale_{true};  // what the context has been told is not, or no longer, so
  PtraceState ptrace_;
  base::WaitQueue signal_events_;
  RefPtr<VforkDone> vfork_done_;  // the parent of a vfork waits for it; signalled by exec or exit
  std::atomic<int64_t> user_ns_{0}, system_ns_{0};
  int64_t cpu_seen_ns_ = 0, counted_ns_ = 0;  // of CountUserTime; own fiber
  std::atomic<int64_t> guest_since_{0};       // when it entered the guest, while it is there; else 0
  int64_t system_since_ = 0;                  // when the call began that was served last; 0: counted. Own fiber
  int64_t parked_ns_ = 0;                     // waited in it; own fiber
  std::atomic<uint64_t> minor_faults_{0}, switches_{0};
  // One writer.
  static void Add(std::atomic<uint64_t>& count, uint64_t n) {
    count.store(count.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::atomic<uint64_t> read_bytes_{0}, written_bytes_{0}, reads_{0}, writes_{0};
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_TASK_H_
