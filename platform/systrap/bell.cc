#include "platform/systrap/bell.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>

#include "base/check.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/guest_thread.h"
#include "platform/systrap/platform_impl.h"

namespace platform::systrap {
namespace {

constexpr uint32_t kAwake = 0, kWoken = 1, kWaiting = 2;
// While guest threads run: often as long as one of them may have to be set free, then just often enough to see that one
// died.
constexpr int64_t kTickNs = 4'000'000;
constexpr int64_t kSlowTickNs = 50'000'000;
constexpr int64_t kLivenessNs = 100'000'000;

}  // namespace

Bell::~Bell() {
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  platform_.Unregister(*this);
}

void Bell::Attach(base::Executor& executor) {
  executor_ = &executor;
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
  have_timer_ = base::Host(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer_).ok();
  platform_.Register(*this, index_);
}

void Bell::Add(GuestThread& thread) {
  thread.running_index_ = running_.size();
  running_.push_back({thread.id(), &thread});
  running_count_.store(static_cast<int>(running_.size()), std::memory_order_relaxed);
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

void Bell::Wait() {
  uint32_t expected = kAwake;
  if (word_.compare_exchange_strong(expected, kWaiting, std::memory_order_seq_cst)) {
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
