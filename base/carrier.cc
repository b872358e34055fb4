// Host threads of executors: how one that is stuck is replaced.
//
// Nothing ticks in an idle sandbox. The watch is set when a fiber has to wait behind one that runs, or a guest runs
// that may want something, and again as long as that is so; it fires once more after everybody has been served.
#include <string>

#include "base/check.h"
#include "base/executor_internal.h"
#include "base/fiber.h"
#include "base/futex_unsafe.h"
#include "base/logging.h"

namespace base {
namespace {

// Threads per executor, the stuck ones included: beyond, fibers wait.
constexpr size_t kMostCarriers = 4;

}  // namespace

bool Executor::Carrier::Start(uint32_t first_turn) {
  turn.store(first_turn, std::memory_order_relaxed);
  return thread.Start("executor-" + std::to_string(executor.index), [this] { Main(); });
}

void Executor::Carrier::GiveTurn(uint32_t value) {
  turn.store(value, std::memory_order_release);
  FutexWake(&turn);
}

void Executor::Impl::Watch() {
  MutexLock lock(mu);
  WatchLocked();
}

void Executor::Impl::WatchLocked() {
  if (stop || watched.load(std::memory_order_relaxed)) return;
  watched.store(true, std::memory_order_relaxed);
  watched_run = active->run.load(std::memory_order_relaxed);
  watch->Set(MonotonicNow() + replace_after_ns);
}

// On the reactor's thread.
void Executor::Impl::OnWatch() {
  bool replaced = false;
  {
    MutexLock lock(mu);
    watched.store(false, std::memory_order_relaxed);
    const bool fibers_wait = head != nullptr || !posted.empty();
    if (stop || (!fibers_wait && !(busy.load(std::memory_order_relaxed) && idle->HasWork()))) return;
    replaced = ReplaceLocked(watched_run);
    if (!replaced) WatchLocked();  // otherwise the first fiber of the new thread does it
  }
  if (replaced) LOG_DEBUG("executor %d is stuck: another thread goes on", index);
}

bool Executor::Impl::ReplaceLocked(uint64_t run) {
  const bool in_fiber = (run & 1) != 0;
  if (!in_fiber || active->run.load(std::memory_order_relaxed) != run) return false;
  if (stand_bys.empty()) {
    if (carriers.size() >= kMostCarriers) return false;
    // Starting a thread under the mutex is rare: the most there are stay for good.
    auto fresh = std::make_unique<Carrier>(*this);
    if (!fresh->Start(Carrier::kStandBy)) return false;
    stand_bys.push_back(fresh.get());
    carriers.push_back(std::move(fresh));
  }
  if (!active->run.compare_exchange_strong(run, Carrier::kReplaced, std::memory_order_acq_rel)) return false;
  active = stand_bys.back();
  stand_bys.pop_back();
  active->run.store(0, std::memory_order_relaxed);
  active->GiveTurn(Carrier::kGo);
  return true;
}

bool Executor::Impl::StandBy(Carrier& carrier) {
  MutexLock lock(mu);
  if (stop) return false;
  carrier.turn.store(Carrier::kStandBy, std::memory_order_relaxed);
  stand_bys.push_back(&carrier);
  return true;
}

ThreadHold::ThreadHold() {
  for (;;) {
    Executor::Carrier* carrier = Executor::Carrier::Current();
    CHECK(carrier != nullptr && carrier->current != nullptr);
    if (carrier->executor.replace_after_ns == 0) return;
    uint64_t run = carrier->run.load(std::memory_order_relaxed);
    if (run != Executor::Carrier::kReplaced &&
        carrier->run.compare_exchange_strong(run, run + 1, std::memory_order_acq_rel)) {
      carrier_ = carrier;
      return;
    }
    Fiber::Yield();
  }
}

ThreadHold::~ThreadHold() {
  // Nobody else changes an even number.
  if (carrier_ != nullptr) {
    carrier_->run.store(carrier_->run.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
}

}  // namespace base
