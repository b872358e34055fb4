#include "sentry/fs/gofer/listing_cache.h"

#include <algorithm>

namespace sentry::goferfs {

uint64_t Listing::bytes() const {
  uint64_t bytes = sizeof(*this);
  for (const gofer::DirectoryEntry& e : chunk_.entries) {
    bytes += sizeof(e) + (e.name.size() < sizeof(std::string) / 2 ? 0 : e.name.size());
  }
  return bytes;
}

uint64_t ListingCache::changes() const {
  base::MutexLock l(mu_);
  return changes_;
}

bool ListingCache::PrefetchPays() const {
  base::MutexLock l(mu_);
  return credit_ > 0;
}

base::RefPtr<const Listing> ListingCache::Get(const GoferDirectory& directory) {
  base::MutexLock l(mu_);
  auto it = by_directory_.find(&directory);
  if (it == by_directory_.end()) {
    credit_ = std::max(credit_, std::min(credit_ + 1, kFirstCredit));  // it would have been of use
    return nullptr;
  }
  Entry& entry = *it->second;
  if (entry.prefetched) {
    entry.prefetched = false;
    credit_ = std::min(credit_ + 2, kMaxCredit);
  }
  entries_.splice(entries_.begin(), entries_, it->second);
  return entry.listing;
}

void ListingCache::Put(const GoferDirectory& directory, base::RefPtr<const Listing> listing, bool prefetched,
                       uint64_t changes) {
  const uint64_t bytes = listing->bytes();
  std::list<Entry> dropped;  // freed without the lock
  base::MutexLock l(mu_);
  if (prefetched) --credit_;
  if (changes != changes_ || bytes > kMaxBytes / 4) return;
  if (by_directory_.contains(&directory)) return;  // somebody else was faster, with the same
  entries_.push_front({&directory, std::move(listing), prefetched});
  by_directory_[&directory] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > kMaxBytes) {
    auto last = std::prev(entries_.end());
    by_directory_.erase(last->directory);
    bytes_ -= last->listing->bytes();
    dropped.splice(dropped.begin(), entries_, last);
  }
}

void ListingCache::Drop(const GoferDirectory& directory, bool changes) {
  base::RefPtr<const Listing> dropped;
  base::MutexLock l(mu_);
  if (changes) ++changes_;
  auto it = by_directory_.find(&directory);
  if (it == by_directory_.end()) return;
  dropped = std::move(it->second->listing);
  bytes_ -= dropped->bytes();
  entries_.erase(it->second);
  by_directory_.erase(it);
}

}  // namespace sentry::goferfs
