// Futexes (man 2 futex, kernel/futex/). Private and shared keys, WAIT/WAKE and their bitset forms, requeue, wake-op,
// PI, robust lists, waitv.
#ifndef SENTRY_KERNEL_FUTEX_H_
#define SENTRY_KERNEL_FUTEX_H_

#include <array>
#include <cstdint>
#include <span>

#include "base/mutex.h"
#include "base/time.h"
#include "sentry/mm/memory_manager.h"

namespace sentry {

class Task;

class FutexManager {
 public:
  FutexManager() = default;
  // Waits while *addr == value. EAGAIN if it differs, ETIMEDOUT, ERESTARTSYS_ (the caller decides the restart rule),
  // EFAULT, EINVAL.
  Result<void> Wait(Task& task, Addr addr, bool private_futex, uint32_t value, uint32_t bitset,
                    base::MonotonicNs deadline);
  struct WaitSpec {
    Addr addr;
    bool private_futex;
    uint32_t value;
  };
  // futex_waitv(2): index of the one that was woken.
  Result<int> WaitMultiple(Task& task, std::span<const WaitSpec> specs, base::MonotonicNs deadline);
  Result<int> Wake(MemoryManager& mm, Addr addr, bool private_futex, uint32_t bitset, int count);
  // FUTEX_REQUEUE, FUTEX_CMP_REQUEUE (`compare` set): woken plus moved.
  Result<int> Requeue(Task& task, Addr from, Addr to, bool private_futex, const uint32_t* compare, int wake,
                      int requeue);
  Result<int> WakeOp(Task& task, Addr addr1, Addr addr2, bool private_futex, int wake1, int wake2, uint32_t operation);
  Result<void> LockPi(Task& task, Addr addr, bool private_futex, base::MonotonicNs deadline, bool try_only);
  Result<void> UnlockPi(Task& task, Addr addr, bool private_futex);
  // The list of a thread that exits (man 2 get_robust_list): hostile memory, at most 2048 entries.
  void ExitRobustList(Task& task);

  struct Waiter;  // on the stack of the fiber that waits

 private:
  struct Bucket {
    base::Mutex mu;  // guards the links of the waiters too
    Waiter* head GUARDED_BY(mu) = nullptr;
    Waiter* tail GUARDED_BY(mu) = nullptr;
  };
  Bucket& BucketOf(const FutexKey& key);
  Result<int> WaitAny(Task& task, std::span<const WaitSpec> specs, uint32_t bitset, base::MonotonicNs deadline);
  int WakeKey(const FutexKey& key, uint32_t bitset, int count);
  // Also those that wait without the sentry (platform::AddressSpace::WakeFutex). Parks.
  int WakeBoth(MemoryManager& mm, const FutexKey& key, Addr addr, bool private_futex, uint32_t bitset, int count);
  static bool Cancel(Waiter& waiter);
  static RefPtr<base::Fiber> TakeLocked(Bucket& bucket, Waiter& waiter) REQUIRES(bucket.mu);
  static void AppendLocked(Bucket& bucket, Waiter& waiter) REQUIRES(bucket.mu);
  static void UnlinkLocked(Bucket& bucket, Waiter& waiter) REQUIRES(bucket.mu);
  std::array<Bucket, 256> buckets_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_FUTEX_H_
