// What stands behind guest addresses: anonymous extents, file translations, private copies.
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using platform::FileRange;

namespace {

// A gap of anonymous memory up to this size is backed whole: the memory file is sparse, so an extent costs an offset.
// Larger reservations get aligned pieces of it as they are touched.
constexpr uint64_t kMaxExtent = 1ull << 30;
// How far before it a fault on a file begins, and the smallest copy that breaks copy-on-write: a fault costs 31-37 us,
// copying a resident page well under one.
constexpr uint64_t kMinChunk = 64 << 10;
constexpr uint64_t kMaxChunk = 2 << 20;
constexpr size_t kManyPieces = 30'000;
constexpr size_t kFewPieces = 500;
// The host refuses long before; without a bound a guest could still make the sentry remember ever more unmapped ones.
constexpr size_t kMaxPieces = 200'000;
// Memory whose pages exist already is mapped populated up to this size: 0.1 us for a page instead of 0.7 for a fault.
constexpr uint64_t kPopulateBytes = 16 << 20;
// Writable private file mappings up to this size (.data) are copied when they are mapped.
constexpr uint64_t kCopyAtOnce = 256 << 10;
// Larger ones up to this size are copied in pieces, and as a whole after so many: an interpreter writes to all of its
// .data when it starts, in no order.
constexpr uint64_t kCopyWhole = 2 << 20;
constexpr uint8_t kCopiesBeforeAll = 2;

}  // namespace

uint64_t MemoryManager::State::PreferredOffset(Range r) {
  // New mappings come mostly below the one before (top-down), sometimes above (brk).
  auto above = pages.Find(r.end);
  if (above != pages.end() && above->first == r.end && above->second.value.owned &&
      above->second.value.offset > r.length()) {
    return above->second.value.offset - r.length();
  }
  if (r.start > 0) {
    auto below = pages.Find(r.start - 1);
    if (below != pages.end() && below->second.value.owned) {
      return below->second.value.offset + (r.start - below->first);
    }
  }
  return 0;
}

Addr MemoryManager::State::Congruence(Range r) const {
  // Room to grow on both sides matters to address spaces with many pieces, and to huge pages. Others gain more from
  // pages that were freed a moment ago, wherever they are.
  return r.length() < platform::MemoryFile::kPoolRangeBytes && pages.size() < kFewPieces ? 0 : r.start;
}

Result<Range> MemoryManager::State::BackAnonymous(Range gap, Addr at) {
  Range piece = gap;
  if (gap.length() > kMaxExtent) {
    uint64_t start = at & ~(kMaxExtent - 1);
    piece = gap.Intersect({start, start + kMaxExtent});
  }
  bool resident = false;
  FileRange extent = TRY(memory_file.Allocate(piece.length(), Congruence(piece), PreferredOffset(piece), &resident));
  pages.Insert(piece, Page{.fd = memory_file.fd(),
                           .offset = extent.start,
                           .owned = true,
                           .memory_file = true,
                           .resident = resident && piece.length() <= kPopulateBytes});
  return piece;
}

Result<Range> MemoryManager::State::BackFromFile(VmaMap::iterator vma, Range gap, Range want, Effort effort) {
  const Vma& v = vma->second.value;
  const bool for_write = v.shared && (v.prot & kWrite);
  // Pages before the wanted one come along, so that a program that walks downwards does not fault on each.
  Addr start = effort == Effort::kEager ? want.start : std::max(gap.start, want.start & ~(kMinChunk - 1));
  for (;;) {
    // All of it would be welcome; the file gives what costs nothing.
    auto translated = v.file->Translate(v.offset + (start - vma->first), gap.end - start, for_write);
    if (translated.ok()) {
      const HostPages& host = *translated;
      CHECK(host.length > 0 && ((host.offset | host.length) & kPageMask) == 0);
      Range covered{start, start + std::min(host.length, gap.end - start)};
      if (covered.Contains(want.start)) {
        pages.Insert(
            covered,
            Page{.fd = host.fd, .offset = host.offset, .memory_file = host.memory_file, .writable = for_write});
        return covered;
      }
    }
    if (start == want.start) return translated.error();
    start = want.start;  // the file has a hole or an error before it
  }
}

Range MemoryManager::State::CopyChunk(VmaMap::iterator vma, PageMap::iterator page, Range want) {
  const Range within = PageMap::RangeOf(page).Intersect(VmaMap::RangeOf(vma));
  Vma& v = vma->second.value;
  if (!page->second.value.owned && VmaMap::RangeOf(vma).length() <= kCopyWhole) {
    if (v.copied >= kCopiesBeforeAll) return within;
    ++v.copied;
  }
  // Every copy may cost the host mappings, of which a process has 65,530: with many, fewer and larger ones.
  if (pages.size() > kManyPieces) {
    chunk_bytes = kMaxChunk;
  } else if (want.start == last_chunk_end) {
    chunk_bytes = std::min(chunk_bytes * 2, kMaxChunk);
  } else {
    chunk_bytes = kMinChunk;
  }
  Range chunk{want.start & ~(kMinChunk - 1), 0};
  chunk.start = std::max(chunk.start, within.start);
  chunk.end = std::min(within.end, std::max(chunk.start + chunk_bytes, want.end));
  last_chunk_end = chunk.end;
  return chunk;
}

Result<void> MemoryManager::State::CopyFromFile(Mappable& file, int fd, uint64_t from, FileRange to) {
  while (!to.empty()) {
    auto pin = TRY(file.windows().Acquire(fd, from, to.length(), false));
    // EFAULT: the host truncated the file; what the guest then sees is what it would see beyond the end.
    if (Result<void> r = memory_file.Fill(to.start, pin.bytes()); !r.ok()) {
      return Errno(r.failed_with(EFAULT) ? EINVAL : ENOMEM);
    }
    from += pin.bytes().size();
    to.start += pin.bytes().size();
  }
  return {};
}

Result<Range> MemoryManager::State::MakePrivate(VmaMap::iterator vma, PageMap::iterator page, Range want,
                                                HostBatch& batch) {
  Range entry = PageMap::RangeOf(page);
  if (page->second.value.owned && memory_file.IsExclusive(page->second.value.FileRangeOf(entry, entry))) {
    page->second.value.cow = false;  // the others have left
    return entry;
  }
  Range chunk = CopyChunk(vma, page, want);
  page = pages.SplitAt(chunk.start);
  pages.SplitAt(chunk.end);
  Page& p = page->second.value;
  FileRange old = p.FileRangeOf(chunk, chunk);
  if (p.owned && memory_file.IsExclusive(old)) {
    p.cow = false;
    return chunk;
  }
  FileRange copy;
  if (p.memory_file) {
    std::vector<FileRange> data;
    memory_file.FindData(old, UINT64_MAX, data);
    copy = TRY(memory_file.AllocateCopy(old, data, Congruence(chunk), PreferredOffset(chunk)));
  } else {
    copy = TRY(memory_file.AllocateForOverwrite(chunk.length(), Congruence(chunk), PreferredOffset(chunk)));
    if (Result<void> r = CopyFromFile(*vma->second.value.file, p.fd, p.offset, copy); !r.ok()) {
      memory_file.DecRef(copy);
      return r.error();
    }
  }
  if (p.owned) batch.Free(old);
  if (!text.placements.empty()) RestoreTextIn(chunk, {}, Refuse::kForGood, batch);
  // The host map of the copy replaces the old one, except where the VMA allows no access now (a debugger's write).
  if (p.mapped && vma->second.value.prot == 0) batch.Unmap(chunk);
  const bool resident = !p.memory_file && chunk.length() <= kPopulateBytes;
  p = Page{.fd = memory_file.fd(), .offset = copy.start, .owned = true, .memory_file = true, .resident = resident};
  return chunk;
}

Result<void> MemoryManager::State::BackRangeUnsynced(Range r, bool write, Effort effort, HostBatch& batch,
                                                     Range& touched) {
  auto touch = [&](Range t) {
    touched = touched.empty() ? t : Range{std::min(touched.start, t.start), std::max(touched.end, t.end)};
  };
  for (Addr at = r.start; at < r.end;) {
    if (pages.size() > kMaxPieces) return Errno(ENOMEM);
    auto vit = vmas.Find(at);
    if (vit == vmas.end()) return Errno(EFAULT);
    const Vma& v = vit->second.value;
    Range want = VmaMap::RangeOf(vit).Intersect({at, r.end});
    auto pit = pages.LowerBound(at);
    if (pit == pages.end() || pit->first > at) {
      Range gap = VmaMap::RangeOf(vit);
      if (pit != pages.end()) gap.end = std::min(gap.end, pit->first);
      if (pit != pages.begin()) gap.start = std::max(gap.start, std::prev(pit)->second.end);
      touch(v.file ? TRY(BackFromFile(vit, gap, want.Intersect(gap), effort)) : TRY(BackAnonymous(gap, at)));
      continue;
    }
    Page& p = pit->second.value;
    Range part = PageMap::RangeOf(pit).Intersect(want);
    if (write && p.owned && p.cow) {
      part = TRY(MakePrivate(vit, pit, part, batch));
    } else if (write && !p.owned && v.IsPrivate()) {
      part = TRY(MakePrivate(vit, pit, part, batch));
    } else if (write && !p.owned && !p.writable) {
      DropPages(part, false, batch);  // translated for reading: again, for writing
      continue;
    }
    touch(part);
    at = std::max(at, part.end);
  }
  return {};
}

Result<void> MemoryManager::State::BackRange(Range r, bool write, Effort effort, HostBatch& batch, bool populate) {
  Range touched;
  Result<void> backed = BackRangeUnsynced(r, write, effort, batch, touched);
  if (!touched.empty()) SyncHost(touched, batch, populate);
  return backed;
}

void MemoryManager::State::PopulateMapped(Range r) {
  for (auto it = pages.LowerBound(r.start); it != pages.end() && it->first < r.end; ++it) {
    const Page& p = it->second.value;
    if (!p.mapped || !p.memory_file) continue;
    const Range entry = PageMap::RangeOf(it);
    memory_file.Populate(p.FileRangeOf(entry, entry.Intersect(r)));
  }
}

void MemoryManager::State::BackEagerly(Range r, HostBatch& batch, bool populate) {
  for (auto it = vmas.LowerBound(r.start); it != vmas.end() && it->first < r.end; ++it) {
    const Vma& v = it->second.value;
    Range part = VmaMap::RangeOf(it).Intersect(r);
    if (v.prot == 0) continue;
    if (!v.file && !populate && part.length() > kMaxExtent) {
      // Giant reservations wait for the touch. What is there already gets the right protection.
      SyncHost(part, batch);
      continue;
    }
    bool copy = v.file && v.PrivateWritable() && part.length() <= kCopyAtOnce;
    // A failure (beyond the end of the file, no memory) is the fault's to report.
    if (v.file && !populate && !copy) {
      // One question: a donated file answers with all of itself; a file in pieces is faulted in.
      Range first{part.start, std::min(part.end, part.start + kMinChunk)};
      (void)BackRange(first, false, Effort::kEager, batch).ok();
      SyncHost(part, batch);
    } else {
      (void)BackRange(part, copy || (populate && v.PrivateWritable()), Effort::kEager, batch, populate).ok();
    }
  }
}

}  // namespace sentry
