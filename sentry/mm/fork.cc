// fork(2) of an address space (kernel/fork.c, dup_mmap; mm/memory.c, copy_page_range).
#include <algorithm>

#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using base::WriterLock;
using platform::FileRange;

namespace {

// Private memory up to this much in all is copied at once; the rest is shared until one side writes. A copy-on-write
// fault costs as much as copying some forty resident pages.
constexpr uint64_t kCopyBudget = 256 << 10;

}  // namespace

Result<RefPtr<MemoryManager>> MemoryManager::Fork() {
  if (env_.memory_file->Full()) return Errno(ENOMEM);
  RefPtr<MemoryManager> child = TRY(Create(env_));
  WriterLock lock(lock_);
  // Nobody else has the child yet, but a file that is truncated meanwhile may find it.
  WriterLock child_lock(child->lock_);
  State& s = *state_;
  State& c = *child->state_;
  c.layout = s.layout;
  c.mmap_base = s.mmap_base;
  c.search_cache = s.search_cache;
  c.search_hole = s.search_hole;
  c.stack_limit = s.stack_limit;
  c.text.enabled = s.text.enabled;
  c.text.interpreter = s.text.interpreter;
  c.text.refused = s.text.refused;
  child->dumpable.store(dumpable.load());
  child->membarrier_state.store(membarrier_state.load());

  // Locks and MCL_FUTURE are not inherited (man 2 mlock). VMAs first: files know of the child before it has pages of
  // theirs.
  for (const auto& [start, node] : s.vmas) {
    if (node.value.dont_fork) {
      c.NoteFreed({start, node.end});
      continue;
    }
    Vma v = node.value;
    v.locked = v.lock_on_fault = false;
    v.runs = false;
    c.InsertVma({start, node.end}, std::move(v));
  }
  HostBatch parent_batch, child_batch;
  uint64_t budget = kCopyBudget;
  std::vector<FileRange> data;
  // From the top of the address space down: the stack comes first.
  for (auto vit = s.vmas.end(); vit != s.vmas.begin();) {
    --vit;
    const Vma& v = vit->second.value;
    if (v.dont_fork || v.wipe_on_fork) continue;
    Range vr = VmaMap::RangeOf(vit);
    s.pages.SplitAt(vr.end);
    auto pit = s.pages.SplitAt(vr.start);
    for (; pit != s.pages.end() && pit->first < vr.end; ++pit) {
      Page& p = pit->second.value;
      Range part = PageMap::RangeOf(pit);
      Page mine = p;
      mine.mapped = false;
      mine.host_prot = 0;
      mine.resident = false;
      if (p.owned) {
        FileRange extent{p.offset, p.offset + part.length()};
        data.clear();
        uint64_t bytes = v.PrivateWritable() ? s.memory_file.FindData(extent, budget, data) : UINT64_MAX;
        if (bytes <= budget) {
          auto copy = s.memory_file.AllocateCopy(extent, data, c.Congruence(part), c.PreferredOffset(part));
          if (copy.ok()) {
            budget -= bytes;
            mine.offset = copy->start;
            mine.cow = false;
            mine.resident = bytes == part.length();
            c.pages.Insert(part, mine);
            continue;
          }
        }
        s.memory_file.IncRef(extent);
        p.cow = true;
        mine.cow = true;
      }
      c.pages.Insert(part, mine);
    }
    s.SyncHost(vr, parent_batch);
  }
  // The parent loses write access before the child can run.
  Result<void> copied = s.Commit(parent_batch);
  if (copied.ok()) {
    c.SyncHost({0, c.task_size}, child_batch);
    copied = c.Commit(child_batch);
  }
  if (!copied.ok()) {
    child->address_space_->Release();
    c.ReleaseAll();
    return copied.error();
  }
  return child;
}

}  // namespace sentry
