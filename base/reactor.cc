#include "base/reactor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <array>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/futex_unsafe.h"
#include "base/host_thread.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "base/unique_fd.h"

namespace base {

struct Timer::Impl : std::enable_shared_from_this<Timer::Impl> {
  Reactor::Impl* reactor = nullptr;
  std::function<void()> callback;
  // Guarded by the reactor's mu.
  MonotonicNs deadline = kNever;
  size_t heap_index = 0;  // valid while deadline is not kNever
};

struct FdWatch::Impl {
  Reactor::Impl* reactor = nullptr;
  int fd = -1;
  uint64_t id = 0;
  bool supported = false;
  std::function<void(uint32_t)> callback;
};

struct Reactor::Impl {
  Impl();
  ~Impl();

  void SetTimer(Timer::Impl& timer, MonotonicNs deadline) EXCLUDES(mu);
  void RemoveTimer(Timer::Impl& timer) EXCLUDES(mu);
  void AddWatch(const std::shared_ptr<FdWatch::Impl>& watch, uint32_t events) EXCLUDES(mu);
  void RemoveWatch(FdWatch::Impl& watch) EXCLUDES(mu);

  void Loop();
  void RunTimers() EXCLUDES(mu);
  void RunWatch(uint64_t id, uint32_t events) EXCLUDES(mu);
  // Returns when no callback of `object` runs, unless it is the caller that runs it.
  void WaitForCallback(const void* object) EXCLUDES(mu);
  void BeginCallback(const void* object) REQUIRES(mu) { running = object; }
  void EndCallback() EXCLUDES(mu);

  // A binary heap by deadline; each timer knows its place, so that it can be moved or taken out.
  void HeapInsert(Timer::Impl& timer) REQUIRES(mu);
  void HeapRemove(Timer::Impl& timer) REQUIRES(mu);
  size_t HeapUp(size_t i) REQUIRES(mu);
  void HeapDown(size_t i) REQUIRES(mu);
  void HeapPut(size_t i, Timer::Impl* timer) REQUIRES(mu) {
    heap[i] = timer;
    timer->heap_index = i;
  }
  void Arm() REQUIRES(mu);

  static constexpr uint64_t kTimerId = 0, kStopId = 1, kFirstWatchId = 2;

  UniqueFd epoll;
  UniqueFd timer_fd;
  UniqueFd stop_fd;

  Mutex mu;
  std::vector<Timer::Impl*> heap GUARDED_BY(mu);
  MonotonicNs armed GUARDED_BY(mu) = kNever;  // what timer_fd is set to
  std::unordered_map<uint64_t, std::shared_ptr<FdWatch::Impl>> watches GUARDED_BY(mu);
  uint64_t next_watch_id GUARDED_BY(mu) = kFirstWatchId;
  const void* running GUARDED_BY(mu) = nullptr;  // whose callback runs
  bool waiters GUARDED_BY(mu) = false;
  std::atomic<uint32_t> callbacks_ended{0};  // WaitForCallback sleeps on it

  std::atomic<int> tid{0};
  HostThread thread;
};

// ---- The heap ----

size_t Reactor::Impl::HeapUp(size_t i) {
  Timer::Impl* timer = heap[i];
  while (i > 0) {
    size_t parent = (i - 1) / 2;
    if (heap[parent]->deadline <= timer->deadline) break;
    HeapPut(i, heap[parent]);
    i = parent;
  }
  HeapPut(i, timer);
  return i;
}

void Reactor::Impl::HeapDown(size_t i) {
  Timer::Impl* timer = heap[i];
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && heap[child + 1]->deadline < heap[child]->deadline) ++child;
    if (timer->deadline <= heap[child]->deadline) break;
    HeapPut(i, heap[child]);
    i = child;
  }
  HeapPut(i, timer);
}

void Reactor::Impl::HeapInsert(Timer::Impl& timer) {
  heap.push_back(&timer);
  HeapUp(heap.size() - 1);
}

void Reactor::Impl::HeapRemove(Timer::Impl& timer) {
  size_t i = timer.heap_index;
  Timer::Impl* last = heap.back();
  heap.pop_back();
  if (last == &timer) return;
  HeapPut(i, last);
  HeapDown(HeapUp(i));
}

// ---- Timers ----

void Reactor::Impl::Arm() {
  MonotonicNs first = heap.empty() ? kNever : heap.front()->deadline;
  // A setting that is too early is left alone: one wake-up for nothing at most, instead of a system call for each timer
  // that is cancelled, which is what happens to most.
  if (first >= armed) return;
  armed = first;
  // From whichever thread it is: setting the descriptor's time needs no wake-up of the reactor. A time of 0 would
  // disarm.
  MonotonicNs at = first > 0 ? first : 1;
  itimerspec spec{};
  spec.it_value = {.tv_sec = at / 1'000'000'000, .tv_nsec = at % 1'000'000'000};
  CHECK(Host(SYS_timerfd_settime, timer_fd.get(), TFD_TIMER_ABSTIME, &spec, nullptr).ok());
}

void Reactor::Impl::SetTimer(Timer::Impl& timer, MonotonicNs deadline) {
  MutexLock lock(mu);
  if (timer.deadline != kNever) HeapRemove(timer);
  timer.deadline = deadline;
  if (deadline == kNever) return;
  HeapInsert(timer);
  Arm();
}

void Reactor::Impl::RemoveTimer(Timer::Impl& timer) {
  SetTimer(timer, kNever);
  WaitForCallback(&timer);
}

void Reactor::Impl::RunTimers() {
  MonotonicNs now = MonotonicNow();
  mu.Lock();
  armed = kNever;
  // No more than there are now: a callback that sets its timer to the past must not keep the descriptors waiting.
  for (size_t left = heap.size(); left > 0 && !heap.empty() && heap.front()->deadline <= now; --left) {
    // The owner cannot be past RemoveTimer, for the timer is in the heap; from here the callback may destroy it.
    std::shared_ptr<Timer::Impl> timer = heap.front()->shared_from_this();
    HeapRemove(*timer);
    timer->deadline = kNever;
    BeginCallback(timer.get());
    mu.Unlock();
    timer->callback();
    EndCallback();
    mu.Lock();
  }
  Arm();
  mu.Unlock();
}

// ---- Descriptors ----

void Reactor::Impl::AddWatch(const std::shared_ptr<FdWatch::Impl>& watch, uint32_t events) {
  {
    MutexLock lock(mu);
    watch->id = next_watch_id++;
    watches.emplace(watch->id, watch);
  }
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.u64 = watch->id;
  auto added = Host(SYS_epoll_ctl, epoll.get(), EPOLL_CTL_ADD, watch->fd, &event);
  watch->supported = added.ok();
  if (added.ok()) return;
  if (!added.failed_with(EPERM)) LOG_WARNING("epoll_ctl(ADD, %d): %s", watch->fd, ErrnoName(added.error().value()));
  MutexLock lock(mu);
  watches.erase(watch->id);
}

void Reactor::Impl::RemoveWatch(FdWatch::Impl& watch) {
  if (!watch.supported) return;
  (void)Host(SYS_epoll_ctl, epoll.get(), EPOLL_CTL_DEL, watch.fd, nullptr);
  {
    MutexLock lock(mu);
    watches.erase(watch.id);
  }
  WaitForCallback(&watch);
}

void Reactor::Impl::RunWatch(uint64_t id, uint32_t events) {
  std::shared_ptr<FdWatch::Impl> watch;
  {
    MutexLock lock(mu);
    auto it = watches.find(id);
    if (it == watches.end()) return;  // removed after epoll_wait had returned its event
    watch = it->second;
    BeginCallback(watch.get());
  }
  watch->callback(events);
  EndCallback();
}

// ---- Callbacks ----

void Reactor::Impl::EndCallback() {
  bool wake = false;
  {
    MutexLock lock(mu);
    running = nullptr;
    wake = std::exchange(waiters, false);
    callbacks_ended.fetch_add(1, std::memory_order_release);
  }
  if (wake) FutexWake(&callbacks_ended);
}

void Reactor::Impl::WaitForCallback(const void* object) {
  for (;;) {
    uint32_t seen;
    {
      MutexLock lock(mu);
      if (running != object) return;
      // The callback destroys its own timer or watch.
      if (RawSyscall(SYS_gettid) == tid.load(std::memory_order_relaxed)) return;
      waiters = true;
      seen = callbacks_ended.load(std::memory_order_acquire);
    }
    FutexWait(callbacks_ended, seen);
  }
}

// ---- The thread ----

Reactor::Impl::Impl() {
  auto must = [](Result<long> fd) { return UniqueFd(static_cast<int>(fd.value())); };
  epoll = must(Host(SYS_epoll_create1, EPOLL_CLOEXEC));
  timer_fd = must(Host(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  stop_fd = must(Host(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (auto [fd, id] : {std::pair(timer_fd.get(), kTimerId), std::pair(stop_fd.get(), kStopId)}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = id;
    CHECK(Host(SYS_epoll_ctl, epoll.get(), EPOLL_CTL_ADD, fd, &event).ok());
  }
  CHECK(thread.Start("reactor", [this] { Loop(); }));
}

Reactor::Impl::~Impl() {
  uint64_t one = 1;
  CHECK(Host(SYS_write, stop_fd.get(), &one, sizeof(one)).ok());
  thread.Join();
  MutexLock lock(mu);
  CHECK(heap.empty());
  CHECK(watches.empty());
}

void Reactor::Impl::Loop() {
  tid.store(static_cast<int>(RawSyscall(SYS_gettid)), std::memory_order_relaxed);
  std::array<epoll_event, 64> events;
  for (;;) {
    auto ready = HostRetry(SYS_epoll_wait, epoll.get(), events.data(), events.size(), -1);
    CHECK(ready.ok());
    for (long i = 0; i < *ready; ++i) {
      uint64_t id = events[i].data.u64;
      if (id == kStopId) return;
      if (id == kTimerId) {
        uint64_t expirations;
        (void)Host(SYS_read, timer_fd.get(), &expirations, sizeof(expirations));
        RunTimers();
      } else {
        RunWatch(id, events[i].events);
      }
    }
  }
}

Reactor::Reactor() : impl_(std::make_unique<Impl>()) {}
Reactor::~Reactor() = default;

Timer::Timer(Reactor& reactor, std::function<void()> callback) : impl_(std::make_shared<Impl>()) {
  impl_->reactor = &reactor.impl();
  impl_->callback = std::move(callback);
}
Timer::~Timer() { impl_->reactor->RemoveTimer(*impl_); }
void Timer::Set(MonotonicNs deadline) { impl_->reactor->SetTimer(*impl_, deadline); }

FdWatch::FdWatch(Reactor& reactor, int fd, uint32_t events, std::function<void(uint32_t)> callback)
    : impl_(std::make_shared<Impl>()) {
  impl_->reactor = &reactor.impl();
  impl_->fd = fd;
  impl_->callback = std::move(callback);
  impl_->reactor->AddWatch(impl_, events);
}
FdWatch::~FdWatch() { impl_->reactor->RemoveWatch(*impl_); }
bool FdWatch::supported() const { return impl_->supported; }

}  // namespace base
