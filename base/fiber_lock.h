// Locks whose waiters park: for exclusion that is held across a wait (a gofer call, a directory operation, a file's
// write lock). Fair (first come, first served), so that no fiber starves. Outside of fibers they spin-wait on the host
// (tests, start-up). Not interruptible by guest signals, like the kernel's mutex_lock.
#ifndef BASE_FIBER_LOCK_H_
#define BASE_FIBER_LOCK_H_

#include <cstdint>

#include "base/mutex.h"
#include "base/thread_annotations.h"

namespace base {

namespace internal {
struct LockWaiter;
}

class CAPABILITY("fiber mutex") FiberMutex {
 public:
  FiberMutex() = default;
  void Lock() ACQUIRE();
  bool TryLock() TRY_ACQUIRE(true);
  void Unlock() RELEASE();

 private:
  Mutex mu_;
  bool held_ GUARDED_BY(mu_) = false;
  internal::LockWaiter* head_ GUARDED_BY(mu_) = nullptr;
  internal::LockWaiter* tail_ GUARDED_BY(mu_) = nullptr;
};

class CAPABILITY("fiber rwlock") FiberRwLock {
 public:
  FiberRwLock() = default;
  void Lock() ACQUIRE();
  void Unlock() RELEASE();
  void LockShared() ACQUIRE_SHARED();
  void UnlockShared() RELEASE_SHARED();

 private:
  void GrantLocked() REQUIRES(mu_);
  Mutex mu_;
  int readers_ GUARDED_BY(mu_) = 0;
  bool writer_ GUARDED_BY(mu_) = false;
  internal::LockWaiter* head_ GUARDED_BY(mu_) = nullptr;
  internal::LockWaiter* tail_ GUARDED_BY(mu_) = nullptr;
};

class SCOPED_CAPABILITY FiberMutexLock {
 public:
  explicit FiberMutexLock(FiberMutex& mu) ACQUIRE(mu) : mu_(mu) { mu_.Lock(); }
  ~FiberMutexLock() RELEASE() { mu_.Unlock(); }
  FiberMutexLock(const FiberMutexLock&) = delete;

 private:
  FiberMutex& mu_;
};

// Two mutexes of one kind (two pipes of a splice), in the order of their addresses; they may be the same one.
class SCOPED_CAPABILITY FiberMutexPairLock {
 public:
  FiberMutexPairLock(FiberMutex& a, FiberMutex& b) ACQUIRE(a, b) NO_THREAD_SAFETY_ANALYSIS : first_(&a < &b ? a : b),
                                                                                             second_(&a < &b ? b : a) {
    first_.Lock();
    if (&first_ != &second_) second_.Lock();
  }
  ~FiberMutexPairLock() RELEASE() NO_THREAD_SAFETY_ANALYSIS {
    if (&first_ != &second_) second_.Unlock();
    first_.Unlock();
  }
  FiberMutexPairLock(const FiberMutexPairLock&) = delete;

 private:
  FiberMutex& first_;
  FiberMutex& second_;
};

class SCOPED_CAPABILITY WriterLock {
 public:
  explicit WriterLock(FiberRwLock& mu) ACQUIRE(mu) : mu_(mu) { mu_.Lock(); }
  ~WriterLock() RELEASE() { mu_.Unlock(); }
  WriterLock(const WriterLock&) = delete;

 private:
  FiberRwLock& mu_;
};

class SCOPED_CAPABILITY ReaderLock {
 public:
  explicit ReaderLock(FiberRwLock& mu) ACQUIRE_SHARED(mu) : mu_(mu) { mu_.LockShared(); }
  ~ReaderLock() RELEASE() { mu_.UnlockShared(); }
  ReaderLock(const ReaderLock&) = delete;

 private:
  FiberRwLock& mu_;
};

}  // namespace base

#endif  // BASE_FIBER_LOCK_H_
