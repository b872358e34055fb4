#include "sentry/kernel/futex.h"

#include <linux/futex.h>

#include "absl/cleanup/cleanup.h"
#include "absl/hash/hash.h"
#include "base/fiber.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

struct FutexManager::Waiter {
  FutexKey key;
  Addr addr = 0;  // of a private one; changes by requeue as `bucket` does
  uint32_t bitset = FUTEX_BITSET_MATCH_ANY;
  RefPtr<base::Fiber> fiber;
  RefPtr<Task> task;  // PI: whose tid the word gets
  // Where it is queued; changes by requeue, under both buckets' locks, without being null in between: null, which is a
  // waker's last access of the waiter, lets its fiber go on and destroy it.
  std::atomic<Bucket*> bucket{nullptr};
  std::atomic<bool> woken{false};  // set by the waker before that
  Waiter* next = nullptr;
  Waiter* prev = nullptr;
};

FutexManager::Bucket& FutexManager::BucketOf(const FutexKey& key) {
  return buckets_[absl::HashOf(key.object, key.offset) % buckets_.size()];
}

void FutexManager::AppendLocked(Bucket& bucket, Waiter& w) {
  w.prev = bucket.tail;
  w.next = nullptr;
  (bucket.tail ? bucket.tail->next : bucket.head) = &w;
  bucket.tail = &w;
  w.bucket.store(&bucket, std::memory_order_release);
}

void FutexManager::UnlinkLocked(Bucket& bucket, Waiter& w) {
  (w.prev ? w.prev->next : bucket.head) = w.next;
  (w.next ? w.next->prev : bucket.tail) = w.prev;
  w.next = w.prev = nullptr;
}

// Takes a waiter from wherever it is. False if somebody woke it first.
bool FutexManager::Cancel(Waiter& w) {
  for (;;) {
    Bucket* bucket = w.bucket.load(std::memory_order_acquire);
    if (bucket == nullptr) return false;
    base::MutexLock l(bucket->mu);
    if (w.bucket.load(std::memory_order_relaxed) != bucket) continue;
    UnlinkLocked(*bucket, w);
    w.bucket.store(nullptr, std::memory_order_relaxed);
    return true;
  }
}

// w leaves the queue. The caller unparks the fiber afterwards; w may be gone by then.
RefPtr<base::Fiber> FutexManager::TakeLocked(Bucket& bucket, Waiter& w) {
  RefPtr<base::Fiber> fiber = w.fiber;
  UnlinkLocked(bucket, w);
  w.woken.store(true, std::memory_order_relaxed);
  w.bucket.store(nullptr, std::memory_order_release);
  return fiber;
}

Result<void> FutexManager::Wait(Task& task, Addr addr, bool private_futex, uint32_t value, uint32_t bitset,
                                base::MonotonicNs deadline) {
  if (bitset == 0) return Errno(EINVAL);
  WaitSpec spec{addr, private_futex, value};
  TRY(WaitAny(task, std::span(&spec, 1), bitset, deadline));
  return {};
}

Result<int> FutexManager::WaitMultiple(Task& task, std::span<const WaitSpec> specs, base::MonotonicNs deadline) {
  return WaitAny(task, specs, FUTEX_BITSET_MATCH_ANY, deadline);
}

Result<int> FutexManager::WaitAny(Task& task, std::span<const WaitSpec> specs, uint32_t bitset,
                                  base::MonotonicNs deadline) {
  std::deque<Waiter> waiters;
  // Guest threads that wake private futexes by themselves hear of those who wait here before these look at the word,
  // and until they are out of the queue.
  platform::AddressSpace& space = task.mm().address_space();
  auto tell = absl::MakeCleanup([&] {
    for (const Waiter& w : waiters) {
      if (w.addr != 0) space.AddFutexWaiters(w.addr, -1);
    }
  });
  for (const WaitSpec& spec : specs) {
    Waiter& w = waiters.emplace_back();
    if (spec.private_futex && spec.addr != 0) {
      space.AddFutexWaiters(spec.addr, 1);
      w.addr = spec.addr;
    }
    w.key = TRY(task.mm().GetFutexKey(spec.addr, spec.private_futex));
    w.bitset = bitset;
    w.fiber = RefPtr<base::Fiber>(base::Fiber::Current());
  }
  auto woken = [&]() -> int {
    for (size_t i = 0; i < waiters.size(); ++i) {
      if (waiters[i].woken.load(std::memory_order_acquire)) return static_cast<int>(i);
    }
    return -1;
  };
  auto cancel_all = [&] {
    int index = -1;
    for (size_t i = 0; i < waiters.size(); ++i) {
      if (!Cancel(waiters[i]) && waiters[i].woken.load(std::memory_order_acquire) && index < 0)
        index = static_cast<int>(i);
    }
    return index;
  };
  // Queue first, then look at the word: a waker that changes it afterwards finds the waiter. Reading guest memory may
  // park, so it cannot be done under the bucket's lock; the word is read after queueing instead, and a mismatch takes
  // the waiter out again.
  for (size_t i = 0; i < specs.size(); ++i) {
    Bucket& bucket = BucketOf(waiters[i].key);
    {
      base::MutexLock l(bucket.mu);
      AppendLocked(bucket, waiters[i]);
    }
    Result<uint32_t> seen = task.mm().Load32(specs[i].addr);
    if (!seen.ok() || *seen != specs[i].value) {
      int index = cancel_all();
      if (index >= 0 && seen.ok()) return index;  // a wake-up came already: it must not be lost
      return seen.ok() ? Errno(EAGAIN) : seen.error();
    }
  }
  for (;;) {
    if (int index = woken(); index >= 0) {
      cancel_all();
      return index;
    }
    Task::Wake wake = task.ParkInterruptible(deadline);
    if (wake == Task::Wake::kWoken) continue;
    int index = cancel_all();
    if (index >= 0) return index;
    return Errno(wake == Task::Wake::kTimedOut ? ETIMEDOUT : base::ERESTARTSYS_);
  }
}

int FutexManager::WakeKey(const FutexKey& key, uint32_t bitset, int count) {
  Bucket& bucket = BucketOf(key);
  int n = 0;
  std::vector<RefPtr<base::Fiber>> fibers;
  {
    base::MutexLock l(bucket.mu);
    for (Waiter* w = bucket.head; w != nullptr && n < count;) {
      Waiter* next = w->next;
      if (w->key == key && (w->bitset & bitset)) {
        fibers.push_back(TakeLocked(bucket, *w));
        ++n;
      }
      w = next;
    }
  }
  for (RefPtr<base::Fiber>& fiber : fibers) fiber->Unpark();
  return n;
}

Result<int> FutexManager::Wake(MemoryManager& mm, Addr addr, bool private_futex, uint32_t bitset, int count) {
  if (bitset == 0) return Errno(EINVAL);
  FutexKey key = TRY(mm.GetFutexKey(addr, private_futex));
  return WakeBoth(mm, key, addr, private_futex, bitset, count);
}

int FutexManager::WakeBoth(MemoryManager& mm, const FutexKey& key, Addr addr, bool private_futex, uint32_t bitset,
                           int count) {
  int n = WakeKey(key, bitset, count);
  // Those that wait without the sentry do so for any bit.
  if (private_futex && n < count) n += mm.address_space().WakeFutex(addr, count - n).value_or(0);
  return n;
}

Result<int> FutexManager::Requeue(Task& task, Addr from, Addr to, bool private_futex, const uint32_t* compare, int wake,
                                  int requeue) {
  if (wake < 0 || requeue < 0) return Errno(EINVAL);
  FutexKey key1 = TRY(task.mm().GetFutexKey(from, private_futex));
  FutexKey key2 = TRY(task.mm().GetFutexKey(to, private_futex));
  if (compare != nullptr) {
    uint32_t seen = TRY(task.mm().Load32(from));
    if (seen != *compare) return Errno(EAGAIN);
  }
  Bucket& b1 = BucketOf(key1);
  Bucket& b2 = BucketOf(key2);
  std::vector<RefPtr<base::Fiber>> fibers;
  platform::AddressSpace& space = task.mm().address_space();
  // More than there can be, from before the first is moved until it is known how many were.
  constexpr int kMany = 1 << 24;
  if (private_futex) space.AddFutexWaiters(to, kMany);
  int moved = 0, counted = 0;
  {
    base::MutexPairLock l(b1.mu, b2.mu);
    for (Waiter* w = b1.head; w != nullptr;) {
      Waiter* next = w->next;
      if (w->key == key1) {
        if (static_cast<int>(fibers.size()) < wake) {
          fibers.push_back(TakeLocked(b1, *w));
        } else if (moved < requeue) {
          if (!(key1 == key2)) {
            UnlinkLocked(b1, *w);
            w->key = key2;
            w->addr = private_futex ? to : 0;
            AppendLocked(b2, *w);
            if (private_futex) ++counted;
          }
          ++moved;
        } else {
          break;
        }
      }
      w = next;
    }
  }
  const int woken = static_cast<int>(fibers.size());
  for (RefPtr<base::Fiber>& fiber : fibers) fiber->Unpark();
  if (!private_futex) return woken + moved;
  space.AddFutexWaiters(to, counted - kMany);
  space.AddFutexWaiters(from, -counted);
  return woken + moved + space.RequeueFutex(from, to, wake - woken, requeue - moved).value_or(0);
}

Result<int> FutexManager::WakeOp(Task& task, Addr addr1, Addr addr2, bool private_futex, int wake1, int wake2,
                                 uint32_t operation) {
  // man 2 futex, FUTEX_WAKE_OP: op:4 cmp:4 oparg:12 cmparg:12.
  const uint32_t op = (operation >> 28) & 7;
  const uint32_t cmp = (operation >> 24) & 15;
  int32_t oparg = static_cast<int32_t>(operation << 8) >> 20;
  const int32_t cmparg = static_cast<int32_t>(operation << 20) >> 20;
  if (operation & (uint32_t{FUTEX_OP_OPARG_SHIFT} << 28)) oparg = 1 << (oparg & 31);
  if (op > FUTEX_OP_XOR || cmp > FUTEX_OP_CMP_GE) return Errno(ENOSYS);
  FutexKey key1 = TRY(task.mm().GetFutexKey(addr1, private_futex));
  FutexKey key2 = TRY(task.mm().GetFutexKey(addr2, private_futex));
  uint32_t old = TRY(task.mm().Load32(addr2));
  for (;;) {
    uint32_t fresh = 0;
    switch (op) {
      case FUTEX_OP_SET:
        fresh = oparg;
        break;
      case FUTEX_OP_ADD:
        fresh = old + oparg;
        break;
      case FUTEX_OP_OR:
        fresh = old | oparg;
        break;
      case FUTEX_OP_ANDN:
        fresh = old & ~oparg;
        break;
      case FUTEX_OP_XOR:
        fresh = old ^ oparg;
        break;
    }
    uint32_t seen = TRY(task.mm().CompareExchange32(addr2, old, fresh));
    if (seen == old) break;
    old = seen;
  }
  const int32_t value = static_cast<int32_t>(old);
  bool also = false;
  switch (cmp) {
    case FUTEX_OP_CMP_EQ:
      also = value == cmparg;
      break;
    case FUTEX_OP_CMP_NE:
      also = value != cmparg;
      break;
    case FUTEX_OP_CMP_LT:
      also = value < cmparg;
      break;
    case FUTEX_OP_CMP_LE:
      also = value <= cmparg;
      break;
    case FUTEX_OP_CMP_GT:
      also = value > cmparg;
      break;
    case FUTEX_OP_CMP_GE:
      also = value >= cmparg;
      break;
  }
  int n = WakeBoth(task.mm(), key1, addr1, private_futex, FUTEX_BITSET_MATCH_ANY, wake1);
  if (also) n += WakeBoth(task.mm(), key2, addr2, private_futex, FUTEX_BITSET_MATCH_ANY, wake2);
  return n;
}

Result<void> FutexManager::LockPi(Task& task, Addr addr, bool private_futex, base::MonotonicNs deadline,
                                  bool try_only) {
  // The protocol of the word is Linux'; Differs from Linux: nobody's priority is raised, for tasks have none here.
  const uint32_t tid = static_cast<uint32_t>(task.tid());
  for (;;) {
    uint32_t seen = TRY(task.mm().Load32(addr));
    if ((seen & FUTEX_TID_MASK) == tid) return Errno(EDEADLK);
    if ((seen & FUTEX_TID_MASK) == 0) {
      uint32_t fresh = tid | (seen & (FUTEX_OWNER_DIED | FUTEX_WAITERS));
      uint32_t before = TRY(task.mm().CompareExchange32(addr, seen, fresh));
      if (before == seen) return {};
      continue;
    }
    if (try_only) return Errno(EAGAIN);
    if (!task.kernel().FindTask(static_cast<int>(seen & FUTEX_TID_MASK), task.pid_namespace())) return Errno(ESRCH);
    uint32_t contended = seen | FUTEX_WAITERS;
    if (contended != seen) {
      uint32_t before = TRY(task.mm().CompareExchange32(addr, seen, contended));
      if (before != seen) continue;
    }
    Result<void> waited = Wait(task, addr, private_futex, contended, FUTEX_BITSET_MATCH_ANY, deadline);
    if (waited.ok() || waited.failed_with(EAGAIN)) continue;
    if (waited.failed_with(base::ERESTARTSYS_)) return Errno(base::ERESTARTNOINTR_);
    return waited.error();
  }
}

Result<void> FutexManager::UnlockPi(Task& task, Addr addr, bool private_futex) {
  const uint32_t tid = static_cast<uint32_t>(task.tid());
  FutexKey key = TRY(task.mm().GetFutexKey(addr, private_futex));
  for (;;) {
    uint32_t seen = TRY(task.mm().Load32(addr));
    if ((seen & FUTEX_TID_MASK) != tid) return Errno(EPERM);
    uint32_t before = TRY(task.mm().CompareExchange32(addr, seen, 0));
    if (before != seen) continue;
    // All wake up and try again; the losers set FUTEX_WAITERS again.
    WakeKey(key, FUTEX_BITSET_MATCH_ANY, INT32_MAX);
    return {};
  }
}

void FutexManager::ExitRobustList(Task& task) {
  Addr head = task.robust_list_head;
  if (head == 0) return;
  MemoryManager& mm = task.mm();
  struct Head {
    uint64_t next;
    int64_t futex_offset;
    uint64_t pending;
  };
  Result<Head> list = mm.Read(UserPtr<Head>{head});
  if (!list.ok()) return;
  auto die = [&](uint64_t entry) {
    const Addr word = (entry & ~uint64_t{1}) + list->futex_offset;
    const bool pi = entry & 1;
    for (;;) {
      Result<uint32_t> seen = mm.Load32(word);
      if (!seen.ok()) return;
      if ((*seen & FUTEX_TID_MASK) != static_cast<uint32_t>(task.tid())) return;
      uint32_t fresh = (*seen & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
      Result<uint32_t> before = mm.CompareExchange32(word, *seen, fresh);
      if (!before.ok()) return;
      if (*before != *seen) continue;
      if (*seen & FUTEX_WAITERS) {
        // The list does not say whether its futexes are private: waiters may be under either key.
        (void)Wake(mm, word, /*private_futex=*/false, FUTEX_BITSET_MATCH_ANY, pi ? INT32_MAX : 1);
        (void)Wake(mm, word, /*private_futex=*/true, FUTEX_BITSET_MATCH_ANY, pi ? INT32_MAX : 1);
      }
      return;
    }
  };
  uint64_t entry = list->next;
  for (int i = 0; i < 2048 && (entry & ~uint64_t{1}) != head; ++i) {  // ROBUST_LIST_LIMIT
    Result<uint64_t> next = mm.Read(UserPtr<uint64_t>{entry & ~uint64_t{1}});
    if (entry != list->pending) die(entry);
    if (!next.ok()) break;
    entry = *next;
  }
  if (list->pending != 0) die(list->pending);
}

}  // namespace sentry
