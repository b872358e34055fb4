#include <sys/resource.h>

#include <algorithm>

#include "base/syscall_unsafe.h"
#include "sentry/fs/gofer/file.h"
#include "sentry/fs/gofer/gofer_fs.h"

namespace sentry::goferfs {

HostFileCache& HostFileCache::Get() {
  static HostFileCache* cache = new HostFileCache;
  return *cache;
}

HostFileCache::HostFileCache() : limit_(1024) {
  rlimit limit = {};
  if (base::Host(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit).ok())
    limit_ = std::min<size_t>(limit.rlim_cur / 4, 4096);
}

void HostFileCache::PushFrontLocked(GoferFile& file) {
  file.in_lru_ = true;
  file.lru_prev_ = nullptr;
  file.lru_next_ = head_;
  if (head_ != nullptr) head_->lru_prev_ = &file;
  head_ = &file;
  if (tail_ == nullptr) tail_ = &file;
  ++size_;
}

void HostFileCache::UnlinkLocked(GoferFile& file) {
  (file.lru_prev_ != nullptr ? file.lru_prev_->lru_next_ : head_) = file.lru_next_;
  (file.lru_next_ != nullptr ? file.lru_next_->lru_prev_ : tail_) = file.lru_prev_;
  file.lru_next_ = file.lru_prev_ = nullptr;
  file.in_lru_ = false;
  --size_;
}

void HostFileCache::Touch(GoferFile& file) {
  size_t limit;
  {
    base::MutexLock l(mu_);
    if (file.in_lru_) UnlinkLocked(file);
    PushFrontLocked(file);
    if (size_ <= limit_) return;
    limit = limit_;
  }
  ShrinkTo(limit);
}

void HostFileCache::Remove(GoferFile& file) {
  base::MutexLock l(mu_);
  if (file.in_lru_) UnlinkLocked(file);
}

void HostFileCache::ShrinkTo(size_t files) {
  for (;;) {
    RefPtr<GoferFile> victim;
    {
      base::MutexLock l(mu_);
      if (size_ <= files) return;
      GoferFile* file = tail_;
      UnlinkLocked(*file);
      // One at zero references is being destroyed, with its descriptors.
      if (!file->TryRef()) continue;
      victim = RefPtr<GoferFile>::Adopt(file);
    }
    victim->DropDescriptors();
  }
}

void HostFileCache::set_limit(size_t limit) {
  {
    base::MutexLock l(mu_);
    limit_ = limit;
  }
  ShrinkTo(limit);
}

size_t HostFileCache::size() const {
  base::MutexLock l(mu_);
  return size_;
}

void SetIdleDescriptorLimit(size_t limit) { HostFileCache::Get().set_limit(limit); }
size_t IdleDescriptors() { return HostFileCache::Get().size(); }

}  // namespace sentry::goferfs
