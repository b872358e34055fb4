#include "base/fiber_lock.h"

#include <linux/futex.h>

#include <atomic>

#include "base/fiber.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace internal {

// One waiter, on the waiter's stack. `granted` becomes 1 when the lock was handed over; the waiter may leave (and its
// stack frame die) at once, so the granter reads everything it needs before it stores.
struct LockWaiter {
  LockWaiter* next = nullptr;
  Fiber* fiber = nullptr;  // null: a plain host thread that sleeps on `granted`
  bool shared = false;
  std::atomic<uint32_t> granted{0};
};

}  // namespace internal

namespace {

using internal::LockWaiter;

void Wait(LockWaiter& waiter) {
  while (waiter.granted.load(std::memory_order_acquire) == 0) {
    if (waiter.fiber != nullptr) {
      Fiber::Park();
    } else {
      RawSyscall(SYS_futex, ToRawArg(&waiter.granted), FUTEX_WAIT_PRIVATE, 0, 0);
    }
  }
}

void Grant(LockWaiter* waiter) {
  // The waiting fiber may see `granted` without having been unparked, and finish: hold it for the Unpark.
  RefPtr<Fiber> fiber(waiter->fiber);
  // A futex wake on a word that has died meanwhile is harmless: at worst a spurious wake-up of another waiter.
  uint32_t* word = reinterpret_cast<uint32_t*>(&waiter->granted);
  waiter->granted.store(1, std::memory_order_release);
  if (fiber) {
    fiber->Unpark();
  } else {
    RawSyscall(SYS_futex, ToRawArg(word), FUTEX_WAKE_PRIVATE, 1);
  }
}

void Append(LockWaiter*& head, LockWaiter*& tail, LockWaiter* waiter) {
  (tail != nullptr ? tail->next : head) = waiter;
  tail = waiter;
}

LockWaiter* PopFront(LockWaiter*& head, LockWaiter*& tail) {
  LockWaiter* waiter = head;
  head = waiter->next;
  if (head == nullptr) tail = nullptr;
  return waiter;
}

}  // namespace

void FiberMutex::Lock() {
  LockWaiter waiter;
  {
    MutexLock lock(mu_);
    if (!held_) {
      held_ = true;
      return;
    }
    waiter.fiber = Fiber::Current();
    Append(head_, tail_, &waiter);
  }
  Wait(waiter);
}

bool FiberMutex::TryLock() {
  MutexLock lock(mu_);
  if (held_) return false;
  held_ = true;
  return true;
}

void FiberMutex::Unlock() {
  MutexLock lock(mu_);
  CHECK(held_);
  if (head_ == nullptr) {
    held_ = false;
    return;
  }
  // Handed over: held_ stays true, nobody can overtake.
  Grant(PopFront(head_, tail_));
}

void FiberRwLock::Lock() {
  LockWaiter waiter;
  {
    MutexLock lock(mu_);
    if (!writer_ && readers_ == 0 && head_ == nullptr) {
      writer_ = true;
      return;
    }
    waiter.fiber = Fiber::Current();
    Append(head_, tail_, &waiter);
  }
  Wait(waiter);
}

void FiberRwLock::LockShared() {
  LockWaiter waiter;
  {
    MutexLock lock(mu_);
    // Behind a waiting writer even when readers hold it, or a stream of readers would starve writers. So a fiber must
    // not take the same lock shared twice.
    if (!writer_ && head_ == nullptr) {
      ++readers_;
      return;
    }
    waiter.fiber = Fiber::Current();
    waiter.shared = true;
    Append(head_, tail_, &waiter);
  }
  Wait(waiter);
}

void FiberRwLock::Unlock() {
  MutexLock lock(mu_);
  CHECK(writer_);
  writer_ = false;
  GrantLocked();
}

void FiberRwLock::UnlockShared() {
  MutexLock lock(mu_);
  CHECK(readers_ > 0);
  --readers_;
  GrantLocked();
}

void FiberRwLock::GrantLocked() {
  while (head_ != nullptr && !writer_) {
    if (!head_->shared) {
      if (readers_ != 0) return;
      writer_ = true;
      Grant(PopFront(head_, tail_));
      return;
    }
    ++readers_;
    Grant(PopFront(head_, tail_));
  }
}

}  // namespace base
