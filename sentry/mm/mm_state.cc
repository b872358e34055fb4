#include "sentry/mm/mm_state.h"

#include <algorithm>

#include "base/logging.h"

namespace sentry {

using base::Range;
using platform::MapOp;

Vma VmaTraits::Split(Vma& left, Range whole, uint64_t at) {
  Vma right = left;
  if (right.file) right.offset += at - whole.start;
  return right;
}

bool VmaTraits::Merge(Vma& l, Range lr, const Vma& r, Range rr) {
  // mm/mmap.c, is_mergeable_vma: equal flags and file, offsets that continue. Special mappings never merge. What is
  // said of a part's text (`runs`) holds for the whole, which no guest can see.
  return l.prot == r.prot && l.max_prot == r.max_prot && l.shared == r.shared && l.grows_down == r.grows_down &&
         l.noreserve == r.noreserve && l.locked == r.locked && l.lock_on_fault == r.lock_on_fault && !l.special &&
         !r.special && l.dont_fork == r.dont_fork && l.wipe_on_fork == r.wipe_on_fork && l.dont_dump == r.dont_dump &&
         l.file == r.file && (!l.file || l.offset + lr.length() == r.offset) && l.name == r.name;
}

Page PageTraits::Split(Page& left, Range whole, uint64_t at) {
  Page right = left;
  right.offset += at - whole.start;
  return right;
}

bool PageTraits::Merge(Page& l, Range lr, const Page& r, Range rr) {
  return l.fd == r.fd && l.offset + lr.length() == r.offset && l.owned == r.owned && l.memory_file == r.memory_file &&
         l.cow == r.cow && l.writable == r.writable && l.mapped == r.mapped && l.resident == r.resident &&
         l.host_prot == r.host_prot;
}

MemoryManager::State::State(MemoryManager& mm_in) : mm(mm_in), env(mm_in.env()), memory_file(*env.memory_file) {
  task_size = PageRoundDown(env.platform->GuestRange().end);
  mmap_base = PageRoundDown(task_size - (128 << 20));
  search_cache = mmap_base;
  text.enabled = env.platform->text_patcher() != nullptr;
}

MemoryManager::State::~State() {
  // Files are told and pages given back by ReleaseAll; the address space is gone by then.
  CHECK(released);
}

void MemoryManager::State::AddToSums(const Vma& v, uint64_t length) {
  virtual_bytes += length;
  peak_virtual_bytes = std::max(peak_virtual_bytes, virtual_bytes);
  if (v.PrivateWritable() && !v.grows_down) data_bytes += length;
  if (v.locked) locked_bytes += length;
}

void MemoryManager::State::SubtractFromSums(const Vma& v, uint64_t length) {
  virtual_bytes -= length;
  if (v.PrivateWritable() && !v.grows_down) data_bytes -= length;
  if (v.locked) locked_bytes -= length;
}

VmaMap::iterator MemoryManager::State::InsertVma(Range r, Vma v) {
  AddToSums(v, r.length());
  if (v.file) {
    bool shared_writable = SharedWritable(v);
    MappedFile& f = files[{v.file.get(), shared_writable}];
    if (f.bytes == 0) {
      f.file = v.file;
      v.file->AddMapping({&mm, shared_writable});
    }
    f.bytes += r.length();
  }
  return vmas.Insert(r, std::move(v));
}

void MemoryManager::State::RemoveRange(Range r, HostBatch& batch) {
  bool any = false;
  if (!text.placements.empty()) RestoreTextIn(r, r, Refuse::kNo, batch);
  vmas.Remove(r, [&](Range part, Vma&& v) {
    any = true;
    SubtractFromSums(v, part.length());
    if (!v.file) return;
    bool shared_writable = SharedWritable(v);
    auto f = files.find({v.file.get(), shared_writable});
    CHECK(f != files.end() && f->second.bytes >= part.length());
    f->second.bytes -= part.length();
    if (f->second.bytes == 0) {
      v.file->RemoveMapping({&mm, shared_writable});
      files.erase(f);
    }
    batch.Hold(std::move(v.file));
  });
  if (!any) return;
  Range mapped{UINT64_MAX, 0};
  pages.Remove(r, [&](Range part, Page&& p) {
    if (p.mapped) {
      mapped.start = std::min(mapped.start, part.start);
      mapped.end = std::max(mapped.end, part.end);
    }
    if (p.owned) batch.Free({p.offset, p.offset + part.length()});
  });
  if (!mapped.empty()) batch.Unmap(mapped);
  NoteFreed(r);
}

void MemoryManager::State::DropPages(Range r, bool owned, HostBatch& batch) {
  if (!text.placements.empty()) RestoreTextIn(r, r, Refuse::kNo, batch);
  pages.SplitAt(r.end);
  for (auto it = pages.SplitAt(r.start); it != pages.end() && it->first < r.end;) {
    const Page& p = it->second.value;
    Range part = PageMap::RangeOf(it);
    if (p.owned && !owned) {
      ++it;
      continue;
    }
    if (p.mapped) batch.Unmap(part);
    if (p.owned) batch.Free({p.offset, p.offset + part.length()});
    it = pages.Erase(it);
  }
}

bool MemoryManager::State::Covered(Range r) const {
  Addr at = r.start;
  for (auto it = vmas.Find(at); at < r.end; ++it) {
    if (it == vmas.end() || it->first > at) return false;
    at = it->second.end;
  }
  return true;
}

uint8_t MemoryManager::State::HostProt(const Vma& v, const Page& p) {
  if (v.prot == 0) return 0;
  // On x86 what can be written or executed can be read.
  uint8_t prot = v.prot | kRead;
  bool may_write = p.owned ? !p.cow : v.shared && p.writable;
  return may_write ? prot : prot & ~kWrite;
}

void MemoryManager::State::SyncHost(Range r, HostBatch& batch, bool populate) {
  for (auto vit = vmas.LowerBound(r.start); vit != vmas.end() && vit->first < r.end; ++vit) {
    Range vr = VmaMap::RangeOf(vit).Intersect(r);
    const Vma& v = vit->second.value;
    pages.SplitAt(vr.end);
    for (auto it = pages.SplitAt(vr.start); it != pages.end() && it->first < vr.end;) {
      Page& p = it->second.value;
      Range part = PageMap::RangeOf(it);
      uint8_t want = HostProt(v, p);
      const bool is_text = IsText(v, p);
      // Not to be executed any more, or to be written.
      if (!is_text && !text.placements.empty()) RestoreTextIn(part, {}, Refuse::kForGood, batch);
      if (!p.mapped) {
        // Inaccessible pages need nothing on the host, until they are made accessible.
        if (want != 0) {
          batch.Map(part, p.fd, p.offset, want, populate || p.resident);
          p.mapped = true;
          p.resident = false;
          p.host_prot = want;
          if (is_text) PatchText(v, p, part, batch);
        }
      } else if (p.host_prot != want) {
        batch.Protect(part, want);
        p.host_prot = want;
        if (is_text) PatchText(v, p, part, batch);
      }
      it = std::next(pages.MergeAround(it));
    }
  }
  // The cuts at the end of the range.
  if (auto it = pages.LowerBound(r.end); it != pages.end() && it->first == r.end) pages.MergeAround(it);
}

Result<void> MemoryManager::State::Commit(HostBatch& batch) {
  if (deferring) {
    deferred.Append(std::move(batch));
    return {};
  }
  if (batch.ops().empty()) {
    batch.Finish(memory_file);
    return {};
  }
  const bool patched = text.changed;
  text.changed = false;
  if (patched) mm.PublishText(text, /*with_former=*/true);
  if (batch.restores_text()) mm.StopThreads();
  Result<void> applied = mm.address_space().Apply(batch.ops());
  if (applied.ok()) {
    if (patched) mm.PublishText(text, /*with_former=*/false);
    mm.ContinueThreads();
    batch.Finish(memory_file);
    return {};
  }
  // Which of the changes were made is not known exactly (platform.h): after unmapping all of it the host has nothing
  // there, and what is still accessible comes back by faults.
  std::vector<MapOp> undo;
  for (const MapOp& op : batch.ops()) {
    undo.push_back({.kind = MapOp::Kind::kUnmap, .start = op.start, .length = op.length});
  }
  if (!text.placements.empty()) {
    mm.StopThreads();
    ForgetText(undo);
  }
  for (const MapOp& op : undo) {
    Range r{op.start, op.start + op.length};
    pages.SplitAt(r.end);
    for (auto it = pages.SplitAt(r.start); it != pages.end() && it->first < r.end; ++it)
      it->second.value.mapped = false;
  }
  if (!mm.address_space().Apply(undo).ok()) {
    // Pages must not be reused while the guest may still reach them. The guest dies; the sandbox lives.
    LOG_WARNING("an address space cannot be unmapped on the host: ending its process");
    mm.address_space().Release();
    for (auto& [start, node] : pages) node.value.mapped = false;
  }
  text.changed = false;
  mm.PublishText(text, /*with_former=*/false);
  mm.ContinueThreads();
  batch.Finish(memory_file);
  return applied.error();
}

void MemoryManager::State::FinishTakeOver() {
  deferring = false;
  if (text.changed) mm.PublishText(text, /*with_former=*/false);
  text.changed = false;
  deferred.Finish(memory_file);
}

void MemoryManager::State::ReleaseAll() {
  if (released) return;
  released = true;
  deferring = false;
  deferred.Finish(memory_file);
  for (auto& [key, f] : files) f.file->RemoveMapping({&mm, key.second});
  // What was allocated as one goes back as one, whatever mprotect has cut it into: the next of the same kind fits.
  platform::FileRange owned;
  for (auto& [start, node] : pages) {
    if (!node.value.owned) continue;
    const platform::FileRange part{node.value.offset, node.value.offset + (node.end - start)};
    if (part.start == owned.end) {
      owned.end = part.end;
      continue;
    }
    if (!owned.empty()) memory_file.DecRef(owned);
    owned = part;
  }
  if (!owned.empty()) memory_file.DecRef(owned);
  pages.clear();
  vmas.clear();
  files.clear();
  text.placements.clear();
  text.refused.clear();
  mm.PublishText(text, /*with_former=*/false);
  virtual_bytes = data_bytes = locked_bytes = 0;
}

}  // namespace sentry
