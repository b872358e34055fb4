#include "platform/ptrace/tracer.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/ptrace/platform_impl.h"
#include "platform/ptrace/stub.h"

extern "C" long runsc_wait4(int pid, int* status, int options, const uint32_t* woken);

namespace platform::ptrace {
namespace {

constexpr uint32_t kAwake = 0, kWoken = 1, kInFutex = 2, kInWait4 = 3;
constexpr int kOptions = __WALL | __WNOTHREAD;
constexpr int kPollBurst = 64;
constexpr size_t kPoolStubs = 2;
constexpr int64_t kTickNs = 4'000'000;
constexpr int64_t kPoolIdleNs = 1'000'000'000;

}  // namespace

Tracer::Tracer(PtracePlatform& platform, int index) : platform_(platform) { platform_.Register(*this, index); }

// The executor's thread has ended, and the host has killed all of its tracees (PTRACE_O_EXITKILL). They are ours to
// reap.
Tracer::~Tracer() {
  platform_.Unregister(*this);
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  pool_.clear();
  for (auto& [stub, reference] : stubs_) {
    (void)base::Host(SYS_kill, stub->pid(), SIGKILL);
    (void)base::HostRetry(SYS_wait4, stub->pid(), nullptr, __WALL, nullptr);
  }
}

void Tracer::Attach(base::Executor& executor) {
  executor_ = &executor;
  host_tid_ = static_cast<pid_t>(base::RawSyscall(SYS_gettid));
  cpu_ = executor.cpu();
  binds_ = cpu_ >= 0 && CPU_COUNT(&platform_.host_cpus()) > 1;
  uint64_t kick = uint64_t{1} << (kKickSignal - 1);
  (void)base::Host(SYS_rt_sigprocmask, SIG_UNBLOCK, &kick, nullptr, 8);
  // The tick only has to end a wait: it is a kick.
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kKickSignal;
  event._sigev_un._tid = host_tid_;
  have_timer_ = base::Host(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer_).ok();
}

void Tracer::Enter() {
  if (!IsCurrent()) base::Fiber::MoveTo(*executor_);
}

// ---- waiting

void Tracer::Poll() {
  if (timer_period_ != 0 && base::MonotonicNow() >= next_tick_) Tick();
  for (int i = 0; i < kPollBurst && active_ > 0; ++i) {
    int status = 0;
    long tid = base::RawSyscall(SYS_wait4, -1, reinterpret_cast<long>(&status), kOptions | WNOHANG, 0);
    if (tid == -ECHILD) LoseAll();
    if (tid <= 0) return;
    Dispatch(static_cast<pid_t>(tid), status);
  }
}

void Tracer::Wait() {
  if (timer_period_ != 0 && base::MonotonicNow() >= next_tick_) Tick();
  uint32_t expected = kAwake;
  // With nothing that runs a futex does: a kick by signal costs four times as much.
  if (!word_.compare_exchange_strong(expected, active_ > 0 ? kInWait4 : kInFutex)) {
    word_.store(kAwake);
    return;
  }
  if (active_ > 0) {
    // Waiting for any of n tracees costs the host 40 ns for each, for the one that runs nothing. (Not for a helper: a
    // leader's death is told only after its threads', which somebody has to collect.)
    const bool one_thread = active_ == 1 && running_ != nullptr;
    int status = 0;
    long tid =
        runsc_wait4(one_thread ? running_->tid_ : -1, &status, kOptions, reinterpret_cast<const uint32_t*>(&word_));
    word_.exchange(kAwake);
    if (tid > 0) Dispatch(static_cast<pid_t>(tid), status);
    if (tid == -ECHILD) LoseAll();
    return;
  }
  // A wait with a timeout is not restarted after the tick's signal, one without is (man 7 signal). The tick has to be
  // seen here, for it ends itself when nothing runs.
  const timespec hour = {3600, 0};
  const timespec* timeout = timer_period_ != 0 ? &hour : nullptr;
  while (word_.load() == kInFutex) {
    long r = base::RawSyscall(SYS_futex, reinterpret_cast<long>(&word_), FUTEX_WAIT_PRIVATE, kInFutex,
                              reinterpret_cast<long>(timeout));
    if (r == -EINTR && timeout) break;
  }
  word_.exchange(kAwake);
}

void Tracer::Wake() {
  switch (word_.exchange(kWoken)) {
    case kInFutex:
      (void)base::Host(SYS_futex, &word_, FUTEX_WAKE_PRIVATE, 1);
      break;
    case kInWait4:
      (void)base::Host(SYS_tgkill, base::RawSyscall(SYS_getpid), host_tid_, kKickSignal);
      break;
    default:
      break;
  }
}

void Tracer::Add(pid_t tid, Tracee& tracee) {
  tracees_[tid] = &tracee;
  auto it = early_.find(tid);
  if (it == early_.end()) return;
  int status = it->second;
  early_.erase(it);
  Dispatch(tid, status);
}

void Tracer::Remove(pid_t tid) { tracees_.erase(tid); }

void Tracer::EndBirth() {
  if (--births_ == 0) early_.clear();
}

void Tracer::Dispatch(pid_t tid, int status) {
  auto it = tracees_.find(tid);
  if (it == tracees_.end()) {
    // A newborn of which its parent has not told yet; or the end of one that nobody waits for.
    if (births_ > 0) early_[tid] = status;
    return;
  }
  Tracee* tracee = it->second;
  if (!WIFSTOPPED(status)) tracees_.erase(it);
  tracee->OnStatus(status);
}

// The host says that we have no tracees: somebody else has reaped them.
void Tracer::LoseAll() {
  LOG_ERROR("%zu traced processes vanished", tracees_.size());
  while (!tracees_.empty()) Dispatch(tracees_.begin()->first, SIGKILL);
  active_ = 0;
}

// ---- stubs

base::Result<Zygote*> Tracer::EnsureZygote() {
  if (zygote_ && !zygote_->dead()) return zygote_.get();
  // One executor at a time: the second finds the first's to clone from.
  base::FiberMutexLock lock(platform_.adoption());
  if (zygote_ && !zygote_->dead()) return zygote_.get();
  has_zygote_.store(false, std::memory_order_relaxed);
  zygote_.reset();
  pid_t pid = TRY(platform_.TakeSleepingZygote());
  Enter();
  zygote_ = TRY(Zygote::Adopt(*this, pid));
  has_zygote_.store(true, std::memory_order_release);
  return zygote_.get();
}

base::Result<Stub*> Tracer::TakeStub() {
  while (!pool_.empty()) {
    Stub* stub = pool_.back();
    pool_.pop_back();
    if (stub->dead()) continue;
    stub->Ref();
    return stub;
  }
  Zygote* zygote = TRY(EnsureZygote());
  const uint32_t page = TRY(platform_.commands().Take());
  BeginBirth();
  auto pid = zygote->Spawn(Zygote::Child::kStub, platform_.commands(), page);
  if (!pid.ok()) {
    EndBirth();
    platform_.commands().Give(page);
    return pid.error();
  }
  auto stub = base::MakeRef<Stub>(*this, *pid, page);
  stubs_.emplace(stub.get(), stub);
  auto begun = stub->Begin();  // which ends the birth
  if (!begun.ok()) {
    stub->Kill();
    return base::Errno(EAGAIN);
  }
  return stub.release();
}

bool Tracer::Pool(Stub& stub) {
  if (pool_.size() >= kPoolStubs || stub.dead()) return false;
  pool_.push_back(&stub);
  pool_used_ = base::MonotonicNow();
  if (timer_period_ == 0) ArmTimer(kPoolIdleNs);
  return true;
}

void Tracer::Forget(Stub& stub) {
  pool_.erase(std::remove(pool_.begin(), pool_.end(), &stub), pool_.end());
  stubs_.erase(&stub);
}

void Tracer::TrimPool() {
  for (Stub* stub : std::exchange(pool_, {})) stub->Kill();
}

// ---- scheduling

void Tracer::NoteRunning(StubThread& thread) {
  thread.started_ = base::MonotonicNow();
  thread.prev_ = nullptr;
  thread.next_ = running_;
  if (running_) running_->prev_ = &thread;
  running_ = &thread;
  running_count_.fetch_add(1, std::memory_order_relaxed);
  if (binds_ && thread.bound_ && timer_period_ != kTickNs) ArmTimer(kTickNs);
}

void Tracer::NoteStopped(StubThread& thread) {
  (thread.prev_ ? thread.prev_->next_ : running_) = thread.next_;
  if (thread.next_) thread.next_->prev_ = thread.prev_;
  thread.next_ = thread.prev_ = nullptr;
  running_count_.fetch_sub(1, std::memory_order_relaxed);
}

void Tracer::ArmTimer(int64_t period_ns) {
  if (!have_timer_) return;
  itimerspec spec = {};
  spec.it_interval = spec.it_value = {period_ns / 1'000'000'000, period_ns % 1'000'000'000};
  (void)base::Host(SYS_timer_settime, timer_, 0, &spec, nullptr);
  timer_period_ = period_ns;
  next_tick_ = period_ns == 0 ? 0 : base::MonotonicNow() + period_ns;
}

void Tracer::Tick() {
  const base::MonotonicNs now = base::MonotonicNow();
  next_tick_ = now + timer_period_;
  bool bound_one_runs = false;
  for (StubThread* t = binds_ ? running_ : nullptr; t; t = t->next_) {
    if (!t->bound_) continue;
    if (now - t->started_ >= kTickNs) {
      t->SetBound(false);
    } else {
      bound_one_runs = true;
    }
  }
  if (!pool_.empty() && now - pool_used_ >= kPoolIdleNs) TrimPool();
  int64_t want = bound_one_runs ? kTickNs : pool_.empty() ? 0 : kPoolIdleNs;
  if (want != timer_period_) ArmTimer(want);
}

}  // namespace platform::ptrace
