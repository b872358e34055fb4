#include "base/executor.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/charged_memory.h"
#include "base/check.h"
#include "base/executor_internal.h"
#include "base/futex_unsafe.h"
#include "base/logging.h"
#include "base/rseq_unsafe.h"
#include "base/syscall_unsafe.h"
#include "base/worker_pool.h"

namespace base {
namespace {

// A fiber that has waited this long may be taken over by an executor that has nothing to do, and is let in by a fiber
// at its guest boundary. Earlier than that, moving to a cold CPU costs more than it gains (DESIGN.md §3).
constexpr MonotonicNs kLongWait = 200'000;
// How far into another's queue a thief looks.
constexpr int kStealScan = 32;
// A strategy of a platform is polled at least this often while fibers keep coming.
constexpr int kFibersPerPoll = 8;
constexpr MonotonicNs kPollInterval = 20'000;
// What is charged for a stack: few fibers touch more than this part of it.
constexpr size_t kStackUse = 8;

thread_local Executor::Carrier* current_carrier = nullptr;

Executor::Carrier* CurrentCarrier() { return Executor::Carrier::Current(); }

// Sleeps on a futex word.
class FutexIdle final : public IdleStrategy {
 public:
  void Wait() override {
    uint32_t expected = kNone;
    if (word_.compare_exchange_strong(expected, kSleeping, std::memory_order_acq_rel)) {
      while (word_.load(std::memory_order_acquire) == kSleeping) FutexWait(word_, kSleeping);
    }
    word_.store(kNone, std::memory_order_relaxed);
  }
  bool MayMove() const override { return true; }
  void Wake() override {
    if (word_.exchange(kWoken, std::memory_order_acq_rel) == kSleeping) FutexWake(&word_, 1);
  }

 private:
  static constexpr uint32_t kNone = 0, kWoken = 1, kSleeping = 2;
  std::atomic<uint32_t> word_{kNone};
};

// The CPUs of sched_getaffinity.
std::vector<int> AllowedCpus() {
  std::vector<unsigned long> mask(1024 / 64);
  for (;;) {
    long bytes = RawSyscall(SYS_sched_getaffinity, 0, ToRawArg(mask.size() * sizeof(long)), ToRawArg(mask.data()));
    if (bytes == -EINVAL && mask.size() < 65536 / 64) {  // the kernel's mask is larger (man 2 sched_setaffinity)
      mask.resize(mask.size() * 2);
      continue;
    }
    CHECK(bytes > 0);
    break;
  }
  std::vector<int> cpus;
  for (size_t i = 0; i < mask.size() * 64; ++i) {
    if (mask[i / 64] >> (i % 64) & 1) cpus.push_back(static_cast<int>(i));
  }
  return cpus;
}

bool BindToCpu(int cpu) {
  std::vector<unsigned long> mask(cpu / 64 + 1);
  mask[cpu / 64] |= 1ul << (cpu % 64);
  return RawSyscall(SYS_sched_setaffinity, 0, ToRawArg(mask.size() * sizeof(long)), ToRawArg(mask.data())) == 0;
}

// A stack for the fault handlers, so that the overflow of a fiber's stack is reported instead of killing without a
// word.
class AlternateSignalStack {
 public:
  // The C library's mmap and munmap, so that ThreadSanitizer sees them.
  AlternateSignalStack() : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    CHECK(memory_ != MAP_FAILED);
    stack_t stack{.ss_sp = memory_, .ss_flags = 0, .ss_size = kBytes};
    RawSyscall(SYS_sigaltstack, ToRawArg(&stack), 0);
  }
  ~AlternateSignalStack() {
    stack_t stack{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    RawSyscall(SYS_sigaltstack, ToRawArg(&stack), 0);
    CHECK(munmap(memory_, kBytes) == 0);
  }
  AlternateSignalStack(const AlternateSignalStack&) = delete;

 private:
  // AVX-512 and AMX state alone can be 11 KiB of signal frame.
  static constexpr size_t kBytes = 64 << 10;
  void* memory_;
};

}  // namespace

// ---- Executor ----

// Not inlined, and opaque: its result must not be kept across a switch.
Executor::Carrier* Executor::Carrier::Current() {
  asm volatile("");
  return current_carrier;
}

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) { impl_->self = this; }
Executor::~Executor() = default;

Executor* Executor::Current() {
  Carrier* carrier = CurrentCarrier();
  return carrier != nullptr ? carrier->executor.self : nullptr;
}

int Executor::index() const { return impl_->index; }
int Executor::cpu() const { return impl_->cpu.load(std::memory_order_relaxed); }
int Executor::host_tid() const { return impl_->host_tid.load(std::memory_order_relaxed); }
size_t Executor::queue_length() const { return impl_->queue_length.load(std::memory_order_relaxed); }
Scheduler& Executor::scheduler() const { return impl_->scheduler; }
void Executor::Post(std::function<void()> work) { impl_->Post(std::move(work)); }
IdleStrategy& Executor::idle() const { return *impl_->idle; }

Fiber* Fiber::Current() {
  Executor::Carrier* carrier = CurrentCarrier();
  return carrier != nullptr ? carrier->current : nullptr;
}

bool IsFiberStackOverflow(uint64_t fault_address) {
  Fiber* fiber = Fiber::Current();
  return fiber != nullptr && Executor::Impl::StackOf(*fiber).InGuard(fault_address);
}

Executor::Impl::Impl(Scheduler& scheduler, Scheduler::Shared& shared, int index, int cpu,
                     std::unique_ptr<IdleStrategy> idle, bool default_idle, MonotonicNs replace_after_ns)
    : scheduler(scheduler),
      shared(shared),
      index(index),
      cpu(cpu),
      idle(std::move(idle)),
      default_idle(default_idle),
      replace_after_ns(this->idle->MayMove() ? replace_after_ns : 0) {}

// While another thread adds work. What it adds may run, end the last fiber and so let the scheduler be destroyed while
// that thread is still waking the executor: the destructor waits for visitors, and for the executor's own threads.
class Executor::Impl::Visit {
 public:
  explicit Visit(Impl& impl) : impl_(IsOwn(impl) ? nullptr : &impl) {
    if (impl_ != nullptr) impl_->visitors.fetch_add(1, std::memory_order_relaxed);
  }
  ~Visit() {
    if (impl_ != nullptr) impl_->visitors.fetch_sub(1, std::memory_order_release);
  }
  Visit(const Visit&) = delete;

 private:
  static bool IsOwn(const Impl& impl) {
    Carrier* carrier = CurrentCarrier();
    return carrier != nullptr && &carrier->executor == &impl;
  }
  Impl* impl_;
};

const FiberStack& Executor::Impl::StackOf(const Fiber& fiber) { return fiber.impl_->stack; }

void Executor::Impl::Start() {
  if (replace_after_ns != 0) watch = std::make_unique<Timer>(scheduler.reactor(), [this] { OnWatch(); });
  {
    MutexLock lock(mu);
    carriers.push_back(std::make_unique<Carrier>(*this));
    active = carriers.back().get();
    CHECK(active->Start(Carrier::kGo));
  }
  // host_tid and cpu are valid when the Scheduler's constructor returns.
  while (started.load(std::memory_order_acquire) == 0) FutexWait(started, 0);
}

void Executor::Impl::Enqueue(Fiber& fiber, bool stealable) {
  Visit visit(*this);
  bool wake = false, crowded = false;
  {
    MutexLock lock(mu);
    Fiber::Impl& f = *fiber.impl_;
    f.next = nullptr;
    f.stealable = stealable && !f.pinned.load(std::memory_order_relaxed);
    f.queued_at = MonotonicNow();
    if (f.stealable) ++this->stealable;
    crowded = this->stealable > 0 && head != nullptr && f.queued_at - head->impl_->queued_at > kLongWait;
    (tail != nullptr ? tail->impl_->next : head) = &fiber;
    tail = &fiber;
    // With `busy` in RunFiber: each side writes its own, then reads the other's, so that one of them sets the watch.
    queue_length.fetch_add(1, std::memory_order_seq_cst);
    if (replace_after_ns != 0 && busy.load(std::memory_order_seq_cst)) WatchLocked();
    wake = std::exchange(is_idle, false);
  }
  if (wake) idle->Wake();
  if (crowded && shared.idle_executors.load(std::memory_order_relaxed) > 0) WakeAThief();
}

void Executor::Impl::Post(std::function<void()> work) {
  Visit visit(*this);
  bool wake = false;
  {
    MutexLock lock(mu);
    posted.push_back(std::move(work));
    has_posted.store(true, std::memory_order_seq_cst);
    if (replace_after_ns != 0 && busy.load(std::memory_order_seq_cst)) WatchLocked();
    wake = std::exchange(is_idle, false);
  }
  if (wake) idle->Wake();
}

void Executor::Impl::Stop() {
  bool wake = false;
  {
    MutexLock lock(mu);
    stop = true;
    wake = std::exchange(is_idle, false);
    for (Carrier* carrier : stand_bys) carrier->GiveTurn(Carrier::kEnd);
    stand_bys.clear();
  }
  if (wake) idle->Wake();
}

void Executor::Impl::Join() {
  watch.reset();  // nobody sets it any more: that needs the mutex and looks at `stop`
  std::list<std::unique_ptr<Carrier>> all;
  {
    MutexLock lock(mu);
    all.swap(carriers);
  }
  for (auto& carrier : all) carrier->thread.Join();
}

bool Executor::Impl::Nudge() {
  {
    MutexLock lock(mu);
    if (!std::exchange(is_idle, false)) return false;
  }
  idle->Wake();
  return true;
}

// Called only while fibers have to wait, so that an idle sandbox wakes nobody.
void Executor::Impl::WakeAThief() {
  const auto& executors = scheduler.executors();
  for (size_t i = 1; i < executors.size(); ++i) {
    if (executors[(index + i) % executors.size()]->impl().Nudge()) return;
  }
}

Fiber* Executor::Impl::Pop() {
  if (queue_length.load(std::memory_order_relaxed) == 0) return nullptr;
  MutexLock lock(mu);
  Fiber* fiber = head;
  if (fiber == nullptr) return nullptr;
  head = fiber->impl_->next;
  if (head == nullptr) tail = nullptr;
  if (fiber->impl_->stealable) --stealable;
  queue_length.fetch_sub(1, std::memory_order_relaxed);
  return fiber;
}

bool Executor::Impl::ShouldYield() {
  if (CurrentCarrier()->replaced()) return true;  // two threads share what is one CPU's
  if (queue_length.load(std::memory_order_relaxed) == 0) return has_posted.load(std::memory_order_relaxed);
  MonotonicNs now = MonotonicNow();
  MutexLock lock(mu);
  return head != nullptr && now - head->impl_->queued_at > kLongWait;
}

Fiber* Executor::Impl::GiveAway(MonotonicNs now) {
  MutexLock lock(mu);
  Fiber* before = nullptr;
  int scanned = 0;
  for (Fiber* fiber = head; fiber != nullptr && scanned < kStealScan; before = fiber, fiber = fiber->impl_->next) {
    ++scanned;
    Fiber::Impl& f = *fiber->impl_;
    if (now - f.queued_at <= kLongWait) return nullptr;  // the queue is in order of time
    // Pinned after it was queued, perhaps.
    if (!f.stealable || f.pinned.load(std::memory_order_relaxed)) continue;
    --stealable;
    (before != nullptr ? before->impl_->next : head) = f.next;
    if (tail == fiber) tail = before;
    queue_length.fetch_sub(1, std::memory_order_relaxed);
    return fiber;
  }
  return nullptr;
}

Fiber* Executor::Impl::Steal() {
  const auto& executors = scheduler.executors();
  for (size_t i = 1; i < executors.size(); ++i) {
    Impl& victim = executors[(index + i) % executors.size()]->impl();
    if (victim.queue_length.load(std::memory_order_relaxed) == 0) continue;
    Fiber* fiber = victim.GiveAway(MonotonicNow());
    if (fiber == nullptr) continue;
    fiber->impl_->executor.store(self, std::memory_order_relaxed);
    return fiber;
  }
  return nullptr;
}

void Executor::Impl::RunPosted() {
  if (!has_posted.load(std::memory_order_relaxed)) return;
  std::vector<std::function<void()>> work;
  {
    MutexLock lock(mu);
    work.swap(posted);
    has_posted.store(false, std::memory_order_relaxed);
  }
  for (auto& function : work) function();
}

void Executor::Impl::MaybePoll() {
  // With an empty queue the loop comes to wait, and polls then.
  if (default_idle || queue_length.load(std::memory_order_relaxed) == 0) return;
  MonotonicNs now = MonotonicNow();
  if (++fibers_since_poll < kFibersPerPoll && now - last_poll < kPollInterval) return;
  fibers_since_poll = 0;
  last_poll = now;
  idle->Poll();
}

bool Executor::Impl::EnterIdle() {
  MutexLock lock(mu);
  if (head != nullptr || !posted.empty() || stop) return false;
  is_idle = true;
  return true;
}

void Executor::Carrier::Main() {
  current_carrier = this;
  AlternateSignalStack alternate_stack;
  LeaveRestartableSequences();
  tracker.InitHostThread();
  for (;;) {
    while (turn.load(std::memory_order_acquire) == kStandBy) FutexWait(turn, kStandBy);
    if (turn.load(std::memory_order_acquire) == kEnd) break;
    if (executor.Loop(*this) || !executor.StandBy(*this)) break;
  }
  current_carrier = nullptr;
}

bool Executor::Impl::Loop(Carrier& carrier) {
  int wanted_cpu = cpu.load(std::memory_order_relaxed);
  if (wanted_cpu >= 0 && !BindToCpu(wanted_cpu)) cpu.store(-1, std::memory_order_relaxed);
  host_tid.store(static_cast<int>(RawSyscall(SYS_gettid)), std::memory_order_relaxed);
  busy.store(false, std::memory_order_relaxed);
  started.store(1, std::memory_order_release);
  FutexWake(&started);
  // Other executors' threads may still be starting, but the vector that Steal looks at is complete by now.
  idle->Attach(*self);
  for (;;) {
    RunPosted();
    Fiber* fiber = Pop();
    if (fiber == nullptr) fiber = Steal();
    if (fiber != nullptr) {
      if (!RunFiber(carrier, *fiber)) return false;
      MaybePoll();
      continue;
    }
    if (EnterIdle()) {
      shared.idle_executors.fetch_add(1, std::memory_order_relaxed);
      idle->Wait();
      shared.idle_executors.fetch_sub(1, std::memory_order_relaxed);
      MutexLock lock(mu);
      is_idle = false;
      continue;
    }
    MutexLock lock(mu);
    if (stop && head == nullptr && posted.empty()) return true;
  }
}

bool Executor::Impl::RunFiber(Carrier& carrier, Fiber& fiber) {
  Fiber::Impl& f = *fiber.impl_;
  carrier.current = &fiber;
  uint64_t run = carrier.run.load(std::memory_order_relaxed) + 1;
  if (replace_after_ns == 0) {
    busy.store(true, std::memory_order_relaxed);
  } else {
    carrier.run.store(run, std::memory_order_relaxed);
    busy.store(true, std::memory_order_seq_cst);
    const bool others_wait = queue_length.load(std::memory_order_seq_cst) != 0 ||
                             has_posted.load(std::memory_order_seq_cst) || idle->HasWork();
    if (others_wait && !watched.load(std::memory_order_relaxed)) Watch();
  }
  carrier.tracker.Leave(f.tracker);
  auto transfer = boost::context::detail::jump_fcontext(f.context, &carrier);
  carrier.tracker.Arrive(f.tracker);
  f.context = transfer.fctx;
  carrier.current = nullptr;
  Settle(carrier, fiber);
  if (replace_after_ns != 0) {
    // Not from here on, if it was replaced, but somebody else is in the loop.
    run = carrier.run.load(std::memory_order_relaxed);
    if (run == Carrier::kReplaced || !carrier.run.compare_exchange_strong(run, run + 1, std::memory_order_acq_rel)) {
      return false;
    }
  }
  busy.store(false, std::memory_order_relaxed);
  return true;
}

// Does what the fiber has switched away for.
void Executor::Impl::Settle(Carrier& carrier, Fiber& fiber) {
  Fiber::Impl& f = *fiber.impl_;
  switch (carrier.after) {
    case After::kPark: {
      uint32_t state = f.state.load(std::memory_order_relaxed);
      do {
        if ((state & (Fiber::Impl::kPermit | Fiber::Impl::kTimeout)) != 0) {
          // Woken on its way out. To the end of the queue, so that fibers that wake each other do not starve the rest.
          Enqueue(fiber, false);
          return;
        }
        // Release: whoever sees kParked sees the saved context.
      } while (!f.state.compare_exchange_weak(state, state | Fiber::Impl::kParked, std::memory_order_acq_rel));
      return;  // from here on the fiber belongs to whoever wakes it
    }
    case After::kYield:
      Enqueue(fiber, true);
      return;
    case After::kMove:
      f.executor.store(carrier.move_target, std::memory_order_relaxed);
      carrier.move_target->impl().Enqueue(fiber, false);
      return;
    case After::kFinish:
      Finish(fiber);
      return;
  }
}

void Executor::Impl::SwitchOut(Fiber& fiber, After after, Executor* target) {
  Fiber::Impl& f = *fiber.impl_;
  Carrier* carrier = CurrentCarrier();
  CHECK(carrier != nullptr && carrier->current == &fiber);
  carrier->after = after;
  carrier->move_target = target;
  f.tracker.Leave(carrier->tracker, after == After::kFinish);
  auto transfer = boost::context::detail::jump_fcontext(carrier->loop_context, nullptr);
  // Perhaps another host thread by now: only what came with the switch is valid.
  carrier = static_cast<Carrier*>(transfer.data);
  f.tracker.Arrive(carrier->tracker);
  carrier->loop_context = transfer.fctx;
}

void Executor::Impl::FiberMain(boost::context::detail::transfer_t transfer) {
  Carrier* carrier = static_cast<Carrier*>(transfer.data);
  Fiber& fiber = *carrier->current;
  Fiber::Impl& f = *fiber.impl_;
  f.tracker.Arrive(carrier->tracker);
  carrier->loop_context = transfer.fctx;
  f.body();
  // What the body owns dies on the fiber, where destructors may park; and before anybody is told that it is finished.
  f.body = nullptr;
  f.timer.reset();
  SwitchOut(fiber, After::kFinish);
  __builtin_unreachable();
}

void Executor::Impl::Prepare(Fiber& fiber, size_t stack_bytes) {
  Fiber::Impl& f = *fiber.impl_;
  f.stack = shared.stacks.Take(stack_bytes);
  ChargedMemory::Charge(f.stack.bytes() / kStackUse);
  f.tracker.InitFiber(f.stack.bottom(), f.stack.bytes());
  f.context = boost::context::detail::make_fcontext(f.stack.top(), f.stack.bytes(), &FiberMain);
  shared.live_fibers.fetch_add(1, std::memory_order_relaxed);
}

void Executor::Impl::Finish(Fiber& fiber) {
  Fiber::Impl& f = *fiber.impl_;
  f.tracker.DestroyFiber();
  ChargedMemory::Uncharge(f.stack.bytes() / kStackUse);
  shared.stacks.Give(f.stack);
  f.stack = FiberStack();
  fiber.finished_.store(true, std::memory_order_seq_cst);
  f.done.store(1, std::memory_order_release);
  FutexWake(&f.done);
  f.joiners.Notify(kEventIn);
  fiber.Unref();  // the one that Spawn made for the running body
  // Last, for the scheduler's destructor waits for it; the executors outlive the wait.
  if (shared.live_fibers.fetch_sub(1, std::memory_order_acq_rel) == 1) FutexWake(&shared.live_fibers);
}

// ---- Scheduler ----

Scheduler::Scheduler(Options options) : shared_(std::make_unique<Shared>()) {
  std::vector<int> cpus = AllowedCpus();
  const auto make_idle = std::move(options.idle);
  const MonotonicNs replace_after = options.replace_stuck_after_ns;
  int count = options.executors > 0 ? options.executors : static_cast<int>(cpus.size());
  reactor_ = std::make_unique<Reactor>();
  workers_ = std::make_unique<WorkerPool>(options.max_workers);
  for (int i = 0; i < count; ++i) {
    std::unique_ptr<IdleStrategy> idle = make_idle ? make_idle(i) : nullptr;
    bool default_idle = idle == nullptr;
    if (default_idle) idle = std::make_unique<FutexIdle>();
    int cpu = options.bind_cpus ? cpus[i % cpus.size()] : -1;
    executors_.push_back(std::make_unique<Executor>(
        std::make_unique<Executor::Impl>(*this, *shared_, i, cpu, std::move(idle), default_idle, replace_after)));
  }
  // Only now, when the vector does not change any more.
  for (auto& executor : executors_) executor->impl().Start();
}

Scheduler::~Scheduler() {
  // A fiber may have told its waiters that it is done and still be on its way out; one that will never end is a bug of
  // the caller, and better said than waited for.
  const MonotonicNs deadline = MonotonicNow() + 30'000'000'000;
  for (;;) {
    uint32_t live = shared_->live_fibers.load(std::memory_order_acquire);
    if (live == 0) break;
    if (!FutexWait(shared_->live_fibers, live, deadline)) {
      LOG_ERROR("%u fibers have not finished", live);
      CHECK(!"a Scheduler is destroyed before its fibers have finished");
    }
  }
  for (auto& executor : executors_) executor->impl().Stop();
  for (auto& executor : executors_) executor->impl().Join();
  workers_.reset();
  reactor_.reset();
  for (auto& executor : executors_) {
    while (executor->impl().visitors.load(std::memory_order_acquire) != 0) RawSyscall(SYS_sched_yield);
  }
}

Executor& Scheduler::LeastLoaded() {
  // Begins at another one each time, so that many that are equally idle share what comes.
  size_t start = shared_->next_executor.fetch_add(1, std::memory_order_relaxed);
  Executor* best = nullptr;
  size_t best_load = 0;
  for (size_t i = 0; i < executors_.size(); ++i) {
    Executor& executor = *executors_[(start + i) % executors_.size()];
    size_t load = executor.queue_length() + (executor.impl().busy.load(std::memory_order_relaxed) ? 1 : 0);
    if (best == nullptr || load < best_load) {
      best = &executor;
      best_load = load;
    }
  }
  CHECK(best != nullptr);
  return *best;
}

}  // namespace base
