#include "platform/systrap/guest_thread.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/executor.h"
#include "base/futex_unsafe.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/bell.h"
#include "platform/systrap/context.h"
#include "platform/systrap/entry.h"
#include "platform/systrap/platform_impl.h"
#include "platform/systrap/sched_slice.h"

namespace platform::systrap {
namespace {

// Where a guest thread runs. Bound to its executor's CPU a call costs a handoff of 4 µs and no other CPU helps; free, a
// call crosses CPUs twice (some 60 µs each way to an idle one) but the thread computes beside others. So: bound while
// its runs are short, free when it computes (the tick) or when several share the CPU and runs have become long for it.
// Where another executor sleeps, a thread that makes calls in quick succession goes to that one's CPU (spin_meter.h).
constexpr base::MonotonicNs kComputesNs = 3'000'000;      // the tick frees a bound thread
constexpr base::MonotonicNs kQuickRunNs = 500'000;        // bind a free thread that is alone
constexpr base::MonotonicNs kQuickCrowdedRunNs = 90'000;  // the same while others of the executor run
constexpr base::MonotonicNs kLongCrowdedRunNs = 120'000;  // free a bound thread
constexpr int kRunsToBind = 2, kRunsToFree = 4;           // in a row
// A guest thread that has had an interrupt pending for this much CPU time, or for this long without any, hides from it.
constexpr int64_t kDeafCpuNs = 100'000'000;
constexpr base::MonotonicNs kDeafNs = 10'000'000'000;

// Among threads of equal weight the host runs the one first whose slice would end first (EEVDF): a thread that makes
// calls asks for short ones and so runs soon after it is woken, beside any number that compute. It gets no more time
// for it. One that has computed since a check of its life gets long ones, until it makes a call: nothing else tells the
// two kinds apart where all have the same CPU. (20 or 60 ms make the worst waits of the others longer.)
constexpr int64_t kDefaultSlice = 0;
constexpr int64_t kLongSliceNs = 4'000'000;
constexpr int64_t kComputesCpuNs = 300'000;

// How often a stub yields before it sleeps. The executor is what runs next, or a thread that makes calls for it.
constexpr uint32_t kStubYields = 2;

// Who sleeps longer in a host call does so in the sentry, where it costs no tick and is seen to sleep.
constexpr base::MonotonicNs kShortSleepNs = 50'000'000;

constexpr uint64_t kTrapFlag = 0x100;

// Values of reaped_.
constexpr uint32_t kAwaited = 1, kReaped = 2;

}  // namespace

GuestThread::GuestThread(SystrapPlatform& platform, pid_t pid, uint32_t id, Slot& slot, ThreadState& state,
                         uint64_t slot_address, int cpu, Slot& first)
    : platform_(platform),
      pid_(pid),
      id_(id),
      frame_(slot_address),
      slot_(slot),
      state_(state),
      first_(first),
      cpu_(cpu) {
  base::MutexLock lock(mu_);
  InitLocked();
  SetSlice(kShortSliceNs);
}

void GuestThread::InitLocked() {
  InitFrameLocked();
  std::byte* slot = reinterpret_cast<std::byte*>(&slot_);
  InitXState(slot + frame_.fpstate);
  MarkXState(slot + frame_.fpstate);
  if (!frame_.has_call_frame()) return;
  InitXState(slot + frame_.call_fpstate);
  MarkXState(slot + frame_.call_fpstate);
}

void GuestThread::Renew() {
  base::MutexLock lock(mu_);
  if (dead()) return;
  // All but the words by which it waits, and the mask of signals, which an exec keeps.
  const uint64_t mask = slot_.mask.load(std::memory_order_relaxed);
  constexpr size_t kKept = offsetof(Slot, signal);
  memset(reinterpret_cast<std::byte*>(&slot_) + kKept, 0, kSlotBytes - kKept);
  slot_.mask.store(mask, std::memory_order_relaxed);
  InitLocked();
  slept_seen_ = 0;
  renewed_ = true;
}

HostFrame& GuestThread::frame() {
  std::byte* slot = reinterpret_cast<std::byte*>(&slot_);
  return *reinterpret_cast<HostFrame*>(slot + (at_call_ ? frame_.call_frame : frame_.frame));
}

std::byte* GuestThread::fpstate() {
  return reinterpret_cast<std::byte*>(&slot_) + (at_call_ ? frame_.call_fpstate : frame_.fpstate);
}

void GuestThread::InitFrameLocked() {
  InitFrame(frame(), frame_);
  frame().context.fpstate = frame_.slot_address + (at_call_ ? frame_.call_fpstate : frame_.fpstate);
}

void GuestThread::CopyXState(std::span<std::byte> area) {
  base::MutexLock lock(mu_);
  if (!dead()) {
    memcpy(area.data(), fpstate(), area.size());
  } else if (!last_xstate_.empty()) {
    memcpy(area.data(), last_xstate_.data(), area.size());
  } else {
    InitXState(area.data());
    return;
  }
  // The guest can have written it.
  if (!SanitizeXState(area.data(), static_cast<uint32_t>(area.size()))) InitXState(area.data());
}

void GuestThread::LoadXState(std::span<const std::byte> area) {
  base::MutexLock lock(mu_);
  if (dead()) return;
  std::byte* to = fpstate();
  memcpy(to, area.data(), area.size());
  MarkXState(to);
  // The guest may have been without any when it was stopped.
  if (!at_call_) frame().context.fpstate = frame_.slot_address + frame_.fpstate;
}

bool GuestThread::Run(Bell& bell, const Registers& regs, bool step, bool returns) {
  base::MutexLock lock(mu_);
  if (dead()) return false;
  const base::MonotonicNs now = base::MonotonicNow();
  Settle(bell, now);
  if (returns) {
    slot_.call.rax = regs.rax;
    slot_.call.rflags = regs.rflags;
  } else {
    LoadRegistersLocked(regs, step);
  }
  pristine_ = false;
  started_ = now;
  interrupted_ = 0;
  checked_cpu_ns_ = -1;
  bell_.store(&bell, std::memory_order_release);
  bell.Add(*this, now);
  WakeLocked(returns ? SLOT_IS_RETURNED : Resumption());
  return true;
}

void GuestThread::LoadRegistersLocked(const Registers& regs, bool step) {
  Registers safe = regs;
  SanitizeRegisters(safe);
  if (step) safe.rflags |= kTrapFlag;
  if (at_call_) InitFrameLocked();  // the host has not written it
  FromRegisters(safe, frame().context);
  slot_.fs_base = safe.fs_base;
  slot_.gs_base = safe.gs_base;
}

void GuestThread::SetAnswers(const CallAnswers& from) {
  base::MutexLock lock(mu_);
  if (dead()) return;
  Answers& to = state_.answers;
  to.valid.store(0, std::memory_order_relaxed);
  to.tid = from.tid, to.pid = from.pid, to.ppid = from.ppid;
  to.uid = from.uid, to.euid = from.euid, to.gid = from.gid, to.egid = from.egid;
  LongAnswers& more = state_.long_answers;
  more.pgid = from.pgid, more.sid = from.sid;
  more.affinity = from.affinity, more.affinity_bytes = from.affinity_bytes;
  std::copy(from.limits.begin(), from.limits.end(), more.limits);
  std::copy(from.uname.begin(), from.uname.end(), more.uname);
  to.valid.store(from.valid, std::memory_order_seq_cst);
}

void GuestThread::WithdrawAnswers() {
  base::MutexLock lock(mu_);
  // The slot of a dead one may be somebody else's.
  if (!dead()) state_.answers.valid.store(0, std::memory_order_seq_cst);
}

void GuestThread::AllowMaskChanges(bool allowed) {
  base::MutexLock lock(mu_);
  if (!dead()) state_.long_answers.mask_changes.store(allowed, std::memory_order_seq_cst);
}

void GuestThread::WakeLocked(uint32_t state) {
  slot_.state.store(state, std::memory_order_seq_cst);
  // All: other guest threads can sleep on the word too.
  if (slot_.waiting.load(std::memory_order_seq_cst) != 0) {
    (void)base::Host(SYS_futex, &slot_.state, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
}

uint32_t GuestThread::Resumption() const {
  return (at_call_ ? SLOT_IS_RELOADED : SLOT_IS_RESUMED) | (renewed_ ? SLOT_IS_RENEWED : 0);
}

void GuestThread::RunOn() {
  base::MutexLock lock(mu_);
  if (!dead()) WakeLocked(Resumption());
}

void GuestThread::RunOn(const Registers& regs, bool step) {
  base::MutexLock lock(mu_);
  if (dead()) return;
  LoadRegistersLocked(regs, step);
  WakeLocked(Resumption());
}

void GuestThread::IsBehindCall() {
  base::MutexLock lock(mu_);
  at_call_ = true;
}

void GuestThread::CheckEvent() {
  HostFrame copy;
  CallRegisters call;
  uint64_t fs_base, gs_base;
  int signal;
  {
    base::MutexLock lock(mu_);
    if (dead() || slot_.state.load(std::memory_order_acquire) != SLOT_IS_EVENT) return;
    signal = slot_.signal;
    memcpy(&call, &slot_.call, sizeof(call));
    at_call_ = signal == SLOT_SIGNAL_CALL;
    if (!at_call_) memcpy(&copy, &frame(), sizeof(copy));
    // Behind a call it has not begun yet.
    if (at_call_ || PlaceInStub(copy.context.rip) != StubPlace::kBehind) renewed_ = false;
    fs_base = slot_.fs_base;
    gs_base = slot_.gs_base;
  }
  if (signal == SLOT_SIGNAL_CALL) {
    owner_->OnCall(call, fs_base, gs_base);
  } else {
    owner_->OnEvent(copy, call, signal, fs_base, gs_base);
  }
}

void GuestThread::EndRun() {
  Bell& bell = *bell_.load(std::memory_order_relaxed);
  bell.Remove(*this);
  bell_.store(nullptr, std::memory_order_release);
  if (long_slice_) {
    long_slice_ = false;
    SetSlice(bound() ? kShortSliceNs : kDefaultSlice);
  }
  if (!bell.binds()) return;
  if (place_ == Place::kApart) return;
  const bool crowded = bell.running() > 0;
  if (bound() && !crowded) return;
  const base::MonotonicNs run = base::MonotonicNow() - started_;
  const bool misplaced = bound() ? run > kLongCrowdedRunNs : run < (crowded ? kQuickCrowdedRunNs : kQuickRunNs);
  misplaced_ = misplaced ? misplaced_ + 1 : 0;
  if (misplaced_ < (bound() ? kRunsToFree : kRunsToBind)) return;
  base::MutexLock lock(mu_);
  if (dead()) return;
  if (bound()) {
    MoveTo(Place::kFree, -1);
  } else {
    MoveTo(Place::kBeside, bell.cpu());
  }
}

void GuestThread::Settle(Bell& bell, base::MonotonicNs now) {
  // Not written without need: a stub that spins has the line.
  const auto doorbell = static_cast<uint32_t>(bell.write_fd());
  if (state_.doorbell != doorbell) state_.doorbell = doorbell;
  if (bell.cpu() < 0) return;
  const uint32_t changes = owner_->address_space_changes();
  const bool changed = std::exchange(changes_, changes) != changes;
  switch (place_) {
    case Place::kBeside:
      if (cpu_ != bell.cpu()) {
        MoveTo(Place::kBeside, bell.cpu());
      } else if (meter_.Round(now - started_, changed) && bell.may_spin(now)) {
        lender_ = platform_.Borrow(bell, id_, now);
        if (lender_ != nullptr) {
          MoveTo(Place::kApart, lender_->cpu());
        } else {
          meter_.Refused();
        }
      }
      break;
    case Place::kApart:
      if (slot_.waiting.load(std::memory_order_relaxed) != 0) meter_.Miss();
      meter_.RoundApart(now - started_, changed);
      if (lender_ == nullptr || cpu_ == bell.cpu() || !meter_.Pays() || !lender_->LendsTo(id_, now)) {
        MoveTo(Place::kBeside, bell.cpu());
      }
      break;
    case Place::kFree:
      break;
  }
  const uint32_t yields = place_ == Place::kBeside && bell.yields(now) ? kStubYields : 0;
  if (state_.yields.load(std::memory_order_relaxed) != yields) state_.yields.store(yields, std::memory_order_relaxed);
  if (place_ == Place::kApart || yields != 0) SetPolled(true);
}

void GuestThread::MoveTo(Place place, int cpu) {
  cpu_set_t cpus;
  if (place == Place::kFree) {
    cpus = platform_.host_cpus();
  } else {
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
  }
  (void)base::Host(SYS_sched_setaffinity, pid_, sizeof(cpus), &cpus);
  if ((place == Place::kFree) != (place_ == Place::kFree)) {
    SetSlice(place == Place::kFree ? kDefaultSlice : kShortSliceNs);
  }
  if (place_ == Place::kApart) {
    ReturnLease();
    meter_.CameBack();
  }
  if (place == Place::kApart) meter_.Went();
  state_.spin.store(place == Place::kApart ? platform_.stub_spin() : 0, std::memory_order_relaxed);
  place_ = place;
  cpu_ = cpu;
  misplaced_ = 0;
}

void GuestThread::ReturnLease() {
  if (Bell* lender = std::exchange(lender_, nullptr)) lender->TakeBack(id_);
}

void GuestThread::SetPolled(bool polled) {
  if (polled_ == polled) return;
  polled_ = polled;
  state_.polled.store(polled, std::memory_order_relaxed);
}

void GuestThread::BeginYield(base::MonotonicNs now) {
  if (yielded_.Stale(now)) yielded_.Begin(now, CpuTimeNs());
}

bool GuestThread::HasEvent() const { return slot_.state.load(std::memory_order_acquire) == SLOT_IS_EVENT; }

void GuestThread::SetSlice(int64_t slice_ns) { systrap::SetSlice(pid_, platform_.guest_nice(), slice_ns); }

int64_t GuestThread::CpuTimeNs() const {
  // The CPU-time clock of a process (include/linux/posix-timers.h: ~pid << 3, CPUCLOCK_SCHED).
  timespec ts = {};
  const clockid_t clock = static_cast<clockid_t>(~static_cast<unsigned>(pid_) << 3 | 2);
  if (!base::Host(SYS_clock_gettime, clock, &ts).ok()) return 0;
  return ts.tv_sec * 1'000'000'000 + ts.tv_nsec;
}

bool GuestThread::TakeSlept() {
  base::MutexLock lock(mu_);
  if (dead()) return false;
  slot_.sleeps.store(0, std::memory_order_relaxed);
  const uint32_t seen = std::exchange(slept_seen_, slot_.slept.load(std::memory_order_relaxed));
  return seen != slept_seen_;
}

void GuestThread::UncountWaiter(uint64_t address) {
  base::MutexLock lock(mu_);
  if (!dead()) first_.waiters[FutexHash(address)].fetch_sub(1, std::memory_order_relaxed);
}

bool GuestThread::SleepsOn(base::MonotonicNs now) {
  {
    base::MutexLock lock(mu_);
    if (dead() || slot_.sleeps.load(std::memory_order_relaxed) == 0) return false;
    const uint32_t sleep = slot_.slept.load(std::memory_order_relaxed);
    if (sleeps_ == 0 || sleep != sleep_) {
      sleep_ = sleep;
      sleeps_ = now;
    }
    if (now - sleeps_ < kShortSleepNs) return true;
    sleeps_ = 0;
  }
  Interrupt();
  return true;
}

void GuestThread::OnTick(base::MonotonicNs now, bool check_life) {
  CheckEvent();
  Bell* bell = bell_.load(std::memory_order_relaxed);
  if (bell == nullptr) return;  // that was it
  if (SleepsOn(now)) {
    // Neither computes nor is in the way.
  } else if (bell->binds() && bound() && now - started_ > kComputesNs) {
    base::MutexLock lock(mu_);
    if (!dead()) MoveTo(Place::kFree, -1);
  } else if (place_ == Place::kApart && platform_.Crowded()) {
    ReturnLease();  // it comes back with its next call
  }
  if (!check_life) return;
  siginfo_t info = {};
  auto gone = base::Host(SYS_waitid, P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr);
  if (dead() || !gone.ok() || info.si_pid == pid_ || !owner_->stub_is_alive()) {
    if (!dead()) LOG_WARNING("a guest thread has ended on the host; its task ends too");
    Kill();
    if (this->bell() != nullptr) OnDead();
    return;
  }
  if (!long_slice_) {
    const int64_t cpu_ns = CpuTimeNs();
    if (checked_cpu_ns_ < 0) {
      checked_cpu_ns_ = cpu_ns;
    } else if (cpu_ns - checked_cpu_ns_ > kComputesCpuNs) {
      long_slice_ = true;
      SetSlice(kLongSliceNs);
    }
  }
  if (!owner_->interrupted()) return;
  if (interrupted_ == 0) {
    interrupted_ = now;
    interrupted_cpu_ns_ = CpuTimeNs();
    return;
  }
  if (CpuTimeNs() - interrupted_cpu_ns_ < kDeafCpuNs && now - interrupted_ < kDeafNs) return;
  LOG_WARNING("a guest thread ignores an interrupt and is killed");
  Kill();
  if (this->bell() != nullptr) OnDead();
}

void GuestThread::OnDead() {
  Bell* bell = bell_.exchange(nullptr, std::memory_order_acq_rel);
  if (bell == nullptr) return;
  bell->Remove(*this);
  owner_->OnThreadDead();
}

void GuestThread::Interrupt() {
  // Not after it was reaped: its number may be another's.
  base::MutexLock lock(mu_);
  if (!dead()) (void)base::Host(SYS_tgkill, pid_, pid_, kInterruptSignal);
}

void GuestThread::SendKill() {
  base::MutexLock lock(mu_);
  if (!dead()) (void)base::Host(SYS_kill, pid_, SIGKILL);
}

void GuestThread::Kill() {
  Bell* bell = nullptr;
  bool first = false;
  {
    base::MutexLock lock(mu_);
    if (!dead()) {
      first = true;
      bell = bell_.load(std::memory_order_acquire);
      if (bell == nullptr && owner_ != nullptr) {
        const auto* from = fpstate();
        last_xstate_.assign(from, from + XStateSize());
      }
      (void)base::Host(SYS_kill, pid_, SIGKILL);
      dead_.store(true, std::memory_order_seq_cst);
    }
  }
  if (!first) {
    uint32_t none = 0;
    (void)reaped_.compare_exchange_strong(none, kAwaited, std::memory_order_acq_rel);
    while (reaped_.load(std::memory_order_acquire) != kReaped) base::FutexWait(reaped_, kAwaited);
    return;
  }
  (void)base::HostRetry(SYS_wait4, pid_, nullptr, __WALL, nullptr);
  if (reaped_.exchange(kReaped, std::memory_order_acq_rel) == kAwaited) base::FutexWake(&reaped_);
  if (bell == nullptr) return;
  bell->executor().Post([self = base::RefPtr<GuestThread>(this)] { self->OnDead(); });
}

void GuestThread::set_owner(SystrapContext* owner) {
  base::MutexLock lock(mu_);
  owner_ = owner;
}

}  // namespace platform::systrap
