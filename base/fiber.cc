#include "base/fiber.h"

#include "base/check.h"
#include "base/executor.h"
#include "base/executor_internal.h"
#include "base/futex_unsafe.h"

namespace base {

using After = Executor::Carrier::After;

Fiber::Fiber() : impl_(std::make_unique<Impl>()) {}
Fiber::~Fiber() = default;

RefPtr<Fiber> Fiber::Spawn(Scheduler& scheduler, Options options, std::function<void()> body) {
  Executor* executor = options.executor;
  if (executor == nullptr) {
    executor = Executor::Current();
    if (executor != nullptr && &executor->scheduler() != &scheduler) executor = nullptr;
    if (executor == nullptr) executor = &scheduler.LeastLoaded();
  }
  CHECK(&executor->scheduler() == &scheduler);
  RefPtr<Fiber> fiber = RefPtr<Fiber>::Adopt(new Fiber);
  Impl& f = *fiber->impl_;
  f.scheduler = &scheduler;
  f.executor.store(executor, std::memory_order_relaxed);
  f.pinned.store(options.pinned, std::memory_order_relaxed);
  f.name = std::move(options.name);
  f.body = std::move(body);
  executor->impl().Prepare(*fiber, options.stack_bytes);
  fiber->Ref();  // dropped when the body has returned
  executor->impl().Enqueue(*fiber, true);
  return fiber;
}

void Fiber::Impl::Wake(Fiber& fiber, uint32_t bit) {
  // Always a read-modify-write, also when the bit is set already: what the caller did before has to be visible to the
  // fiber that consumes the bit, whoever set it.
  uint32_t old = state.load(std::memory_order_relaxed);
  while (!state.compare_exchange_weak(old, (old & ~kParked) | bit, std::memory_order_acq_rel)) {
  }
  if ((old & kParked) != 0) executor.load(std::memory_order_relaxed)->impl().Enqueue(fiber, false);
}

void Fiber::Unpark() { impl_->Wake(*this, Impl::kPermit); }

void Fiber::Park() {
  Fiber* self = Current();
  CHECK(self != nullptr);
  DCHECK(Mutex::HeldByThisThread() == 0);
  constexpr uint32_t kWoken = Impl::kPermit | Impl::kTimeout;
  if ((self->impl_->state.fetch_and(~kWoken, std::memory_order_acq_rel) & kWoken) != 0) return;
  Executor::Impl::SwitchOut(*self, After::kPark);
  self->impl_->state.fetch_and(~kWoken, std::memory_order_acq_rel);
}

bool Fiber::ParkUntil(MonotonicNs deadline) {
  if (deadline == kNever) {
    Park();
    return true;
  }
  Fiber* self = Current();
  CHECK(self != nullptr);
  DCHECK(Mutex::HeldByThisThread() == 0);
  Impl& f = *self->impl_;
  constexpr uint32_t kWoken = Impl::kPermit | Impl::kTimeout;
  // A timeout found here belongs to an earlier wait.
  if ((f.state.fetch_and(~kWoken, std::memory_order_acq_rel) & Impl::kPermit) != 0) return true;
  if (MonotonicNow() >= deadline) return false;
  if (f.timer == nullptr) {
    // The fiber outlives its timer, whose destructor waits for a callback that runs.
    f.timer = std::make_unique<Timer>(f.scheduler->reactor(), [self] { self->impl_->Wake(*self, Impl::kTimeout); });
  }
  f.timer->Set(deadline);
  Executor::Impl::SwitchOut(*self, After::kPark);
  uint32_t woken = f.state.fetch_and(~kWoken, std::memory_order_acq_rel);
  if ((woken & Impl::kTimeout) == 0) f.timer->Cancel();
  // A late callback of an earlier wait may have set kTimeout: then this is a return without cause.
  return (woken & Impl::kPermit) != 0 || MonotonicNow() < deadline;
}

void Fiber::Yield() {
  Fiber* self = Current();
  CHECK(self != nullptr);
  DCHECK(Mutex::HeldByThisThread() == 0);
  Executor::Impl::SwitchOut(*self, After::kYield);
}

void Fiber::MoveTo(Executor& executor) {
  Fiber* self = Current();
  CHECK(self != nullptr);
  DCHECK(Mutex::HeldByThisThread() == 0);
  CHECK(&executor.scheduler() == self->impl_->scheduler);
  if (&self->executor() == &executor) return;
  Executor::Impl::SwitchOut(*self, After::kMove, &executor);
}

bool Fiber::AtGuestBoundary() {
  Fiber* self = Current();
  CHECK(self != nullptr);
  return self->executor().impl().ShouldYield();
}

void Fiber::Join() {
  if (Current() == nullptr) {
    while (impl_->done.load(std::memory_order_acquire) == 0) FutexWait(impl_->done, 0);
    return;
  }
  CHECK(Current() != this);
  if (finished()) return;
  WaitEntry entry(kEventIn);
  ScopedWait wait(impl_->joiners, entry);
  while (!finished_.load(std::memory_order_seq_cst)) Park();
}

Executor& Fiber::executor() const { return *impl_->executor.load(std::memory_order_relaxed); }
void Fiber::set_pinned(bool pinned) { impl_->pinned.store(pinned, std::memory_order_relaxed); }

void RunInFiber(std::function<void()> body, int executors) {
  // Not bound: test programs run side by side, and would all use the first CPUs.
  Scheduler scheduler({.executors = executors, .bind_cpus = false, .idle = nullptr});
  Fiber::Spawn(scheduler, {}, std::move(body))->Join();
}

}  // namespace base
