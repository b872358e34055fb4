#include "sentry/mm/memory_manager.h"

#include <signal.h>

#include <algorithm>

#include "sentry/mm/mm_state.h"
#include "sentry/mm/shared_anonymous.h"

namespace sentry {

using base::Range;
using base::ReaderLock;
using base::WriterLock;

MemoryManager::MemoryManager(MmEnvironment& env, RefPtr<platform::AddressSpace> address_space)
    : env_(env), address_space_(std::move(address_space)), state_(std::make_unique<State>(*this)) {
  if (env_.platform->text_patcher() != nullptr) traps_ = std::make_unique<TrapCounts>();
}

MemoryManager::~MemoryManager() {
  // Nobody runs in it any more: the last user dropped it (then this is a no-op), or it was never run.
  address_space_.reset();
  state_->ReleaseAll();
}

Result<RefPtr<MemoryManager>> MemoryManager::Create(MmEnvironment& env) {
  TRY(base::ChargedMemory::Admit());
  RefPtr<platform::AddressSpace> address_space = TRY(env.platform->NewAddressSpace());
  return base::MakeRef<MemoryManager>(env, std::move(address_space));
}

Result<RefPtr<MemoryManager>> MemoryManager::CreateDetached(MmEnvironment& env) {
  TRY(base::ChargedMemory::Admit());
  RefPtr<MemoryManager> mm = base::MakeRef<MemoryManager>(env, nullptr);
  WriterLock lock(mm->lock_);
  mm->state_->deferring = true;
  return mm;
}

Result<void> MemoryManager::Attach() {
  WriterLock lock(lock_);
  address_space_ = TRY(env_.platform->NewAddressSpace());
  state_->deferring = false;
  return state_->Commit(state_->deferred);
}

Result<void> MemoryManager::TakeOver(MemoryManager& old, platform::Context& context) {
  {
    WriterLock old_lock(old.lock_);
    WriterLock lock(lock_);
    auto renewed = old.address_space_->Renew(context, state_->deferred.ops());
    if (renewed.ok()) {
      address_space_ = std::move(*renewed);
      state_->FinishTakeOver();
      old.state_->ReleaseAll();
      return {};
    }
    if (!renewed.failed_with(ENOTSUP)) return renewed.error();
  }
  return Attach();
}

void MemoryManager::DropUser() {
  if (users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  WriterLock lock(lock_);
  if (address_space_) address_space_->Release();
  state_->ReleaseAll();
}

Result<Addr> MemoryManager::MMap(const MMapOptions& o, const MmLimits& limits) {
  if (o.length == 0) return Errno(EINVAL);
  uint64_t length = PageRoundUp(o.length);
  if (length < o.length) return Errno(ENOMEM);
  if (o.offset & kPageMask) return Errno(EINVAL);
  if (o.offset + length < o.offset) return Errno(EOVERFLOW);
  bool fixed = o.fixed || o.fixed_noreplace;
  if (fixed && (o.addr & kPageMask)) return Errno(EINVAL);

  WriterLock lock(lock_);
  State& s = *state_;
  if (s.released) return Errno(ENOMEM);
  if (s.vmas.size() >= kMaxMappings || s.memory_file.Full()) return Errno(ENOMEM);
  TRY(base::ChargedMemory::Admit());
  Addr addr = o.addr;
  if (fixed) {
    if (length > s.task_size || addr > s.task_size - length) return Errno(ENOMEM);
    if (addr < kMinAddr) return Errno(EPERM);
    if (o.fixed_noreplace) {
      auto it = s.vmas.LowerBound(addr);
      if (it != s.vmas.end() && it->first < addr + length) return Errno(EEXIST);
    }
  } else {
    addr = TRY(s.FindFree(o.addr, length, o.map_32bit));
  }
  Range r{addr, addr + length};

  Vma v;
  v.prot = o.prot;
  v.max_prot = o.max_prot;
  v.shared = o.shared;
  v.grows_down = o.grows_down;
  v.noreserve = o.noreserve;
  v.special = o.special;
  v.file = o.mappable;
  v.offset = o.mappable ? o.offset : 0;
  v.name = o.name;
  if (o.interpreter) s.text.interpreter = o.mappable;
  v.runs = o.caller == 0 ? o.interpreter : s.IsInterpreter(o.caller);
  v.locked = o.locked || s.lock_future;
  v.lock_on_fault = !o.locked && s.lock_future && s.lock_future_on_fault;

  // may_expand_vm, mlock_future_ok: what a fixed mapping replaces does not count twice.
  uint64_t replaced = 0, replaced_data = 0, replaced_locked = 0;
  if (fixed) {
    for (auto it = s.vmas.LowerBound(r.start); it != s.vmas.end() && it->first < r.end; ++it) {
      uint64_t bytes = VmaMap::RangeOf(it).Intersect(r).length();
      replaced += bytes;
      if (it->second.value.PrivateWritable() && !it->second.value.grows_down) replaced_data += bytes;
      if (it->second.value.locked) replaced_locked += bytes;
    }
  }
  auto exceeds = [&](uint64_t now, uint64_t gone, uint64_t limit) {
    return length > limit || now - gone > limit - length;
  };
  if (exceeds(s.virtual_bytes, replaced, limits.address_space)) return Errno(ENOMEM);
  if (v.PrivateWritable() && !v.grows_down && exceeds(s.data_bytes, replaced_data, limits.data)) return Errno(ENOMEM);
  if (v.locked && exceeds(s.locked_bytes, replaced_locked, limits.memlock)) return Errno(EAGAIN);
  if (o.shared && !o.mappable) v.file = TRY(SharedAnonymous::Create(*env_.memory_file, length, addr));

  HostBatch batch;
  if (fixed) {
    s.RemoveRange(r, batch);
    s.GiveUpTrampolinesIn(r, batch);
  }
  bool populate = (o.populate || v.locked) && !v.lock_on_fault;
  s.InsertVma(r, std::move(v));
  s.BackEagerly(r, batch, populate);
  Result<void> committed = s.Commit(batch);
  if (!committed.ok()) {
    // As man 2 mmap says, what a fixed mapping would have replaced may be gone already.
    HostBatch undo;
    s.RemoveRange(r, undo);
    (void)s.Commit(undo).ok();
    return committed.error();
  }
  return addr;
}

Result<void> MemoryManager::Munmap(Addr addr, uint64_t length) {
  uint64_t bytes = PageRoundUp(length);
  WriterLock lock(lock_);
  State& s = *state_;
  if ((addr & kPageMask) || bytes == 0 || bytes < length || addr > s.task_size || bytes > s.task_size - addr)
    return Errno(EINVAL);
  Range r{addr, addr + bytes};
  auto it = s.vmas.Find(addr);
  if (it != s.vmas.end() && it->first < r.start && it->second.end > r.end && s.vmas.size() >= kMaxMappings)
    return Errno(ENOMEM);
  HostBatch batch;
  s.RemoveRange(r, batch);
  // Commit leaves nothing mapped there in any case.
  (void)s.Commit(batch).ok();
  return {};
}

Result<void> MemoryManager::UnmapFileAt(Addr addr, const std::function<bool(Mappable&)>& accept) {
  if (addr & kPageMask) return Errno(EINVAL);
  WriterLock lock(lock_);
  State& s = *state_;
  // Its first part may be gone, and it may have been cut into several (ipc/shm.c: ksys_shmdt).
  RefPtr<Mappable> file;
  std::vector<Range> parts;
  for (auto it = s.vmas.LowerBound(addr); it != s.vmas.end(); ++it) {
    const Vma& v = it->second.value;
    if (!v.file || it->first - addr != v.offset) continue;
    if (file ? v.file != file : !accept(*v.file)) continue;
    file = v.file;
    parts.push_back(VmaMap::RangeOf(it));
  }
  if (!file) return Errno(EINVAL);
  HostBatch batch;
  for (const Range& part : parts) s.RemoveRange(part, batch);
  (void)s.Commit(batch).ok();
  return {};
}

Result<void> MemoryManager::Mprotect(Addr addr, uint64_t length, uint8_t prot, bool grows_down, bool grows_up) {
  if (grows_down && grows_up) return Errno(EINVAL);
  if (addr & kPageMask) return Errno(EINVAL);
  if (length == 0) return {};
  uint64_t bytes = PageRoundUp(length);
  if (bytes < length || addr + bytes <= addr) return Errno(ENOMEM);
  TRY(base::ChargedMemory::Admit());  // parts of mappings become mappings
  WriterLock lock(lock_);
  State& s = *state_;
  Range r{addr, addr + bytes};
  auto first = s.vmas.LowerBound(r.start);
  if (first == s.vmas.end() || first->first >= r.end) return Errno(ENOMEM);
  if (grows_down) {
    if (!first->second.value.grows_down) return Errno(EINVAL);
    r.start = first->first;
  } else if (first->first > r.start) {
    return Errno(ENOMEM);
  }
  if (grows_up) return Errno(EINVAL);  // no architecture of ours has such stacks
  // do_mprotect_pkey: VMA by VMA; what comes before a hole or a refusal is changed.
  Range change{r.start, r.start};
  Result<void> result;
  for (auto it = s.vmas.Find(r.start);; ++it) {
    if (it == s.vmas.end() || it->first > change.end) {
      result = Errno(ENOMEM);
      break;
    }
    if (prot & ~it->second.value.max_prot & 7) {
      result = Errno(EACCES);
      break;
    }
    change.end = std::min(it->second.end, r.end);
    if (change.end == r.end) break;
  }
  if (change.empty()) return result;
  if (s.vmas.size() + 2 > kMaxMappings || s.memory_file.Full()) return Errno(ENOMEM);
  HostBatch batch;
  bool more = false;
  for (auto it = s.vmas.LowerBound(change.start); it != s.vmas.end() && it->first < change.end; ++it) {
    const Vma& v = it->second.value;
    more |= (prot & ~v.prot) != 0;
    if (v.shared && v.file && (prot & kWrite) && !(v.prot & kWrite)) {
      // Translated for reading: has to be asked for again.
      s.DropPages(VmaMap::RangeOf(it).Intersect(change), false, batch);
    }
  }
  s.ChangeVmas(change, [&](Vma& v) { v.prot = prot; });
  s.SyncHost(change, batch);
  if (more) s.BackEagerly(change, batch, false);
  Result<void> committed = s.Commit(batch);
  return committed.ok() ? result : committed;
}

Result<Addr> MemoryManager::Brk(Addr new_break, const MmLimits& limits) {
  WriterLock lock(lock_);
  State& s = *state_;
  Layout& l = s.layout;
  // man 2 brk (the system call): the old break on any failure.
  if (new_break < l.start_brk || l.start_brk == 0 || new_break > s.task_size - kPageSize) return l.brk;
  // check_data_rlimit: the heap and the program's data together.
  if (limits.data != UINT64_MAX && (new_break - l.start_brk) + (l.end_data - l.start_data) > limits.data) return l.brk;
  Addr old_end = PageRoundUp(l.brk), new_end = PageRoundUp(new_break);
  HostBatch batch;
  if (new_end > old_end) {
    Range r{old_end, new_end};
    // The page above has to stay free as well (mm/mmap.c: find_vma_intersection with PAGE_SIZE more).
    if (!s.IsFree({r.start, r.end + kPageSize}) || s.vmas.size() >= kMaxMappings || s.memory_file.Full() ||
        !base::ChargedMemory::Admit().ok()) {
      return l.brk;
    }
    if (r.length() > limits.address_space || s.virtual_bytes > limits.address_space - r.length()) return l.brk;
    if (s.lock_future && s.locked_bytes + r.length() > limits.memlock) return l.brk;
    Vma v;
    v.prot = kRead | kWrite;
    v.name = "[heap]";
    v.locked = s.lock_future;
    v.lock_on_fault = s.lock_future && s.lock_future_on_fault;
    bool populate = v.locked && !v.lock_on_fault;
    s.GiveUpTrampolinesIn(r, batch);
    s.InsertVma(r, std::move(v));
    s.BackEagerly(r, batch, populate);
    if (!s.Commit(batch).ok()) {
      HostBatch undo;
      s.RemoveRange(r, undo);
      (void)s.Commit(undo).ok();
      return l.brk;
    }
  } else if (new_end < old_end) {
    s.RemoveRange({new_end, old_end}, batch);
    (void)s.Commit(batch).ok();
  }
  l.brk = new_break;
  return new_break;
}

std::optional<FaultSignal> MemoryManager::HandleFault(Addr addr, AccessType access, const MmLimits& limits) {
  WriterLock lock(lock_);
  State& s = *state_;
  s.stack_limit = limits.stack;
  HostBatch batch;
  Addr page = PageRoundDown(addr);
  auto it = s.vmas.Find(page);
  if (it == s.vmas.end()) {
    if (addr >= s.task_size || !s.GrowStack(addr, batch)) return FaultSignal{SIGSEGV, SEGV_MAPERR};
    it = s.vmas.Find(page);
  }
  const Vma& v = it->second.value;
  bool allowed = access == AccessType::kWrite     ? (v.prot & kWrite) != 0
                 : access == AccessType::kExecute ? (v.prot & kExec) != 0
                                                  : v.prot != 0;
  if (!allowed) return FaultSignal{SIGSEGV, SEGV_ACCERR};
  Range r{page, page + kPageSize};
  Result<void> backed = s.BackRange(r, access == AccessType::kWrite, State::Effort::kFault, batch);
  if (backed.ok() && batch.ops().empty()) {
    // Another thread's fault has done it. If it comes again and again, what the host has is not what is recorded here.
    if (s.spurious_page == page) {
      if (++s.spurious_count >= 3) {
        s.spurious_count = 0;
        s.RestoreTextIn(r, {}, State::Refuse::kForGood, batch);
        auto p = s.pages.SplitAt(r.start);
        s.pages.SplitAt(r.end);
        p->second.value.mapped = false;
        s.SyncHost(r, batch);
      }
    } else {
      s.spurious_page = page;
      s.spurious_count = 1;
    }
  } else {
    s.spurious_page = 0;
  }
  Result<void> committed = s.Commit(batch);
  // Beyond the end of a file, an I/O error, or no memory (Linux would end a process for that as well).
  if (!backed.ok() || !committed.ok()) return FaultSignal{SIGBUS, BUS_ADRERR};
  return std::nullopt;
}

void MemoryManager::Invalidate(const Mappable& file, uint64_t offset, uint64_t end, bool keep_private) {
  WriterLock lock(lock_);
  State& s = *state_;
  HostBatch batch;
  for (auto& [start, node] : s.vmas) {
    const Vma& v = node.value;
    if (v.file.get() != &file) continue;
    uint64_t v_end = v.offset + (node.end - start);
    uint64_t from = std::max(offset, v.offset), to = std::min(end, v_end);
    if (from >= to) continue;
    // Page by page of the address space: a partial last page stays, its rest reads as zero through the file's own
    // pages.
    Range r{PageRoundUp(start + (from - v.offset)), PageRoundUp(start + (to - v.offset))};
    if (!r.empty()) s.DropPages(r, !keep_private, batch);
  }
  (void)s.Commit(batch).ok();
}

MemoryManager::Layout MemoryManager::layout() {
  ReaderLock lock(lock_);
  return state_->layout;
}

void MemoryManager::SetLayout(Layout layout) {
  WriterLock lock(lock_);
  state_->layout = std::move(layout);
}

void MemoryManager::SetBrkStart(Addr start) {
  WriterLock lock(lock_);
  state_->layout.start_brk = start;
  state_->layout.brk = start;
}

}  // namespace sentry
