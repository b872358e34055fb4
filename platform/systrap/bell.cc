#include "platform/systrap/bell.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/guest_thread.h"
#include "platform/systrap/platform_impl.h"
#include "platform/systrap/sched_slice.h"

namespace platform::systrap {
namespace {

// While guest threads run: often as long as one of them may have to be set free, then just often enough to see that one
// died.
constexpr int64_t kTickNs = 4'000'000;
constexpr int64_t kSlowTickNs = 50'000'000;
constexpr int64_t kLivenessNs = 100'000'000;
// About what it costs to wake a CPU that sleeps.
constexpr base::MonotonicNs kSpinNs = 50'000;
// A look at the clock after so many looks at the slots.
constexpr int kLooksPerClock = 16;
constexpr size_t kMaxSpunThreads = 4;
// Yields to so many guest threads, and so often in vain.
constexpr size_t kMaxYieldedTo = 16;
constexpr int kVainYields = 2;
// A yield that took longer than this, without an event, was not in vain: somebody computes.
constexpr base::MonotonicNs kSomebodyRanNs = 10'000;
// Somebody else had the CPU meanwhile: there are more runnable threads than CPUs, or the sandbox is throttled.
constexpr base::MonotonicNs kPreemptedNs = 1'000'000;
constexpr base::MonotonicNs kLeastPauseNs = 20'000'000, kLongestPauseNs = 2'000'000'000;
constexpr base::MonotonicNs kLeaseNs = 2'000'000;

inline void CpuRelax() { __builtin_ia32_pause(); }

}  // namespace

Bell::~Bell() {
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  platform_.Unregister(*this);
}

void Bell::Attach(base::Executor& executor) {
  if (executor_ == nullptr) executor_ = &executor;
  cpu_ = executor.cpu();
  binds_ = cpu_ >= 0 && CPU_COUNT(&platform_.host_cpus()) > 1;
  host_tid_ = static_cast<pid_t>(*base::Host(SYS_gettid));
  uint64_t mask = uint64_t{1} << (kTickSignal - 1);
  (void)base::Host(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, nullptr, 8);
  struct sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kTickSignal;
  event.sigev_value.sival_int = write_fd_;
  event._sigev_un._tid = host_tid_;
  SetSlice(0, platform_.executor_nice(), platform_.executor_slice_ns());
  // A thread that is stuck may not take signals.
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  have_timer_ = base::Host(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer_).ok();
  if (const int64_t period_ns = std::exchange(period_ns_, 0); period_ns != 0) ArmTimer(period_ns);
  platform_.Register(*this, index_);
}

void Bell::Add(GuestThread& thread, base::MonotonicNs now) {
  added_ = now;
  thread.running_index_ = running_.size();
  running_.push_back({thread.id(), &thread});
  running_count_.store(static_cast<int>(running_.size()), std::memory_order_relaxed);
  if (borrower_.load(std::memory_order_relaxed) != kNobody) borrower_.store(kNobody, std::memory_order_relaxed);
  if (period_ns_ == 0 || (period_ns_ == kSlowTickNs && thread.bound() && binds_)) {
    ArmTimer(thread.bound() && binds_ ? kTickNs : kSlowTickNs);
  }
}

void Bell::Remove(GuestThread& thread) {
  const size_t at = thread.running_index_;
  CHECK(at < running_.size() && running_[at].thread == &thread);
  running_[at] = running_.back();
  running_[at].thread->running_index_ = at;
  running_.pop_back();
  running_count_.store(static_cast<int>(running_.size()), std::memory_order_relaxed);
}

void Bell::ArmTimer(int64_t period_ns) {
  if (!have_timer_ || period_ns_ == period_ns) return;
  struct itimerspec spec = {};
  spec.it_interval.tv_nsec = period_ns;
  spec.it_value.tv_nsec = period_ns;
  (void)base::Host(SYS_timer_settime, timer_, 0, &spec, nullptr);
  period_ns_ = period_ns;
  ticks_ = 0;
}

// An entry that leaves is replaced by the last one: from the end, so that all are seen.
void Bell::Scan() {
  for (size_t i = running_.size(); i-- > 0;) {
    if (i < running_.size()) running_[i].thread->CheckEvent();
  }
}

void Bell::Heard(const uint32_t* ids, size_t count) {
  bool tick = false;
  for (size_t i = 0; i < count; ++i) {
    if (ids[i] == kTickId) {
      tick = true;
      continue;
    }
    // A hint from the guest: whether there is an event is in the slot, and whose it is we know.
    auto it = std::find_if(running_.begin(), running_.end(), [&](const Entry& e) { return e.id == ids[i]; });
    if (it != running_.end()) it->thread->CheckEvent();
  }
  if (tick) Tick();
}

void Bell::Tick() {
  ++ticks_;
  if (running_.empty()) {
    ArmTimer(0);
    return;
  }
  const bool check_life = ticks_ * period_ns_ >= kLivenessNs;
  if (check_life) ticks_ = 0;
  const base::MonotonicNs now = base::MonotonicNow();
  bool bound = false;
  for (size_t i = running_.size(); i-- > 0;) {
    if (i >= running_.size()) continue;
    GuestThread& thread = *running_[i].thread;
    thread.OnTick(now, check_life);
    bound = bound || thread.bound();
  }
  ArmTimer(bound && binds_ ? kTickNs : kSlowTickNs);
}

void Bell::Poll() { Scan(); }

bool Bell::MaySpin() const {
  if (running_.empty() || running_.size() > kMaxSpunThreads) return false;
  // One that is beside could not run.
  return std::all_of(running_.begin(), running_.end(), [](const Entry& e) { return e.thread->apart(); });
}

bool Bell::Spin() {
  base::MonotonicNs last = 0, end = 0;
  for (Entry& e : running_) e.thread->SetPolled(true);
  for (;;) {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (word_.load(std::memory_order_relaxed) != kAwake) return true;
      for (Entry& e : running_) {
        if (!e.thread->HasEvent()) continue;
        e.thread->meter().Hit();
        e.thread->CheckEvent();
        return true;
      }
      CpuRelax();
    }
    const base::MonotonicNs now = base::MonotonicNow();
    if (last == 0) {
      end = now + kSpinNs;
    } else if (now - last > kPreemptedNs) {
      // Soon after the last time: twice as long as then.
      const bool again = now - no_spin_until_ < pause_ns_;
      pause_ns_ = again ? std::min(2 * pause_ns_, kLongestPauseNs) : kLeastPauseNs;
      no_spin_until_ = now + pause_ns_;
      for (Entry& e : running_) e.thread->meter().Stop();
    }
    if (now > end) return false;
    last = now;
  }
}

bool Bell::MayYield(base::MonotonicNs now) const {
  if (running_.empty() || running_.size() > kMaxYieldedTo || !yields(now)) return false;
  // One that is free computes, and comes with an event now and then: it can wake an executor that sleeps, not one that
  // waits for its turn.
  return std::all_of(running_.begin(), running_.end(), [](const Entry& e) { return e.thread->bound(); });
}

bool Bell::HasCome() {
  bool come = word_.load(std::memory_order_relaxed) != kAwake;
  for (size_t i = running_.size(); i-- > 0;) {
    if (i >= running_.size() || !running_[i].thread->HasEvent()) continue;
    running_[i].thread->CheckEvent();
    come = true;
  }
  return come;
}

bool Bell::Yield(base::MonotonicNs now, bool exact) {
  for (Entry& e : running_) {
    e.thread->SetPolled(true);
    e.thread->BeginYield(now);
  }
  if (HasCome()) return true;
  for (int vain = 0; vain < kVainYields; ++vain) {
    (void)base::Host(SYS_sched_yield);
    const base::MonotonicNs took = base::MonotonicNow() - now;
    now += took;
    if (took > YieldedTime::kLongNs) {
      const bool own = std::any_of(running_.begin(), running_.end(),
                                   [&](const Entry& e) { return e.thread->beside() && e.thread->UsedYield(took); });
      if (exact && !own) yield_meter_.Stop(now);
      exactly_ = !own;
    }
    exact = true;
    if (HasCome()) {
      yield_meter_.Hit();
      return true;
    }
    if (took > kSomebodyRanNs) return false;
  }
  yield_meter_.Miss(now);
  return false;
}

bool Bell::Unpoll() {
  bool any = false;
  for (Entry& e : running_) {
    if (e.thread->apart()) e.thread->meter().Miss();
    any = any || e.thread->polled();
    e.thread->SetPolled(false);
  }
  if (!any) return false;
  // The stub writes its state, then reads whether it is polled: one of the two sees the other.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const size_t before = running_.size();
  Scan();
  return running_.size() != before;
}

bool Bell::lends(base::MonotonicNs now) const {
  return borrower_.load(std::memory_order_relaxed) != kNobody &&
         now - lease_used_.load(std::memory_order_relaxed) < kLeaseNs;
}

bool Bell::Lend(uint32_t borrower, base::MonotonicNs now) {
  uint32_t before = borrower_.load(std::memory_order_relaxed);
  if (cpu_ < 0 || running() != 0 || !asleep() || lends(now)) return false;
  lease_used_.store(now, std::memory_order_relaxed);
  return borrower_.compare_exchange_strong(before, borrower, std::memory_order_relaxed);
}

bool Bell::LendsTo(uint32_t borrower, base::MonotonicNs now) {
  if (borrower_.load(std::memory_order_relaxed) != borrower) return false;
  lease_used_.store(now, std::memory_order_relaxed);
  return true;
}

void Bell::TakeBack(uint32_t borrower) {
  borrower_.compare_exchange_strong(borrower, kNobody, std::memory_order_relaxed);
}

void Bell::Wait() {
  bool come = false;
  if (MaySpin()) {
    come = Spin();
  } else if (!running_.empty()) {
    // A look at the clock less: it mostly waits right after it has started one.
    const bool exact = exactly_ || added_ == 0;
    const base::MonotonicNs now = exact ? base::MonotonicNow() : added_;
    if (MayYield(now)) come = Yield(now, exact);
  }
  added_ = 0;
  if (come) {
    word_.store(kAwake, std::memory_order_relaxed);
    return;
  }
  uint32_t expected = kAwake;
  if (word_.compare_exchange_strong(expected, kWaiting, std::memory_order_seq_cst)) {
    if (Unpoll()) {
      word_.store(kAwake, std::memory_order_relaxed);
      return;
    }
    uint32_t ids[64];
    auto n = base::Host(SYS_read, read_fd_, ids, sizeof(ids));
    word_.store(kAwake, std::memory_order_relaxed);
    if (n.ok()) {
      Heard(ids, static_cast<size_t>(*n) / sizeof(ids[0]));
      // The pipe may have been full, and a ring lost.
      if (static_cast<size_t>(*n) == sizeof(ids)) Scan();
    }
    return;
  }
  word_.store(kAwake, std::memory_order_relaxed);
}

void Bell::Wake() {
  if (word_.exchange(kWoken, std::memory_order_seq_cst) != kWaiting) return;
  const uint32_t id = kNobodyId;
  (void)base::Host(SYS_write, write_fd_, &id, sizeof(id));
}

}  // namespace platform::systrap
