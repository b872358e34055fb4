// WaitQueue: who wants to know when an object (a pipe, a socket, a futex, a child's exit) changes. Events are poll's
// bits.
#ifndef BASE_WAIT_QUEUE_H_
#define BASE_WAIT_QUEUE_H_

#include <cstdint>
#include <functional>

#include "base/fiber.h"
#include "base/mutex.h"

namespace base {

// poll(2) bits: POLLIN 1, POLLPRI 2, POLLOUT 4, POLLERR 8, POLLHUP 0x10, POLLRDHUP 0x2000, …
using EventMask = uint32_t;
inline constexpr EventMask kEventIn = 0x1, kEventPri = 0x2, kEventOut = 0x4, kEventErr = 0x8, kEventHup = 0x10,
                           kEventNval = 0x20, kEventRdNorm = 0x40, kEventRdBand = 0x80, kEventWrNorm = 0x100,
                           kEventWrBand = 0x200, kEventRdHup = 0x2000, kEventAll = 0xffffffff;

class WaitQueue;

// One registration. Owned by the waiter; must be removed from its queue (Remove, or the queue's destruction never
// happens first) before it dies.
class WaitEntry {
 public:
  // `callback` runs under the queue's lock, on the notifying thread or fiber: it must not park, nor call into the
  // queue; it may Unpark fibers and notify other queues that come later in the lock order.
  WaitEntry(EventMask mask, std::function<void(EventMask)> callback) : mask_(mask), callback_(std::move(callback)) {}
  // Unparks `fiber` (the caller's, when null is given).
  explicit WaitEntry(EventMask mask, Fiber* fiber = nullptr);
  ~WaitEntry();
  WaitEntry(const WaitEntry&) = delete;
  WaitEntry& operator=(const WaitEntry&) = delete;
  EventMask mask() const { return mask_; }
  // EPOLLEXCLUSIVE and the like: of the exclusive entries Notify calls no further one after one that did not decline.
  void set_exclusive() { exclusive_ = true; }
  // By the callback: nobody was there whom it could have woken.
  void Decline() { declined_ = true; }

 private:
  friend class WaitQueue;
  EventMask mask_;
  bool exclusive_ = false;
  bool declined_ = false;  // guarded by the queue's lock
  std::function<void(EventMask)> callback_;
  WaitEntry* next_ = nullptr;  // guarded by the queue's lock
  WaitEntry* prev_ = nullptr;
  bool linked_ = false;
};

class WaitQueue {
 public:
  WaitQueue() = default;
  ~WaitQueue();
  void Add(WaitEntry& entry) EXCLUDES(mu_);
  // After it returns no callback of the entry runs. A no-op for an entry that is not linked.
  void Remove(WaitEntry& entry) EXCLUDES(mu_);
  // Calls every entry whose mask meets `events` (err and hup always count, as in poll). Whether there was any.
  bool Notify(EventMask events) EXCLUDES(mu_);
  bool empty() const EXCLUDES(mu_);

 private:
  mutable Mutex mu_;
  WaitEntry* head_ GUARDED_BY(mu_) = nullptr;
  WaitEntry* tail_ GUARDED_BY(mu_) = nullptr;
  std::atomic<uint32_t> count_{0};  // lets Notify skip the lock when nobody waits
};

// Adds in the constructor, removes in the destructor.
class ScopedWait {
 public:
  ScopedWait(WaitQueue& queue, WaitEntry& entry) : queue_(queue), entry_(entry) { queue_.Add(entry_); }
  ~ScopedWait() { queue_.Remove(entry_); }
  ScopedWait(const ScopedWait&) = delete;

 private:
  WaitQueue& queue_;
  WaitEntry& entry_;
};

}  // namespace base

#endif  // BASE_WAIT_QUEUE_H_
