// madvise(2), msync(2), mincore(2) (mm/madvise.c, mm/msync.c, mm/mincore.c).
#include <sys/mman.h>

#include <algorithm>

#include "base/syscall_unsafe.h"
#include "sentry/mm/mm_state.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace sentry {

using base::Range;
using base::ReaderLock;
using base::WriterLock;
using platform::FileRange;

namespace {

// What an advice does to one VMA's part. ENOMEM for holes is the caller's.
Result<void> Discard(MemoryManager::State& s, const Vma& v, Range r, bool even_locked, HostBatch& batch) {
  if (v.locked && !even_locked) return Errno(EINVAL);
  if (v.special) return Errno(EINVAL);
  if (v.shared) return {};  // the file keeps the pages
  if (v.file) {
    s.DropPages(r, true, batch);  // private copies go: the file shows through again
    s.BackEagerly(r, batch, false);
    return {};
  }
  s.pages.SplitAt(r.end);
  for (auto it = s.pages.SplitAt(r.start); it != s.pages.end() && it->first < r.end;) {
    Page& p = it->second.value;
    Range part = PageMap::RangeOf(it);
    FileRange extent{p.offset, p.offset + part.length()};
    if (p.cow && !s.memory_file.IsExclusive(extent)) {
      if (p.mapped) batch.Unmap(part);
      batch.Free(extent);
      it = s.pages.Erase(it);
      continue;
    }
    // Nobody else sees them: they become zeros where they are, and the host's mapping stays.
    s.memory_file.Decommit(extent);
    it = std::next(s.pages.MergeAround(it));
  }
  return {};
}

}  // namespace

Result<void> MemoryManager::Madvise(Addr addr, uint64_t length, int advice) {
  if (addr & kPageMask) return Errno(EINVAL);
  uint64_t bytes = PageRoundUp(length);
  if (bytes < length || addr + bytes < addr) return Errno(EINVAL);
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_DONTNEED_LOCKED:
    case MADV_COLLAPSE:
      break;
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:  // as without CONFIG_KSM
    default:
      return Errno(EINVAL);
  }
  if (bytes == 0) return {};
  Range r{addr, addr + bytes};

  if (advice == MADV_REMOVE) {
    // Holes are punched without the lock, because the file then calls Invalidate.
    struct Hole {
      RefPtr<Mappable> file;
      uint64_t offset, length;
    };
    std::vector<Hole> holes;
    {
      ReaderLock lock(lock_);
      State& s = *state_;
      for (auto it = s.vmas.LowerBound(r.start); it != s.vmas.end() && it->first < r.end; ++it) {
        const Vma& v = it->second.value;
        Range part = VmaMap::RangeOf(it).Intersect(r);
        if (v.locked || !v.file || v.special) return Errno(EINVAL);
        if (!v.shared || !(v.max_prot & kWrite)) return Errno(EACCES);
        holes.push_back({v.file, v.offset + (part.start - it->first), part.length()});
      }
      if (!s.Covered(r)) return Errno(ENOMEM);
    }
    for (const Hole& hole : holes) {
      if (auto punched = hole.file->PunchHole(hole.offset, hole.length); !punched.ok()) return punched;
    }
    return {};
  }

  WriterLock lock(lock_);
  State& s = *state_;
  // madvise_walk_vmas: unmapped parts are skipped, and reported at the end.
  Result<void> result;
  if (!s.Covered(r)) result = Errno(ENOMEM);
  HostBatch batch;
  if (advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) {
    if (!result.ok()) return result;
    for (auto it = s.vmas.LowerBound(r.start); it != s.vmas.end() && it->first < r.end; ++it) {
      const Vma& v = it->second.value;
      bool ok = advice == MADV_POPULATE_WRITE ? (v.prot & kWrite) != 0 : v.prot != 0;
      if (!ok || v.special) return Errno(v.special ? EINVAL : EFAULT);
    }
    s.PopulateMapped(r);
    Result<void> backed = s.BackRange(r, advice == MADV_POPULATE_WRITE, State::Effort::kFault, batch, true);
    Result<void> committed = s.Commit(batch);
    if (!backed.ok()) return Errno(backed.failed_with(ENOMEM) ? ENOMEM : EFAULT);
    return committed;
  }
  auto for_each = [&](auto&& f) -> Result<void> {
    for (Addr at = r.start; at < r.end;) {
      auto it = s.vmas.LowerBound(at);
      if (it == s.vmas.end() || it->first >= r.end) break;
      Range part = VmaMap::RangeOf(it).Intersect({at, r.end});
      at = part.end;
      if (Result<void> one = f(it->second.value, part); !one.ok()) return one;
    }
    return {};
  };
  auto set = [&](auto&& change) {
    return for_each([&](Vma& v, Range part) -> Result<void> {
      s.ChangeVmas(part, change);
      return {};
    });
  };
  Result<void> done;
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
      done = for_each([&](Vma& v, Range part) { return Discard(s, v, part, advice == MADV_DONTNEED_LOCKED, batch); });
      break;
    case MADV_FREE:
      done = for_each([&](Vma& v, Range part) -> Result<void> {
        if (v.shared || v.file) return Errno(EINVAL);
        return Discard(s, v, part, true, batch);
      });
      break;
    case MADV_DONTFORK:
      done = set([](Vma& v) { v.dont_fork = true; });
      break;
    case MADV_DOFORK:
      done = for_each([&](Vma& v, Range part) -> Result<void> {
        if (v.special) return Errno(EINVAL);
        s.ChangeVmas(part, [](Vma& v) { v.dont_fork = false; });
        return {};
      });
      break;
    case MADV_WIPEONFORK:
      done = for_each([&](Vma& v, Range part) -> Result<void> {
        if (v.file || v.shared) return Errno(EINVAL);
        s.ChangeVmas(part, [](Vma& v) { v.wipe_on_fork = true; });
        return {};
      });
      break;
    case MADV_KEEPONFORK:
      done = set([](Vma& v) { v.wipe_on_fork = false; });
      break;
    case MADV_DONTDUMP:
      done = set([](Vma& v) { v.dont_dump = true; });
      break;
    case MADV_DODUMP:
      done = for_each([&](Vma& v, Range part) -> Result<void> {
        if (v.special) return Errno(EINVAL);
        s.ChangeVmas(part, [](Vma& v) { v.dont_dump = false; });
        return {};
      });
      break;
    default:
      break;  // advice about read-ahead, reclaim and huge pages changes nothing here
  }
  Result<void> committed = s.Commit(batch);
  if (!done.ok()) return done;
  if (!committed.ok()) return committed;
  return result;
}

Result<void> MemoryManager::Msync(Addr addr, uint64_t length, int flags) {
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return Errno(EINVAL);
  if (addr & kPageMask) return Errno(EINVAL);
  if ((flags & MS_ASYNC) && (flags & MS_SYNC)) return Errno(EINVAL);
  uint64_t bytes = PageRoundUp(length);
  if (bytes < length || addr + bytes < addr) return Errno(ENOMEM);
  Range r{addr, addr + bytes};
  struct Part {
    RefPtr<Mappable> file;
    uint64_t offset, length;
  };
  std::vector<Part> parts;
  bool covered;
  {
    ReaderLock lock(lock_);
    State& s = *state_;
    covered = r.empty() || s.Covered(r);
    for (auto it = s.vmas.LowerBound(r.start); it != s.vmas.end() && it->first < r.end; ++it) {
      const Vma& v = it->second.value;
      Range part = VmaMap::RangeOf(it).Intersect(r);
      if ((flags & MS_INVALIDATE) && v.locked) return Errno(EBUSY);
      if ((flags & MS_SYNC) && v.shared && v.file)
        parts.push_back({v.file, v.offset + (part.start - it->first), part.length()});
    }
  }
  for (const Part& part : parts) {
    if (auto synced = part.file->Msync(part.offset, part.length); !synced.ok()) return synced;
  }
  if (!covered) return Errno(ENOMEM);
  return {};
}

Result<std::vector<uint8_t>> MemoryManager::Mincore(Addr addr, uint64_t length) {
  if (addr & kPageMask) return Errno(EINVAL);
  uint64_t bytes = PageRoundUp(length);
  ReaderLock lock(lock_);
  State& s = *state_;
  if (bytes < length || bytes > s.task_size || addr > s.task_size - bytes) return Errno(ENOMEM);
  Range r{addr, addr + bytes};
  std::vector<uint8_t> out;
  if (r.empty()) return out;
  if (!s.Covered(r)) return Errno(ENOMEM);
  out.resize(bytes / kPageSize);
  for (auto it = s.pages.LowerBound(r.start); it != s.pages.end() && it->first < r.end; ++it) {
    const Page& p = it->second.value;
    Range entry = PageMap::RangeOf(it);
    Range part = entry.Intersect(r);
    if (!p.memory_file) {
      // A donated file: what it translated to is in the host's page cache, or will be after one read.
      std::fill(out.begin() + (part.start - addr) / kPageSize, out.begin() + (part.end - addr) / kPageSize, 1);
      continue;
    }
    FileRange extent = p.FileRangeOf(entry, part);
    const uint64_t base = extent.start;
    while (!extent.empty()) {
      FileRange data = s.memory_file.NextData(extent);
      if (data.empty()) break;
      auto at = out.begin() + (part.start - addr) / kPageSize;
      std::fill(at + (data.start - base) / kPageSize, at + (PageRoundUp(data.end) - base) / kPageSize, 1);
      extent.start = data.end;
    }
  }
  return out;
}

}  // namespace sentry
