// Reactor: one host thread that waits for timers and for host descriptors. It sleeps without a time limit when there
// are no timers: an idle sandbox causes no wake-ups. Callbacks run on its thread: they must not park or block; most
// unpark a fiber or notify a wait queue.
#ifndef BASE_REACTOR_H_
#define BASE_REACTOR_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "base/time.h"

namespace base {

class Reactor;

// A one-shot timer that can be set again and again. Owned by its user; the destructor cancels, and waits for a callback
// that is running on the reactor's thread (so it must not be destroyed under a Mutex that its callback takes).
class Timer {
 public:
  Timer(Reactor& reactor, std::function<void()> callback);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  // Calls back once at `deadline` or soon after; replaces an earlier setting. kNever cancels. Any thread; not waiting.
  void Set(MonotonicNs deadline);
  void Cancel() { Set(kNever); }

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

// Watches a host descriptor, edge-triggered. Owned by its user, who owns the descriptor too and destroys the watch
// first.
class FdWatch {
 public:
  // `events`: EPOLLIN and so on (man 2 epoll_ctl). Calls back with the ready events; once at the start for what is
  // ready.
  FdWatch(Reactor& reactor, int fd, uint32_t events, std::function<void(uint32_t)> callback);
  ~FdWatch();
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  // False for a descriptor that epoll does not take (a regular file, /dev/null: always ready).
  bool supported() const;

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

class Reactor {
 public:
  Reactor();   // starts the thread
  ~Reactor();  // every Timer and FdWatch has to be gone
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace base

#endif  // BASE_REACTOR_H_
