// mlock(2) and relatives (mm/mlock.c). Locked memory is accounted and mapped in; whether the host keeps it in memory is
// the host's decision, for the sandbox may not hold RLIMIT_MEMLOCK of it. Differs from Linux.
#include <sys/mman.h>

#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using base::WriterLock;

Result<void> MemoryManager::Mlock(Addr addr, uint64_t length, int flags, bool may_exceed, const MmLimits& limits) {
  if (flags & ~MLOCK_ONFAULT) return Errno(EINVAL);
  uint64_t bytes = PageRoundUp(length + (addr & kPageMask));
  addr = PageRoundDown(addr);
  if (bytes < length || addr + bytes < addr) return Errno(EINVAL);
  if (bytes == 0) return {};
  if (limits.memlock == 0 && !may_exceed) return Errno(EPERM);
  TRY(base::ChargedMemory::Admit());
  Range r{addr, addr + bytes};
  WriterLock lock(lock_);
  State& s = *state_;
  // What is locked already does not count twice.
  uint64_t already = 0;
  for (auto it = s.vmas.LowerBound(r.start); it != s.vmas.end() && it->first < r.end; ++it) {
    if (it->second.value.locked) already += VmaMap::RangeOf(it).Intersect(r).length();
  }
  if (!may_exceed && (bytes > limits.memlock || s.locked_bytes - already > limits.memlock - bytes))
    return Errno(ENOMEM);
  if (!s.Covered(r)) return Errno(ENOMEM);
  const bool on_fault = flags & MLOCK_ONFAULT;
  s.ChangeVmas(r, [&](Vma& v) {
    v.locked = !v.special;
    v.lock_on_fault = on_fault && !v.special;
  });
  if (on_fault) return {};
  HostBatch batch;
  s.PopulateMapped(r);
  s.BackEagerly(r, batch, true);
  return s.Commit(batch);
}

Result<void> MemoryManager::Munlock(Addr addr, uint64_t length) {
  uint64_t bytes = PageRoundUp(length + (addr & kPageMask));
  addr = PageRoundDown(addr);
  if (bytes < length || addr + bytes < addr) return Errno(EINVAL);
  if (bytes == 0) return {};
  Range r{addr, addr + bytes};
  WriterLock lock(lock_);
  State& s = *state_;
  if (!s.Covered(r)) return Errno(ENOMEM);
  s.ChangeVmas(r, [](Vma& v) { v.locked = v.lock_on_fault = false; });
  return {};
}

Result<void> MemoryManager::MlockAll(int flags, bool may_exceed, const MmLimits& limits) {
  if (flags == 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT) return Errno(EINVAL);
  if (limits.memlock == 0 && !may_exceed) return Errno(EPERM);
  WriterLock lock(lock_);
  State& s = *state_;
  if ((flags & MCL_CURRENT) && !may_exceed && s.virtual_bytes > limits.memlock) return Errno(ENOMEM);
  const bool on_fault = flags & MCL_ONFAULT;
  s.lock_future = flags & MCL_FUTURE;
  s.lock_future_on_fault = s.lock_future && on_fault;
  if (!(flags & MCL_CURRENT)) return {};
  s.ChangeVmas({0, s.task_size}, [&](Vma& v) {
    v.locked = !v.special;
    v.lock_on_fault = on_fault && !v.special;
  });
  if (on_fault) return {};
  HostBatch batch;
  s.PopulateMapped({0, s.task_size});
  s.BackEagerly({0, s.task_size}, batch, true);
  (void)s.Commit(batch).ok();  // mm_populate's errors are ignored here, as in Linux
  return {};
}

Result<void> MemoryManager::MunlockAll() {
  WriterLock lock(lock_);
  State& s = *state_;
  s.lock_future = s.lock_future_on_fault = false;
  s.ChangeVmas({0, s.task_size}, [](Vma& v) { v.locked = v.lock_on_fault = false; });
  return {};
}

}  // namespace sentry
