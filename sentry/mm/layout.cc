// Where mappings go: the top-down area, hints, MAP_32BIT, stack guard gaps (arch/x86/mm/mmap.c, mm/mmap.c).
#include <algorithm>

#include "base/syscall_unsafe.h"
#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;

namespace {
// mm/mmap.c, stack_guard_gap: nothing is placed this close below a stack.
constexpr uint64_t kStackGuardGap = 256 * kPageSize;

uint64_t RandomBits() {
  uint64_t bits = 0;
  (void)base::HostRetry(SYS_getrandom, &bits, sizeof bits, 0).ok();
  return bits;
}

// The lowest address that belongs to the VMA: its guard gap included.
Addr GuardedStart(Addr start, const Vma& v) {
  if (!v.grows_down) return start;
  return start > kStackGuardGap ? start - kStackGuardGap : 0;
}
}  // namespace

bool MemoryManager::State::IsFree(Range r) const {
  auto it = vmas.LowerBound(r.start);
  return it == vmas.end() || r.end <= GuardedStart(it->first, it->second.value);
}

Result<Addr> MemoryManager::State::FindTopDown(uint64_t length) {
  Addr top = mmap_base;
  if (length > search_hole) {
    top = std::min(search_cache, mmap_base);
  } else {
    search_hole = 0;
  }
  // The first VMA at or above `top` may keep a guard gap that reaches below it.
  auto it = vmas.LowerBound(top);
  if (it != vmas.end()) top = std::min(top, GuardedStart(it->first, it->second.value));
  for (;;) {
    Addr bottom = it == vmas.begin() ? kMinAddr : std::max(kMinAddr, std::prev(it)->second.end);
    while (top > bottom && top - bottom >= length) {
      if (auto reserved = text.ReservedIn({top - length, top})) {
        if (top > reserved->end) search_hole = std::max(search_hole, top - reserved->end);
        top = reserved->start;
        continue;
      }
      search_cache = top - length;
      return top - length;
    }
    if (top > bottom) search_hole = std::max(search_hole, top - bottom);
    if (it == vmas.begin()) break;
    --it;
    top = std::min(top, GuardedStart(it->first, it->second.value));
    if (top <= kMinAddr) break;
  }
  // Nothing below: the next search starts over.
  search_cache = mmap_base;
  search_hole = 0;
  return FindBottomUp(length, mmap_base, task_size);
}

Result<Addr> MemoryManager::State::FindBottomUp(uint64_t length, Addr low, Addr high) {
  Addr at = std::max(low, kMinAddr);
  for (auto it = vmas.LowerBound(at);; ++it) {
    Addr limit = it == vmas.end() ? high : std::min(high, GuardedStart(it->first, it->second.value));
    while (limit > at && limit - at >= length) {
      auto reserved = text.ReservedIn({at, at + length});
      if (!reserved) return at;
      at = reserved->end;
    }
    if (it == vmas.end() || it->first >= high) return Errno(ENOMEM);
    at = std::max(at, it->second.end);
  }
}

Result<Addr> MemoryManager::State::FindFree(Addr hint, uint64_t length, bool map_32bit) {
  if (length > task_size - kMinAddr) return Errno(ENOMEM);
  if (map_32bit) {
    // arch/x86/kernel/sys_x86_64.c, find_start_end.
    constexpr Addr kLow = 0x40000000, kHigh = 0x80000000;
    Addr at = PageRoundUp(hint);
    if (at >= kLow && at < kHigh && kHigh - at >= length && IsFree({at, at + length}) &&
        !text.ReservedIn({at, at + length}))
      return at;
    return FindBottomUp(length, kLow, kHigh);
  }
  if (hint != 0) {
    Addr at = std::max(PageRoundUp(hint), kMinAddr);
    if (at < task_size && task_size - at >= length && IsFree({at, at + length}) && !text.ReservedIn({at, at + length}))
      return at;
  }
  return FindTopDown(length);
}

void MemoryManager::State::NoteFreed(Range r) {
  if (r.end <= search_cache) return;
  auto above = vmas.LowerBound(r.end);
  Addr end = above == vmas.end() ? mmap_base : std::min(above->first, mmap_base);
  Addr start = above == vmas.begin() ? kMinAddr : std::prev(above)->second.end;
  if (start <= search_cache) {
    search_cache = std::max(search_cache, end);  // the free space at which the search goes on has grown upwards
  } else if (end > start) {
    search_hole = std::max(search_hole, end - start);
  }
}

void MemoryManager::SetMmapBase(uint64_t stack_limit, bool randomize) {
  base::WriterLock lock(lock_);
  State& s = *state_;
  // arch/x86/mm/mmap.c, mmap_base(): room for the stack, its random offset (16 GiB) and the guard gap, at least 128 MiB
  // and at most 5/6 of the address space. Differs from Linux: an unlimited stack does not choose the bottom-up layout.
  constexpr uint64_t kMinGap = 128 << 20;
  constexpr uint64_t kMaxStackRandom = 16ull << 30;
  constexpr int kRandomBits = 28;
  uint64_t max_gap = s.task_size / 6 * 5;
  uint64_t gap = std::min(stack_limit, max_gap);
  gap += kStackGuardGap + (randomize ? kMaxStackRandom : 0);
  gap = std::clamp(gap, kMinGap, max_gap);
  uint64_t random = randomize ? (RandomBits() & ((1ull << kRandomBits) - 1)) * kPageSize : 0;
  s.mmap_base = PageRoundDown(s.task_size - gap - random);
  s.search_cache = s.mmap_base;
  s.search_hole = 0;
  s.stack_limit = stack_limit;
}

bool MemoryManager::State::GrowStack(Addr addr, HostBatch& batch) {
  auto it = vmas.LowerBound(addr);
  if (it == vmas.end() || !it->second.value.grows_down || it->first <= addr) return false;
  Range stack = VmaMap::RangeOf(it);
  // The whole stack may be several VMAs (mprotect'ed parts); the limit is on what is connected above.
  Addr top = stack.end;
  for (auto above = std::next(it); above != vmas.end() && above->first == top && above->second.value.grows_down;
       ++above) {
    top = above->second.end;
  }
  Addr lowest = kMinAddr;
  if (top > stack_limit) lowest = std::max(lowest, PageRoundUp(top - stack_limit));
  if (it != vmas.begin()) {
    auto below = std::prev(it);
    // expand_downwards: the guard gap counts unless what lies below is inaccessible.
    uint64_t guard = below->second.value.prot == 0 || below->second.value.grows_down ? 0 : kStackGuardGap;
    lowest = std::max(lowest, below->second.end + guard);
  }
  Addr page = PageRoundDown(addr);
  if (page < lowest || stack.start <= lowest || vmas.size() >= kMaxMappings) return false;
  // Differs from Linux: by 128 KiB at a time instead of a page, for a fault costs more here.
  constexpr uint64_t kStep = 128 << 10;
  Addr start = std::min(page, stack.start - std::min(kStep, stack.start - lowest));
  Vma grown = it->second.value;
  if (grown.file) {
    if (grown.offset < stack.start - start) return false;
    grown.offset -= stack.start - start;
  }
  GiveUpTrampolinesIn({start, stack.start}, batch);
  InsertVma({start, stack.start}, std::move(grown));
  return true;
}

}  // namespace sentry
