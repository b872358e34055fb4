// Leases. (fcntl F_SETLEASE, F_GETLEASE; fs/locks.c: generic_setlease, __break_lease)
#include <algorithm>

#include "base/time.h"
#include "sentry/vfs/file_locks.h"
#include "sentry/vfs/path.h"

namespace sentry {

namespace {

constexpr int64_t kBreakTimeNs = 45'000'000'000;  // /proc/sys/fs/lease-break-time

}  // namespace

Result<void> FileLocks::SetLease(const void* description, LockType type, int open_count, int write_count, bool writable,
                                 std::function<void()> broken) {
  if (type != LockType::kUnlock) TRY(base::ChargedMemory::Admit());
  {
    base::MutexLock lock(mu_);
    auto mine =
        std::find_if(leases_.begin(), leases_.end(), [&](const Lease& l) { return l.description == description; });
    if (type == LockType::kUnlock) {
      if (mine == leases_.end()) return Errno(EAGAIN);
      leases_.erase(mine);
    } else {
      // check_conflicting_open: a read lease and a writer do not go together, nor a write lease and any other opener.
      if (type == LockType::kRead && write_count > 0) return Errno(EAGAIN);
      if (type == LockType::kWrite && (open_count != 1 || write_count > (writable ? 1 : 0))) return Errno(EAGAIN);
      for (const Lease& other : leases_) {
        if (other.description == description) continue;
        if (type == LockType::kWrite || other.target == LockType::kUnlock) return Errno(EAGAIN);
      }
      if (mine == leases_.end()) {
        leases_.push_back({description, type, type, 0, std::move(broken)});
      } else {
        mine->type = mine->target = type;
      }
    }
  }
  released_.Notify(base::kEventIn);
  return {};
}

LockType FileLocks::GetLease(const void* description) const {
  base::MutexLock lock(mu_);
  for (const Lease& lease : leases_) {
    if (lease.description == description) return lease.target;
  }
  return LockType::kUnlock;
}

void FileLocks::ReleaseLease(const void* description) {
  {
    base::MutexLock lock(mu_);
    if (std::erase_if(leases_, [&](const Lease& l) { return l.description == description; }) == 0) return;
  }
  released_.Notify(base::kEventIn);
}

bool FileLocks::LeaseInTheWay(bool for_write, int64_t now, int64_t* deadline) {
  bool found = false;
  for (size_t i = 0; i < leases_.size();) {
    Lease& lease = leases_[i];
    if (!for_write && lease.type != LockType::kWrite) {
      ++i;
      continue;
    }
    const LockType target = for_write ? LockType::kUnlock : LockType::kRead;
    const bool breaking = lease.target != lease.type;
    if (!breaking || (for_write && lease.target != LockType::kUnlock)) {
      lease.target = target;
      lease.deadline_ns = now + kBreakTimeNs;
      if (lease.broken) lease.broken();
    } else if (now >= lease.deadline_ns) {
      // Its holder has had its time (time_out_leases).
      lease.type = lease.target;
      if (lease.type == LockType::kUnlock) leases_.erase(leases_.begin() + static_cast<ptrdiff_t>(i));
      continue;
    }
    if (!found || lease.deadline_ns < *deadline) *deadline = lease.deadline_ns;
    found = true;
    ++i;
  }
  return found;
}

Result<void> FileLocks::BreakLeases(bool for_write, Blocker* blocker) {
  int64_t deadline = 0;
  auto free = [&] {
    base::MutexLock lock(mu_);
    return leases_.empty() || !LeaseInTheWay(for_write, base::MonotonicNow(), &deadline);
  };
  if (free()) return {};
  if (blocker == nullptr) return Errno(EWOULDBLOCK);
  for (;;) {
    Result<void> waited = blocker->BlockUntil(released_, base::kEventAll, free, deadline);
    if (!waited.failed_with(ETIMEDOUT)) return waited;
  }
}

}  // namespace sentry
