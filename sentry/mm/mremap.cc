// mremap(2) (mm/mremap.c).
#include <linux/mman.h>

#include <algorithm>

#include "sentry/mm/mm_state.h"
#include "sentry/mm/shared_anonymous.h"

namespace sentry {

using base::Range;
using base::WriterLock;

Result<Addr> MemoryManager::Mremap(Addr old_addr, uint64_t old_length, uint64_t new_length, uint32_t flags,
                                   Addr new_addr, const MmLimits& limits) {
  if (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return Errno(EINVAL);
  const bool may_move = flags & MREMAP_MAYMOVE, fixed = flags & MREMAP_FIXED, dont_unmap = flags & MREMAP_DONTUNMAP;
  if ((fixed || dont_unmap) && !may_move) return Errno(EINVAL);
  if (dont_unmap && old_length != new_length) return Errno(EINVAL);
  if (old_addr & kPageMask) return Errno(EINVAL);
  uint64_t old_bytes = PageRoundUp(old_length), new_bytes = PageRoundUp(new_length);
  if (new_bytes == 0 || old_bytes < old_length) return Errno(EINVAL);
  TRY(base::ChargedMemory::Admit());

  WriterLock lock(lock_);
  State& s = *state_;
  if (old_addr >= s.task_size || old_bytes > s.task_size - old_addr || new_bytes > s.task_size) return Errno(EINVAL);
  Range from{old_addr, old_addr + old_bytes};
  if (fixed) {
    if ((new_addr & kPageMask) || new_addr > s.task_size - new_bytes) return Errno(EINVAL);
    if (new_addr < kMinAddr) return Errno(EPERM);
    if (Range{new_addr, new_addr + new_bytes}.Overlaps(from)) return Errno(EINVAL);
  }
  auto it = s.vmas.Find(old_addr);
  if (it == s.vmas.end()) return Errno(EFAULT);
  Vma v = it->second.value;
  Range vr = VmaMap::RangeOf(it);
  if (v.special && (dont_unmap || new_bytes != old_bytes)) return Errno(v.special && dont_unmap ? EINVAL : EFAULT);
  // An old size of 0 makes a second mapping of shared pages; of private ones it has had no meaning since 4.14.
  if (old_bytes == 0 && !v.shared) return Errno(EINVAL);
  if (old_bytes == 0 && !may_move) return Errno(EINVAL);

  if (!fixed && !dont_unmap && old_bytes != 0 && new_bytes <= old_bytes) {
    // Shrinking may span several VMAs, and never moves.
    if (new_bytes < old_bytes) {
      HostBatch batch;
      s.RemoveRange({old_addr + new_bytes, from.end}, batch);
      (void)s.Commit(batch).ok();
    }
    return old_addr;
  }
  if (from.end > vr.end) return Errno(EFAULT);
  if (v.file) v.offset += old_addr - vr.start;
  if (v.file && v.offset + new_bytes < v.offset) return Errno(EINVAL);

  uint64_t added = dont_unmap ? new_bytes : new_bytes > old_bytes ? new_bytes - old_bytes : 0;
  if (added > limits.address_space || s.virtual_bytes > limits.address_space - added) return Errno(ENOMEM);
  if (v.PrivateWritable() && !v.grows_down && (added > limits.data || s.data_bytes > limits.data - added))
    return Errno(ENOMEM);
  if (v.locked && (added > limits.memlock || s.locked_bytes > limits.memlock - added)) return Errno(EAGAIN);

  HostBatch batch;
  if (!fixed && !dont_unmap && old_bytes != 0 && from.end == vr.end) {
    // In place, if what follows is free.
    Range more{from.end, old_addr + new_bytes};
    if (more.end <= s.task_size && s.IsFree(more)) {
      Vma extension = v;
      if (extension.file) extension.offset += old_bytes;
      s.GiveUpTrampolinesIn(more, batch);
      s.InsertVma(more, std::move(extension));
      s.BackEagerly(more, batch, v.locked && !v.lock_on_fault);
      Result<void> committed = s.Commit(batch);
      if (committed.ok()) return old_addr;
      HostBatch undo;
      s.RemoveRange(more, undo);
      (void)s.Commit(undo).ok();
      return committed.error();
    }
  }
  if (!may_move) return Errno(ENOMEM);
  if (s.vmas.size() + 3 > kMaxMappings || s.memory_file.Full()) return Errno(ENOMEM);
  if (!fixed) {
    // With MREMAP_DONTUNMAP the address is a hint.
    new_addr = TRY(s.FindFree(dont_unmap ? new_addr : 0, new_bytes, false));
  }
  Range to{new_addr, new_addr + new_bytes};
  if (fixed) {
    s.RemoveRange(to, batch);
    s.GiveUpTrampolinesIn(to, batch);
  }

  // The pages move with their places in the memory file: nothing is copied.
  Range moved{old_addr, old_addr + std::min(old_bytes, new_bytes)};
  struct Piece {
    Range at;
    Page page;
  };
  std::vector<Piece> pieces;
  Range mapped{UINT64_MAX, 0};
  s.RestoreTextIn(moved, moved, State::Refuse::kNo, batch);
  s.pages.Remove(moved, [&](Range part, Page&& p) {
    if (p.mapped) {
      mapped.start = std::min(mapped.start, part.start);
      mapped.end = std::max(mapped.end, part.end);
      p.mapped = false;
      p.host_prot = 0;
    }
    pieces.push_back({{part.start - old_addr + new_addr, part.end - old_addr + new_addr}, std::move(p)});
  });
  if (!mapped.empty()) batch.Unmap(mapped);
  if (old_bytes != 0 && !dont_unmap) {
    s.InsertVma(to, v);  // before the old one goes, so that the file stays registered
    s.RemoveRange(from, batch);
  } else {
    if (dont_unmap) {
      // The old mapping stays, empty and unlocked.
      s.ChangeVmas(from, [](Vma& old) { old.locked = old.lock_on_fault = false; });
    }
    s.InsertVma(to, v);
  }
  for (Piece& piece : pieces) s.pages.Insert(piece.at, piece.page);
  s.SyncHost(to, batch);
  s.BackEagerly(to, batch, v.locked && !v.lock_on_fault);
  // If the host fails, the pages are still there and fault in again.
  (void)s.Commit(batch).ok();
  return new_addr;
}

}  // namespace sentry
