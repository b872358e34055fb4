// FileLocks: the locks on one inode: flock(2), POSIX record locks and open-file-description locks (fcntl(2));
// fs/locks.c.
//
// flock locks belong to an open file description. Record locks belong to an owner: the descriptor table of a process
// (POSIX), or an open file description (OFD). The two worlds do not see each other, as on Linux. Waiting is
// interruptible. A POSIX lock that would close a cycle of waiting owners fails with EDEADLK; OFD and flock locks have
// no such check, as on Linux.
#ifndef SENTRY_VFS_FILE_LOCKS_H_
#define SENTRY_VFS_FILE_LOCKS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/charged_memory.h"
#include "base/errno.h"
#include "base/mutex.h"
#include "base/wait_queue.h"

namespace sentry {

using base::Errno;
using base::Result;

class Blocker;

enum class LockType : uint8_t { kRead, kWrite, kUnlock };

struct LockRange {
  int64_t start = 0;
  int64_t end = INT64_MAX;  // inclusive, as OFFSET_MAX: to the end however far it grows
  bool Overlaps(const LockRange& o) const { return start <= o.end && o.start <= end; }
};

struct RecordLock {
  LockType type = LockType::kRead;
  LockRange range;
  const void* owner = nullptr;  // FdTable or FileDescription
  bool ofd = false;
  int pid = 0;  // for F_GETLK; −1 is shown for OFD locks
};

class FileLocks {
 public:
  FileLocks() = default;
  ~FileLocks();

  // man 2 flock. `description` is the owner. EWOULDBLOCK without a blocker; ERESTARTSYS_ if a signal came. Changing the
  // type of a lock is not atomic: the old one is gone even if waiting for the new one fails, as on Linux.
  Result<void> Flock(const void* description, LockType type, Blocker* blocker) EXCLUDES(mu_);
  // F_SETLK (no blocker: EAGAIN) and F_SETLKW. ENOLCK beyond kMaxRecordLocks, and
  // at the sandbox's limit.
  Result<void> SetLock(const RecordLock& lock, Blocker* blocker) EXCLUDES(mu_);
  // F_GETLK: a lock that is in the way of `lock`.
  std::optional<RecordLock> TestLock(const RecordLock& lock) const EXCLUDES(mu_);
  // Everything that an owner holds: its descriptor table closed a descriptor of this file, or the description ended.
  void ReleaseRecords(const void* owner) EXCLUDES(mu_);
  void ReleaseFlock(const void* description) EXCLUDES(mu_);

  // --- Leases (fcntl F_SETLEASE; fs/locks.c). A read lease is broken by an open for writing or a truncation, a write
  // lease by every open.
  // EAGAIN when others have the file open in a way that conflicts, or have leases; kUnlock without a lease. `broken` is
  // called under the lock when somebody wants the lease to end.
  Result<void> SetLease(const void* description, LockType type, int open_count, int write_count, bool writable,
                        std::function<void()> broken) EXCLUDES(mu_);
  // What the holder has, or, while it is being broken, what it is to become.
  LockType GetLease(const void* description) const EXCLUDES(mu_);
  void ReleaseLease(const void* description) EXCLUDES(mu_);
  // Tells holders that are in the way and waits until they have given in, at most lease-break-time each. EWOULDBLOCK
  // without a blocker; ERESTARTSYS_.
  Result<void> BreakLeases(bool for_write, Blocker* blocker) EXCLUDES(mu_);

  using RecordLocks = std::vector<RecordLock, base::ChargedAllocator<RecordLock>>;
  struct Snapshot {
    RecordLocks records;
    std::vector<RecordLock> flocks;
  };
  Snapshot List() const EXCLUDES(mu_);  // for /proc/locks and fdinfo

  static constexpr size_t kMaxRecordLocks = 65536;  // per inode: what a guest can make us remember

 private:
  struct FlockEntry {
    const void* description;
    LockType type;
  };
  const RecordLock* FindConflict(const RecordLock& lock) const REQUIRES(mu_);
  bool FlockConflicts(const void* description, LockType type) const REQUIRES(mu_);
  // Replaces what the owner holds in the range; neighbours of the same type merge.
  Result<void> ApplyLocked(const RecordLock& lock) REQUIRES(mu_);
  bool RemoveFlockLocked(const void* description) REQUIRES(mu_);

  struct Lease {
    const void* description;
    LockType type;
    LockType target;  // what it is to become; the same as type unless it is being broken
    int64_t deadline_ns;
    std::function<void()> broken;
  };
  bool LeaseInTheWay(bool for_write, int64_t now, int64_t* deadline) REQUIRES(mu_);

  mutable base::Mutex mu_;
  RecordLocks records_ GUARDED_BY(mu_);  // of one owner: disjoint; sorted by (owner, start)
  std::vector<FlockEntry, base::ChargedAllocator<FlockEntry>> flocks_ GUARDED_BY(mu_);
  std::vector<Lease, base::ChargedAllocator<Lease>> leases_ GUARDED_BY(mu_);
  base::WaitQueue released_;
};

}  // namespace sentry

#endif  // SENTRY_VFS_FILE_LOCKS_H_
