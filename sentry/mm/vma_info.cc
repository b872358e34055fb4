// What /proc shows of an address space.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using base::ReaderLock;
using platform::FileRange;

namespace {

// Bytes that exist of what is mapped in r. Pages of a donated file are counted as soon as they are mapped: the host has
// them in its page cache, and asking it costs more than the number is worth.
struct Resident {
  uint64_t owned = 0, file = 0;
};
Resident ResidentIn(const MemoryManager::State& s, Range r) {
  Resident sum;
  for (auto it = s.pages.LowerBound(r.start); it != s.pages.end() && it->first < r.end; ++it) {
    const Page& p = it->second.value;
    Range entry = PageMap::RangeOf(it);
    Range part = entry.Intersect(r);
    if (!p.memory_file) {
      sum.file += part.length();
      continue;
    }
    FileRange extent = p.FileRangeOf(entry, part);
    while (!extent.empty()) {
      FileRange data = s.memory_file.NextData(extent);
      if (data.empty()) break;
      (p.owned ? sum.owned : sum.file) += data.length();
      extent.start = data.end;
    }
  }
  return sum;
}

}  // namespace

std::vector<MemoryManager::VmaInfo> MemoryManager::Vmas(Addr from, size_t max) {
  struct Row {
    VmaInfo info;
    RefPtr<Mappable> file;
  };
  std::vector<Row> rows;
  {
    ReaderLock lock(lock_);
    State& s = *state_;
    rows.reserve(std::min<size_t>(s.vmas.size(), max));
    for (auto it = s.vmas.LowerBound(from); it != s.vmas.end() && rows.size() < max; ++it) {
      const Vma& v = it->second.value;
      Range r = VmaMap::RangeOf(it);
      Resident resident = ResidentIn(s, r);
      rows.push_back({VmaInfo{.range = r,
                              .prot = v.prot,
                              .shared = v.shared,
                              .grows_down = v.grows_down,
                              .locked = v.locked,
                              .offset = v.special ? 0 : v.offset,
                              .identity = {.path = v.name},
                              .resident_bytes = resident.owned + resident.file,
                              .dirty_bytes = resident.owned},
                      v.file});
    }
  }
  // Names come from files, which may take their own locks.
  std::vector<VmaInfo> out;
  out.reserve(rows.size());
  for (Row& row : rows) {
    if (row.file) {
      std::string name = std::move(row.info.identity.path);
      row.info.identity = row.file->MappedIdentity();
      if (!name.empty()) row.info.identity.path = std::move(name);
    }
    out.push_back(std::move(row.info));
  }
  return out;
}

MemoryManager::Usage MemoryManager::usage() {
  base::WriterLock lock(lock_);
  State& s = *state_;
  Usage u;
  u.virtual_bytes = s.virtual_bytes;
  u.peak_virtual_bytes = s.peak_virtual_bytes;
  u.locked_bytes = s.locked_bytes;
  u.vma_count = static_cast<int>(s.vmas.size());
  for (auto it = s.vmas.begin(); it != s.vmas.end(); ++it) {
    const Vma& v = it->second.value;
    uint64_t length = it->second.end - it->first;
    if (v.file && (v.prot & kExec) && !(v.prot & kWrite)) u.text_bytes += length;
    if (v.grows_down) u.stack_bytes += length;
  }
  u.data_bytes = s.data_bytes;
  Resident resident = ResidentIn(s, {0, s.task_size});
  u.shared_bytes = resident.file;
  u.resident_bytes = resident.owned + resident.file;
  s.peak_resident_bytes = std::max(s.peak_resident_bytes, u.resident_bytes);
  u.peak_resident_bytes = s.peak_resident_bytes;
  return u;
}

std::vector<uint8_t> MemoryManager::PageStates(Addr from, size_t count) {
  std::vector<uint8_t> states(count, 0);
  ReaderLock lock(lock_);
  State& s = *state_;
  Range all{from, from + count * kPageSize};
  for (auto it = s.pages.LowerBound(all.start); it != s.pages.end() && it->first < all.end; ++it) {
    const Page& p = it->second.value;
    Range entry = PageMap::RangeOf(it);
    Range part = entry.Intersect(all);
    auto mark = [&](Addr start, Addr end, uint8_t state) {
      for (Addr at = start; at < end; at += kPageSize) states[(at - all.start) / kPageSize] = state;
    };
    if (!p.memory_file) {
      mark(part.start, part.end, kPagePresent | kPageOfFile);
      continue;
    }
    FileRange extent = p.FileRangeOf(entry, part);
    const uint64_t first = extent.start;
    const uint8_t state = p.owned ? kPagePresent | (p.cow ? 0 : kPageExclusive) : kPagePresent | kPageOfFile;
    while (!extent.empty()) {
      FileRange data = s.memory_file.NextData(extent);
      if (data.empty()) break;
      mark(part.start + (data.start - first), part.start + (data.end - first), state);
      extent.start = data.end;
    }
  }
  return states;
}

void MemoryManager::ResetPeak() {
  base::WriterLock lock(lock_);
  state_->peak_resident_bytes = 0;
}

}  // namespace sentry
