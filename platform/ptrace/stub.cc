#include "platform/ptrace/stub.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/ptrace/context.h"
#include "platform/ptrace/platform_impl.h"

namespace platform::ptrace {
namespace {

constexpr uint64_t kNoSystemCall = ~uint64_t{0};
// Where a guest thread runs. Bound to its tracer's CPU a call costs 8 µs and no other CPU helps; free, a call crosses
// CPUs twice (some 60 µs each way to an idle one) but the thread computes beside others. So: bound while its runs are
// short, free when it computes (the tick) or when several share the CPU and runs have become long for it. Measured in
// docs/platforms.md.
constexpr base::MonotonicNs kQuickRunNs = 500'000;        // bind a free thread that is alone
constexpr base::MonotonicNs kQuickCrowdedRunNs = 90'000;  // the same while others of the tracer run
constexpr base::MonotonicNs kLongCrowdedRunNs = 120'000;  // free a bound thread
constexpr int kRunsToBind = 2, kRunsToFree = 4;           // in a row

bool IsStop(int status, int signal, int event) {
  return WIFSTOPPED(status) && WSTOPSIG(status) == signal && (status >> 16) == event;
}

}  // namespace

// ---- threads

void StubThread::OnStatus(int status) {
  if (!WIFSTOPPED(status)) {
    stub_.OnThreadExit(*this);
    return;
  }
  if (exiting_) {
    (void)Continue(tid_, Resume::kHost);
    return;
  }
  if (!born_) {
    born_ = true;
    stub_.home().EndActive();
    birth_->done.Set();
    return;
  }
  if (running_) owner_->OnStop(status);
}

void StubThread::Run(const Registers& regs, Resume how) {
  bool same = have_known_;
  if (same) {
    Registers want = regs;
    want.orig_rax = known_.orig_rax;
    if (memcmp(&want, &known_, sizeof(want)) != 0) {
      want.rax = known_.rax;
      // After a system call mostly the result alone has changed. The results that would make the host restart a call of
      // its own (ERESTARTSYS …, if a signal is pending) need orig_rax changed too.
      const int64_t rax = static_cast<int64_t>(regs.rax);
      same = memcmp(&want, &known_, sizeof(want)) == 0 && (rax < -520 || rax > -510) &&
             PokeUser(tid_, offsetof(Registers, rax), regs.rax) == 0;
    }
  }
  if (!same) {
    Registers set = regs;
    set.orig_rax = kNoSystemCall;
    long r = SetRegisters(tid_, set);
    if (r < 0 && r != -ESRCH) {
      // A value that the host refuses (a selector, a base): the guest gets what is safe, and faults if it used the
      // other.
      SanitizeRegisters(set);
      (void)SetRegisters(tid_, set);
    }
  }
  have_known_ = false;
  pristine_ = false;
  running_ = true;
  how_ = how;
  stub_.home().BeginActive();
  stub_.home().NoteRunning(*this);
  RunOn();
}

// A failure means that the thread is being killed; its exit status ends the run.
void StubThread::RunOn() { (void)Continue(tid_, how_); }

bool StubThread::Fetch(Registers& regs) {
  if (GetRegisters(tid_, known_) < 0) return false;
  have_known_ = true;
  regs = known_;
  return true;
}

void StubThread::EndRun() {
  running_ = false;
  Tracer& home = stub_.home();
  home.EndActive();
  home.NoteStopped(*this);
  if (!home.binds()) return;
  const bool crowded = home.running() > 0;
  if (bound_ && !crowded) return;
  const base::MonotonicNs run = base::MonotonicNow() - started_;
  const bool misplaced = bound_ ? run > kLongCrowdedRunNs : run < (crowded ? kQuickCrowdedRunNs : kQuickRunNs);
  misplaced_runs_ = misplaced ? misplaced_runs_ + 1 : 0;
  if (misplaced_runs_ >= (bound_ ? kRunsToFree : kRunsToBind)) SetBound(!bound_);
}

void StubThread::SetBound(bool bound) {
  cpu_set_t cpus;
  if (bound) {
    CPU_ZERO(&cpus);
    CPU_SET(stub_.home().cpu(), &cpus);
  } else {
    cpus = stub_.home().platform().host_cpus();
  }
  (void)base::Host(SYS_sched_setaffinity, tid_, sizeof(cpus), &cpus);
  bound_ = bound;
  misplaced_runs_ = 0;
}

// ---- the process

Stub::~Stub() { home_.platform().commands().Give(page_index_); }

base::Result<void> Stub::Begin() {
  busy_ = true;
  home_.BeginActive();
  home_.Add(pid_, *this);
  home_.EndBirth();
  stopped_.Wait();
  if (dead_) return base::Errno(ESRCH);
  Registers regs{};
  if (GetRegisters(pid_, regs) < 0) return base::Errno(ESRCH);
  Registers start{};
  start.cs = regs.cs;
  start.ss = regs.ss;
  start.rflags = 0x202;
  start.orig_rax = kNoSystemCall;
  start.rip = StubAddress(runsc_stub_batch);
  if (long r = SetRegisters(pid_, start); r < 0) return base::Errno(static_cast<int>(-r));
  return {};
}

void Stub::EndBatch() {
  busy_ = false;
  home_.EndActive();
  stopped_.Set();
}

void Stub::OnStatus(int status) {
  if (!WIFSTOPPED(status)) {
    dead_ = true;
    // The kernel reports a leader after all of its threads; those that are left were never seen.
    while (!threads_.empty()) OnThreadExit(*threads_.back());
    if (busy_) EndBatch();
    if (killed_) home_.EndActive();
    home_.Forget(*this);  // may be the last reference
    return;
  }
  if (!busy_) return;
  // The int3 at the end of a batch, and not a signal from outside of the same number.
  bool expected = (status >> 16) == PTRACE_EVENT_STOP;
  if (born_) {
    expected = IsStop(status, SIGTRAP, 0);
    if (expected && GetRegisters(pid_, helper_) < 0) return;  // being killed
    expected = expected && helper_.rip == StubAddress(runsc_stub_batch_end);
  }
  if (!expected) {
    (void)Continue(pid_, Resume::kHost);
    return;
  }
  born_ = true;
  EndBatch();
}

Stub::Outcome Stub::Execute(std::span<const HostOp> ops) {
  base::FiberMutexLock lock(lock_);
  CommandPage& page = home_.platform().commands().page(page_index_);
  Outcome outcome{0, 0};
  while (outcome.done < ops.size()) {
    if (dead_ || killed_) return {outcome.done, -ESRCH};
    const size_t n = std::min(ops.size() - outcome.done, CommandPage::kOps);
    memcpy(page.ops, ops.data() + outcome.done, n * sizeof(HostOp));
    page.count = n;
    busy_ = true;
    stopped_ = Event();
    home_.BeginActive();
    (void)Continue(pid_, Resume::kHost);
    stopped_.Wait();
    if (dead_) return {outcome.done, -ESRCH};
    // The helper never runs guest code and its text cannot be written: its registers are its own.
    const size_t left = helper_.r13;
    CHECK(left <= n);
    outcome.done += n - left;
    outcome.result = static_cast<long>(helper_.rax);
    if (left != 0) break;
  }
  return outcome;
}

base::Result<StubThread*> Stub::TakeThread() {
  if (dead_ || killed_) return base::Errno(ESRCH);
  if (!spare_.empty()) {
    StubThread* thread = spare_.back();
    spare_.pop_back();
    return thread;
  }
  // CLONE_PTRACE: traced from birth without a stop of the helper for it.
  constexpr uint64_t kFlags =
      CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PTRACE;
  HostOp clone = {SYS_clone, {kFlags}, 0};
  base::RefPtr<Stub> keep(this);
  ++takers_;
  home_.BeginBirth();
  Outcome made = Execute({&clone, 1});
  if (made.done == 0) {
    --takers_;
    home_.EndBirth();
    return base::Errno(static_cast<int>(-made.result));
  }
  const pid_t tid = static_cast<pid_t>(made.result);
  threads_.push_back(std::make_unique<StubThread>(*this, tid));
  StubThread* thread = threads_.back().get();
  home_.BeginActive();
  StubThread::Birth birth;
  thread->birth_ = &birth;
  home_.Add(tid, *thread);
  home_.EndBirth();
  birth.done.Wait();
  --takers_;
  if (birth.died || killed_) return base::Errno(ESRCH);
  thread->birth_ = nullptr;
  (void)base::Host(SYS_setpriority, PRIO_PROCESS, tid, home_.platform().guest_nice());
  return thread;
}

void Stub::GiveThread(StubThread& thread) {
  thread.owner_ = nullptr;
  if (dead_ || killed_) return;
  if (!thread.bound()) thread.SetBound(true);
  if (spare_.size() < kSpareThreads) {
    spare_.push_back(&thread);
  } else {
    EndThread(thread);
  }
}

// Has the thread end itself: a signal would end the whole process.
void Stub::EndThread(StubThread& thread) {
  Registers regs{};
  if (GetRegisters(thread.tid_, regs) < 0) return;
  Registers end{};
  end.cs = 0x33;
  end.ss = 0x2b;
  end.rflags = 0x202;
  end.orig_rax = kNoSystemCall;
  end.rip = StubAddress(runsc_stub_exit);
  if (SetRegisters(thread.tid_, end) < 0) return;
  thread.exiting_ = true;
  home_.BeginActive();
  (void)Continue(thread.tid_, Resume::kHost);
}

bool Stub::DetachAll() {
  bool idle = takers_ == 0;
  for (auto& thread : threads_) {
    if (thread->running() || !thread->born_) {
      idle = false;
    } else if (thread->owner_ != nullptr) {
      thread->owner_->LeaveThread();
    }
  }
  return idle;
}

bool Stub::Clear() {
  while (spare_.size() > 1) {
    EndThread(*spare_.back());
    spare_.pop_back();
  }
  HostOp unmap = {SYS_munmap, {0, kGuestEnd}, 0};
  return Execute({&unmap, 1}).done == 1;
}

void Stub::Kill() {
  if (dead_ || killed_) return;
  killed_ = true;
  spare_.clear();
  home_.BeginActive();  // until the leader is reaped
  (void)base::Host(SYS_kill, pid_, SIGKILL);
}

void Stub::OnThreadExit(StubThread& thread) {
  home_.Remove(thread.tid_);
  if (!thread.born_ || thread.exiting_ || thread.running_) home_.EndActive();
  if (thread.running_) home_.NoteStopped(thread);
  if (!thread.born_) {
    thread.birth_->died = true;
    thread.birth_->done.Set();
  }
  ContextCore* owner = thread.owner_;
  spare_.erase(std::remove(spare_.begin(), spare_.end(), &thread), spare_.end());
  auto it = std::find_if(threads_.begin(), threads_.end(), [&](auto& t) { return t.get() == &thread; });
  CHECK(it != threads_.end());
  std::unique_ptr<StubThread> gone = std::move(*it);
  threads_.erase(it);
  if (owner) owner->OnThreadDead();
}

}  // namespace platform::ptrace
