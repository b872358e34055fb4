// Mutex: exclusion for short critical sections (under a microsecond) between executors and host threads.
//
// Not absl::Mutex: Debian's build has deadlock detection compiled in (23 ns a lock instead of 6), is not instrumented
// for ThreadSanitizer, and aborts when a fiber that locked on one thread unlocks on another. This one is a futex word
// (U. Drepper, "Futexes Are Tricky", mutex 2), counts contention, and Fiber::Park asserts that none is held.
//
// Rules: no parking, no guest copy, no host I/O while one is held. Anything longer is a FiberMutex (base/fiber_lock.h).
// docs/locking.md gives the order.
#ifndef BASE_MUTEX_H_
#define BASE_MUTEX_H_

#include <atomic>
#include <cstdint>

#include "base/thread_annotations.h"

namespace base {

class CAPABILITY("mutex") Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ACQUIRE() {
    uint32_t expected = 0;
    if (__builtin_expect(!word_.compare_exchange_strong(expected, 1, std::memory_order_acquire), 0)) LockSlow();
    NoteLocked();
  }
  bool TryLock() TRY_ACQUIRE(true) {
    uint32_t expected = 0;
    bool locked = word_.compare_exchange_strong(expected, 1, std::memory_order_acquire);
    if (locked) NoteLocked();
    return locked;
  }
  void Unlock() RELEASE() {
    NoteUnlocked();
    if (word_.exchange(0, std::memory_order_release) == 2) UnlockSlow();
  }
  void AssertHeld() const ASSERT_CAPABILITY(this) {}

  // Times that Lock had to wait, over the life of the process, all mutexes together.
  static uint64_t TotalContention();
  // Number of Mutexes that this host thread holds. Debug builds only; 0 in release.
  static int HeldByThisThread();

 private:
  void LockSlow();
  void UnlockSlow();
#ifdef NDEBUG
  static void NoteLocked() {}
  static void NoteUnlocked() {}
#else
  static void NoteLocked();
  static void NoteUnlocked();
#endif

  std::atomic<uint32_t> word_{0};  // 0 free, 1 held, 2 held and somebody may wait
};

class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ACQUIRE(mu) : mu_(mu) { mu_.Lock(); }
  ~MutexLock() RELEASE() { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

// Two mutexes of one kind (two futex buckets), in the order of their addresses; they may be the same one.
class SCOPED_CAPABILITY MutexPairLock {
 public:
  MutexPairLock(Mutex& a, Mutex& b) ACQUIRE(a, b) NO_THREAD_SAFETY_ANALYSIS : first_(&a < &b ? a : b),
                                                                              second_(&a < &b ? b : a) {
    first_.Lock();
    if (&first_ != &second_) second_.Lock();
  }
  ~MutexPairLock() RELEASE() NO_THREAD_SAFETY_ANALYSIS {
    if (&first_ != &second_) second_.Unlock();
    first_.Unlock();
  }
  MutexPairLock(const MutexPairLock&) = delete;
  MutexPairLock& operator=(const MutexPairLock&) = delete;

 private:
  Mutex& first_;
  Mutex& second_;
};

}  // namespace base

#endif  // BASE_MUTEX_H_
