#include "sentry/vfs/dentry_cache.h"

namespace sentry {
namespace {

// A bound socket is reached through its inode, which may have nobody else to keep it (gofer, overlay).
bool HoldsSocket(const Dentry& dentry) {
  Inode* inode = dentry.inode_ptr();
  if (inode == nullptr || inode->type() != FileType::kSocket) return false;
  base::MutexLock l(inode->special_mu);
  return inode->special != nullptr;
}

}  // namespace

DentryCache& DentryCache::Get() {
  static DentryCache* cache = new DentryCache;  // never destroyed: dentries of static objects may outlive main
  return *cache;
}

bool DentryCache::Keep(Dentry& dentry) {
  Superblock& sb = *dentry.superblock_;
  if (dentry.unlinked() || !sb.CacheDentries() || sb.cache_closed_.load(std::memory_order_acquire)) return false;
  const bool scarce = pressure_ && pressure_();
  Batch batch;
  {
    // Nobody has a reference, so nobody moves it: the parent is stable.
    Dentry* parent;
    {
      base::MutexLock l(dentry.mu_);
      parent = dentry.parent_.get();
    }
    // Nothing is found in a directory that left the tree.
    if (parent == nullptr || parent->unlinked()) return false;
    // Under the parent's lock a lookup either sees the count at zero and replaces the entry, or sees ours.
    base::MutexLock l(parent->mu_);
    if (!dentry.hashed_) return false;
    dentry.refs_.store(1, std::memory_order_release);
  }
  {
    base::MutexLock l(mu_);
    // Between the two locks it may have been found and unlinked: Drop came too early for it. (It cannot have come here
    // a second time: the reference we made keeps its count above zero.)
    if (dentry.unlinked()) {
      batch.dentries[batch.count++] = &dentry;
    } else {
      PushFrontLocked(dentry);
      const size_t capacity = scarce ? 0 : capacity_;
      if (size_ > capacity) EvictLocked(capacity, batch);
    }
  }
  Release(batch);
  // A superblock that was closed meanwhile may have missed it.
  if (sb.cache_closed_.load(std::memory_order_acquire)) Forget(sb);
  return true;
}

void DentryCache::PushFrontLocked(Dentry& dentry) {
  dentry.in_lru_ = true;
  dentry.lru_prev_ = nullptr;
  dentry.lru_next_ = head_;
  if (head_ != nullptr) head_->lru_prev_ = &dentry;
  head_ = &dentry;
  if (tail_ == nullptr) tail_ = &dentry;
  ++size_;
}

void DentryCache::UnlinkLocked(Dentry& dentry) {
  (dentry.lru_prev_ != nullptr ? dentry.lru_prev_->lru_next_ : head_) = dentry.lru_next_;
  (dentry.lru_next_ != nullptr ? dentry.lru_next_->lru_prev_ : tail_) = dentry.lru_prev_;
  dentry.lru_next_ = dentry.lru_prev_ = nullptr;
  dentry.in_lru_ = false;
  --size_;
}

void DentryCache::EvictLocked(size_t target, Batch& out) {
  // Second chance for what was used since it last came by; bounded so that the lock is not held long.
  for (size_t steps = 0; size_ > target && out.count < kBatch && steps < 2 * kBatch; ++steps) {
    Dentry* dentry = tail_;
    UnlinkLocked(*dentry);
    if (dentry->recently_used_.exchange(false, std::memory_order_relaxed) || HoldsSocket(*dentry)) {
      PushFrontLocked(*dentry);
    } else {
      out.dentries[out.count++] = dentry;
    }
  }
}

void DentryCache::Release(Batch& batch) {
  for (size_t i = 0; i < batch.count; ++i) {
    Dentry* dentry = batch.dentries[i];
    uint32_t one = 1;
    // Unused: it goes. In use: it comes back here when that ends.
    if (dentry->refs_.compare_exchange_strong(one, 0, std::memory_order_acq_rel)) {
      Dentry::Destroy(dentry);
    } else {
      dentry->Unref();
    }
  }
  batch.count = 0;
}

void DentryCache::ShrinkTo(size_t count) {
  int fruitless = 0;
  for (;;) {
    Batch batch;
    bool more;
    {
      base::MutexLock l(mu_);
      size_t before = size_;
      EvictLocked(count, batch);
      // Nothing but bound sockets and what is in use again: enough.
      more = size_ > count && (size_ < before || ++fruitless < 1000);
    }
    Release(batch);
    if (!more) return;
  }
}

void DentryCache::Close(Superblock& superblock) {
  superblock.cache_closed_.store(true, std::memory_order_release);
  Forget(superblock);
}

void DentryCache::Forget(Superblock& superblock) {
  bool closing = superblock.cache_closed_.load(std::memory_order_acquire);
  // Children enter before their parents, so going from old to new meets most parents when their children are gone.
  for (bool more = true; more;) {
    Batch batch;
    more = false;
    {
      base::MutexLock l(mu_);
      for (Dentry* d = tail_; d != nullptr;) {
        Dentry* prev = d->lru_prev_;
        if (d->superblock_.get() == &superblock && (closing || !HoldsSocket(*d))) {
          if (batch.count == kBatch) {
            more = true;
            break;
          }
          UnlinkLocked(*d);
          batch.dentries[batch.count++] = d;
        }
        d = prev;
      }
    }
    Release(batch);
  }
}

void DentryCache::Drop(Dentry& dentry) {
  Batch batch;
  {
    base::MutexLock l(mu_);
    if (!dentry.in_lru_) return;
    UnlinkLocked(dentry);
    batch.dentries[batch.count++] = &dentry;
  }
  Release(batch);
}

size_t DentryCache::size() const {
  base::MutexLock l(mu_);
  return size_;
}

void DentryCache::set_capacity(size_t capacity) {
  {
    base::MutexLock l(mu_);
    capacity_ = capacity;
  }
  ShrinkTo(capacity);
}

}  // namespace sentry
