#include "base/worker_pool.h"

#include <algorithm>
#include <deque>
#include <list>

#include "base/fiber.h"
#include "base/futex_unsafe.h"
#include "base/host_thread.h"
#include "base/mutex.h"

namespace base {
namespace {

constexpr MonotonicNs kIdleLife = 1'000'000'000;

// On the stack of the fiber that waits for it.
struct Job {
  std::function<void()>* work;
  Fiber* fiber;
  std::atomic<bool> done{false};
};

}  // namespace

struct WorkerPool::Impl {
  explicit Impl(int max_workers) : max_workers(max_workers) {}

  void Work(std::list<HostThread>::iterator self) EXCLUDES(mu);

  const int max_workers;
  Mutex mu;
  std::deque<Job*> jobs GUARDED_BY(mu);
  std::list<HostThread> threads GUARDED_BY(mu);
  std::list<HostThread> ended GUARDED_BY(mu);  // to be joined
  int idle GUARDED_BY(mu) = 0;
  bool stop GUARDED_BY(mu) = false;
  std::atomic<uint32_t> changes{0};  // idle workers sleep on it; changed under mu
};

WorkerPool::WorkerPool(int max_workers) : impl_(std::make_unique<Impl>(max_workers)) {}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(impl_->mu);
    CHECK(impl_->jobs.empty());
    impl_->stop = true;
    impl_->changes.fetch_add(1, std::memory_order_release);
  }
  FutexWake(&impl_->changes);
  // A worker ends by moving itself from one list to the other.
  std::list<HostThread> threads, ended;
  for (;;) {
    bool all_ended = false;
    {
      MutexLock lock(impl_->mu);
      ended.splice(ended.end(), impl_->ended);
      all_ended = impl_->threads.empty();
    }
    ended.clear();
    if (all_ended) break;
    RawSyscall(SYS_sched_yield);
  }
}

void WorkerPool::Run(std::function<void()> work) {
  Fiber* fiber = Fiber::Current();
  if (fiber == nullptr || impl_->max_workers <= 0) {
    work();
    return;
  }
  Job job{.work = &work, .fiber = fiber};
  std::list<HostThread> ended;
  bool queued = true, wake = false;
  {
    MutexLock lock(impl_->mu);
    ended.splice(ended.end(), impl_->ended);
    impl_->jobs.push_back(&job);
    if (impl_->idle >= static_cast<int>(impl_->jobs.size())) {
      impl_->changes.fetch_add(1, std::memory_order_release);
      wake = true;
    } else if (static_cast<int>(impl_->threads.size()) < impl_->max_workers) {
      // Starting a thread under the mutex is rare, and needs the entry of the list in place before the thread looks at
      // it.
      auto self = impl_->threads.emplace(impl_->threads.end());
      Impl* impl = impl_.get();
      if (!self->Start("worker", [impl, self] { impl->Work(self); })) {
        impl_->threads.erase(self);
        // With other workers alive the job waits for one of them; without any, the executor has to do it.
        if (impl_->threads.empty()) {
          impl_->jobs.pop_back();
          queued = false;
        }
      }
    }
  }
  ended.clear();
  if (!queued) {
    work();
    return;
  }
  if (wake) FutexWake(&impl_->changes, 1);
  while (!job.done.load(std::memory_order_acquire)) Fiber::Park();
}

void WorkerPool::Impl::Work(std::list<HostThread>::iterator self) {
  mu.Lock();
  for (;;) {
    if (!jobs.empty()) {
      Job* job = jobs.front();
      jobs.pop_front();
      mu.Unlock();
      (*job->work)();
      // The fiber may see `done` and leave before it is unparked.
      RefPtr<Fiber> fiber(job->fiber);
      job->done.store(true, std::memory_order_release);
      fiber->Unpark();
      fiber.reset();
      mu.Lock();
      continue;
    }
    if (stop) break;
    uint32_t seen = changes.load(std::memory_order_acquire);
    ++idle;
    mu.Unlock();
    bool woken = FutexWait(changes, seen, MonotonicNow() + kIdleLife);
    mu.Lock();
    --idle;
    if (!woken && jobs.empty()) break;
  }
  ended.splice(ended.end(), threads, self);
  mu.Unlock();
}

}  // namespace base
