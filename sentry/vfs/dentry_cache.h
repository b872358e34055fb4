// DentryCache: owns dentries that nobody uses, so that names stay known; a bounded LRU over all superblocks (Linux:
// s_dentry_lru).
//
// A dentry enters when its last reference goes, with one reference that is the cache's, and stays when it is used again
// (so that a walk over cached names never touches this lock). It leaves at eviction, or when its superblock's last
// mount goes.
#ifndef SENTRY_VFS_DENTRY_CACHE_H_
#define SENTRY_VFS_DENTRY_CACHE_H_

#include <cstddef>
#include <functional>

#include "base/mutex.h"
#include "sentry/vfs/path.h"

namespace sentry {

class DentryCache {
 public:
  static constexpr size_t kDefaultCapacity = 16384;

  // The one of the process: dentries of all superblocks compete for the same room.
  static DentryCache& Get();
  // Takes an unreferenced dentry over. False if it is not to be kept: the caller destroys it.
  bool Keep(Dentry& dentry) EXCLUDES(mu_);
  // Destroys what is not in use, least recently used first, until at most `count` are left.
  void ShrinkTo(size_t count) EXCLUDES(mu_);
  // Forgets everything of a superblock that is not in use, and keeps nothing of it from now on.
  void Close(Superblock& superblock) EXCLUDES(mu_);
  // Forgets everything of a superblock that is not in use (drop_caches, a file system that learned of changes).
  void Forget(Superblock& superblock) EXCLUDES(mu_);
  // Gives up a dentry that left the tree and that the caller has a reference to: it must not keep a deleted file's
  // inode alive.
  void Drop(Dentry& dentry) EXCLUDES(mu_);
  size_t size() const EXCLUDES(mu_);
  void set_capacity(size_t capacity) EXCLUDES(mu_);
  // Says when memory is scarce: then nothing more is kept, and what is kept goes bit by bit. Set before the first use.
  void set_pressure(std::function<bool()> pressure) { pressure_ = std::move(pressure); }

 private:
  // Up to kBatch dentries leave the list; in `out` with the cache's reference.
  static constexpr size_t kBatch = 32;
  struct Batch {
    Dentry* dentries[kBatch];
    size_t count = 0;
  };
  void PushFrontLocked(Dentry& dentry) REQUIRES(mu_);
  void UnlinkLocked(Dentry& dentry) REQUIRES(mu_);
  void EvictLocked(size_t target, Batch& out) REQUIRES(mu_);
  static void Release(Batch& batch);

  std::function<bool()> pressure_;
  mutable base::Mutex mu_;
  Dentry* head_ GUARDED_BY(mu_) = nullptr;  // most recently entered
  Dentry* tail_ GUARDED_BY(mu_) = nullptr;
  size_t size_ GUARDED_BY(mu_) = 0;
  size_t capacity_ GUARDED_BY(mu_) = kDefaultCapacity;
};

}  // namespace sentry

#endif  // SENTRY_VFS_DENTRY_CACHE_H_
