#include "base/wait_queue.h"

namespace base {

WaitEntry::WaitEntry(EventMask mask, Fiber* fiber) : mask_(mask) {
  if (fiber == nullptr) fiber = Fiber::Current();
  CHECK(fiber != nullptr);
  // A raw pointer is enough: the entry belongs to that fiber's wait and is removed before the fiber goes on.
  callback_ = [fiber](EventMask) { fiber->Unpark(); };
}

WaitEntry::~WaitEntry() { CHECK(!linked_); }

WaitQueue::~WaitQueue() { CHECK(count_.load(std::memory_order_relaxed) == 0); }

void WaitQueue::Add(WaitEntry& entry) {
  MutexLock lock(mu_);
  CHECK(!entry.linked_);
  entry.linked_ = true;
  entry.next_ = nullptr;
  entry.prev_ = tail_;
  (tail_ != nullptr ? tail_->next_ : head_) = &entry;
  tail_ = &entry;
  // A waiter adds its entry and then looks at the condition; a notifier changes the condition and then looks at the
  // count. One of them has to see the other: read-modify-writes of the count on both sides put one before the other.
  count_.fetch_add(1, std::memory_order_acq_rel);
}

void WaitQueue::Remove(WaitEntry& entry) {
  MutexLock lock(mu_);
  if (!entry.linked_) return;
  (entry.prev_ != nullptr ? entry.prev_->next_ : head_) = entry.next_;
  (entry.next_ != nullptr ? entry.next_->prev_ : tail_) = entry.prev_;
  entry.next_ = entry.prev_ = nullptr;
  entry.linked_ = false;
  count_.fetch_sub(1, std::memory_order_relaxed);
}

bool WaitQueue::Notify(EventMask events) {
  if (count_.fetch_add(0, std::memory_order_acq_rel) == 0) return false;  // see Add
  MutexLock lock(mu_);
  bool any = false, exclusive_done = false;
  for (WaitEntry* entry = head_; entry != nullptr;) {
    WaitEntry* next = entry->next_;
    if ((events & (entry->mask_ | kEventErr | kEventHup)) != 0 && !(entry->exclusive_ && exclusive_done)) {
      any = true;
      entry->declined_ = false;
      entry->callback_(events);
      if (entry->exclusive_ && !entry->declined_) exclusive_done = true;
    }
    entry = next;
  }
  return any;
}

bool WaitQueue::empty() const { return count_.load(std::memory_order_acquire) == 0; }

}  // namespace base
