// Listings of directories of an exclusive tree, which nobody else changes: those that were read last, and those that
// came with the look-up of a directory because its neighbours had been listed (find, du, tar walk a tree so).
#ifndef SENTRY_FS_GOFER_LISTING_CACHE_H_
#define SENTRY_FS_GOFER_LISTING_CACHE_H_

#include <cstdint>
#include <list>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "gofer/client/client.h"

namespace sentry::goferfs {

class GoferDirectory;

// The beginning of a directory, from the first entry on. Never changes.
class Listing final : public base::RefCounted {
 public:
  explicit Listing(gofer::DirectoryChunk chunk) : chunk_(std::move(chunk)) {}
  const gofer::DirectoryChunk& chunk() const { return chunk_; }
  uint64_t bytes() const;  // of our memory, about

 private:
  const gofer::DirectoryChunk chunk_;
};

// Every member may be called by any fiber. Directories are keys only, and drop their listing when they end.
class ListingCache {
 public:
  static constexpr uint64_t kMaxBytes = 256 << 10;

  // Changes of directories so far. Taken before the gofer is asked for a listing, for Put.
  uint64_t changes() const EXCLUDES(mu_);
  // The listing of `directory`, or null.
  base::RefPtr<const Listing> Get(const GoferDirectory& directory) EXCLUDES(mu_);
  // Keeps `listing`, unless directories have changed since `changes`. Drops what has not been used for longest.
  void Put(const GoferDirectory& directory, base::RefPtr<const Listing> listing, bool prefetched, uint64_t changes)
      EXCLUDES(mu_);
  // `directory` changes, or ends.
  void Drop(const GoferDirectory& directory, bool changes) EXCLUDES(mu_);
  // Whether listings that came along were of use lately.
  bool PrefetchPays() const EXCLUDES(mu_);

 private:
  struct Entry {
    const GoferDirectory* directory;
    base::RefPtr<const Listing> listing;
    bool prefetched;  // and not used yet
  };
  // Earned by listings that were wanted, spent on those that were prefetched.
  static constexpr int kFirstCredit = 8, kMaxCredit = 64;

  mutable base::Mutex mu_;
  std::list<Entry> entries_ GUARDED_BY(mu_);  // the one used last comes first
  absl::flat_hash_map<const GoferDirectory*, std::list<Entry>::iterator> by_directory_ GUARDED_BY(mu_);
  uint64_t bytes_ GUARDED_BY(mu_) = 0;
  uint64_t changes_ GUARDED_BY(mu_) = 0;
  int credit_ GUARDED_BY(mu_) = kFirstCredit;
};

}  // namespace sentry::goferfs

#endif  // SENTRY_FS_GOFER_LISTING_CACHE_H_
