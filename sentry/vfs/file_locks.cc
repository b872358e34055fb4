#include "sentry/vfs/file_locks.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "sentry/vfs/path.h"

namespace sentry {
namespace {

bool SameOwner(const RecordLock& a, const RecordLock& b) { return a.owner == b.owner && a.ofd == b.ofd; }

bool Conflict(const RecordLock& a, const RecordLock& b) {
  return !SameOwner(a, b) && a.range.Overlaps(b.range) && (a.type == LockType::kWrite || b.type == LockType::kWrite);
}

// Which POSIX owner waits for which, over all inodes (fs/locks.c: blocked_hash). An owner is a process; several of its
// threads may wait at once.
class WaitGraph {
 public:
  // False if `waiter` waiting for `holder` would close a cycle.
  bool Add(const void* waiter, const void* holder) EXCLUDES(mu_) {
    base::MutexLock l(mu_);
    if (Reaches(holder, waiter, 0)) return false;
    edges_[waiter].push_back(holder);
    return true;
  }
  void Remove(const void* waiter, const void* holder) EXCLUDES(mu_) {
    base::MutexLock l(mu_);
    auto it = edges_.find(waiter);
    if (it == edges_.end()) return;
    auto& holders = it->second;
    if (auto at = std::find(holders.begin(), holders.end(), holder); at != holders.end()) holders.erase(at);
    if (holders.empty()) edges_.erase(it);
  }

 private:
  bool Reaches(const void* from, const void* to, int depth) REQUIRES(mu_) {
    if (from == to) return true;
    if (depth >= 10) return false;  // MAX_DEADLK_ITERATIONS: Linux gives up there as well
    auto it = edges_.find(from);
    if (it == edges_.end()) return false;
    for (const void* next : it->second) {
      if (Reaches(next, to, depth + 1)) return true;
    }
    return false;
  }
  base::Mutex mu_;
  absl::flat_hash_map<const void*, std::vector<const void*>> edges_ GUARDED_BY(mu_);
};

WaitGraph& Graph() {
  static WaitGraph* graph = new WaitGraph;
  return *graph;
}

}  // namespace

FileLocks::~FileLocks() = default;

bool FileLocks::FlockConflicts(const void* description, LockType type) const {
  return std::any_of(flocks_.begin(), flocks_.end(), [&](const FlockEntry& e) {
    return e.description != description && (type == LockType::kWrite || e.type == LockType::kWrite);
  });
}

bool FileLocks::RemoveFlockLocked(const void* description) {
  return std::erase_if(flocks_, [&](const FlockEntry& e) { return e.description == description; }) != 0;
}

Result<void> FileLocks::Flock(const void* description, LockType type, Blocker* blocker) {
  if (type != LockType::kUnlock && !base::ChargedMemory::Admit().ok()) return Errno(ENOLCK);
  bool notify = false;
  bool done = false;
  auto attempt = [&] {
    base::MutexLock l(mu_);
    if (FlockConflicts(description, type)) return false;
    flocks_.push_back({description, type});
    return true;
  };
  {
    base::MutexLock l(mu_);
    auto mine =
        std::find_if(flocks_.begin(), flocks_.end(), [&](const FlockEntry& e) { return e.description == description; });
    if (mine != flocks_.end() && mine->type == type) return {};
    notify = RemoveFlockLocked(description);
    if (type == LockType::kUnlock) {
      done = true;
    } else if (!FlockConflicts(description, type)) {
      flocks_.push_back({description, type});
      done = true;
    }
  }
  if (notify) released_.Notify(base::kEventAll);
  if (done) return {};
  if (blocker == nullptr) return Errno(EWOULDBLOCK);
  return blocker->BlockUntil(released_, base::kEventAll, attempt);
}

const RecordLock* FileLocks::FindConflict(const RecordLock& lock) const {
  for (const RecordLock& held : records_) {
    if (Conflict(held, lock)) return &held;
  }
  return nullptr;
}

Result<void> FileLocks::ApplyLocked(const RecordLock& lock) {
  RecordLocks kept;
  RecordLock merged = lock;
  for (const RecordLock& held : records_) {
    if (!SameOwner(held, lock)) {
      kept.push_back(held);
      continue;
    }
    bool adjacent = (held.range.end != INT64_MAX && held.range.end + 1 == merged.range.start) ||
                    (merged.range.end != INT64_MAX && merged.range.end + 1 == held.range.start);
    if (held.type == lock.type && (adjacent || held.range.Overlaps(merged.range))) {
      merged.range.start = std::min(merged.range.start, held.range.start);
      merged.range.end = std::max(merged.range.end, held.range.end);
      continue;
    }
    if (!held.range.Overlaps(lock.range)) {
      kept.push_back(held);
      continue;
    }
    // Of another type, or an unlock: what sticks out on either side stays.
    if (held.range.start < lock.range.start) {
      kept.push_back(held);
      kept.back().range.end = lock.range.start - 1;
    }
    if (held.range.end > lock.range.end) {
      kept.push_back(held);
      kept.back().range.start = lock.range.end + 1;
    }
  }
  if (lock.type != LockType::kUnlock) kept.push_back(merged);
  if (kept.size() > kMaxRecordLocks && kept.size() > records_.size()) return Errno(ENOLCK);
  std::sort(kept.begin(), kept.end(), [](const RecordLock& a, const RecordLock& b) {
    return a.owner != b.owner ? std::less<const void*>()(a.owner, b.owner) : a.range.start < b.range.start;
  });
  records_ = std::move(kept);
  return {};
}

Result<void> FileLocks::SetLock(const RecordLock& lock, Blocker* blocker) {
  if (lock.type == LockType::kUnlock) {
    Result<void> applied;
    {
      base::MutexLock l(mu_);
      applied = ApplyLocked(lock);
    }
    released_.Notify(base::kEventAll);
    return applied;
  }
  if (!base::ChargedMemory::Admit().ok()) return Errno(ENOLCK);
  for (;;) {
    RecordLock conflict;
    Result<void> applied;
    bool wait = false;
    {
      base::MutexLock l(mu_);
      if (const RecordLock* held = FindConflict(lock)) {
        conflict = *held;
        wait = true;
      } else {
        applied = ApplyLocked(lock);
      }
    }
    if (!wait) {
      // A write lock that became a read lock, or one that was merged: somebody may be able to go on.
      released_.Notify(base::kEventAll);
      return applied;
    }
    if (blocker == nullptr) return Errno(EAGAIN);
    bool in_graph = !lock.ofd && !conflict.ofd;
    if (in_graph && !Graph().Add(lock.owner, conflict.owner)) return Errno(EDEADLK);
    // Until that very holder is out of the way; whoever is next is looked at anew, for the deadlock check.
    Result<void> waited = blocker->BlockUntil(released_, base::kEventAll, [&] {
      base::MutexLock l(mu_);
      const RecordLock* held = FindConflict(lock);
      return held == nullptr || !SameOwner(*held, conflict);
    });
    if (in_graph) Graph().Remove(lock.owner, conflict.owner);
    TRY(waited);
  }
}

std::optional<RecordLock> FileLocks::TestLock(const RecordLock& lock) const {
  base::MutexLock l(mu_);
  const RecordLock* held = FindConflict(lock);
  if (held == nullptr) return std::nullopt;
  return *held;
}

void FileLocks::ReleaseRecords(const void* owner) {
  bool any;
  {
    base::MutexLock l(mu_);
    any = std::erase_if(records_, [&](const RecordLock& r) { return r.owner == owner; }) != 0;
  }
  if (any) released_.Notify(base::kEventAll);
}

void FileLocks::ReleaseFlock(const void* description) {
  bool any;
  {
    base::MutexLock l(mu_);
    any = RemoveFlockLocked(description);
  }
  if (any) released_.Notify(base::kEventAll);
}

FileLocks::Snapshot FileLocks::List() const {
  base::MutexLock l(mu_);
  Snapshot s;
  s.records = records_;
  for (const FlockEntry& e : flocks_) s.flocks.push_back({e.type, {}, e.description, true, 0});
  return s;
}

}  // namespace sentry
