#include "platform/kvm/address_space.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "base/charged_memory.h"
#include "base/check.h"
#include "base/fiber.h"
#include "base/safe_copy_unsafe.h"
#include "base/syscall_unsafe.h"
#include "platform/host_op.h"
#include "platform/kvm/platform_impl.h"
#include "platform/memory_file.h"

namespace platform::kvm {
namespace {

constexpr uint64_t kLeafSpan = uint64_t{kTableEntries} * kPageSize;  // bytes under one table of the last level
// Entries that kMap writes at once, in bytes of the mapping; the rest are written by faults, kLeafSpan each.
constexpr uint64_t kEagerBytes = 4 << 20, kPopulateBytes = 64 << 20;
// Tables of one address space: 128 GiB of memory when it is dense.
constexpr size_t kMaxTables = 65536;
constexpr uint64_t kLink = kPtePresent | kPteWrite | kPteUser | kPteAccessed;

uint64_t Load(const uint64_t& entry) { return __atomic_load_n(&entry, __ATOMIC_ACQUIRE); }
uint64_t Exchange(uint64_t& entry, uint64_t value) { return __atomic_exchange_n(&entry, value, __ATOMIC_SEQ_CST); }

// The entry's bits for a protection that is not kNone. Dirty from the start: nobody asks for it, and the host would
// take a second fault to set it.
uint64_t ProtectionBits(uint8_t prot) {
  uint64_t bits = kPtePresent | kPteUser;
  if (prot & static_cast<uint8_t>(Protection::kWrite)) bits |= kPteWrite | kPteDirty;
  if (!(prot & static_cast<uint8_t>(Protection::kExecute))) bits |= kPteNoExecute;
  return bits;
}

bool Writable(uint8_t prot) { return prot & static_cast<uint8_t>(Protection::kWrite); }

bool Allows(uint8_t prot, AccessType access) {
  switch (access) {
    case AccessType::kRead:
      return prot != 0;
    case AccessType::kWrite:
      return Writable(prot);
    case AccessType::kExecute:
      return prot & static_cast<uint8_t>(Protection::kExecute);
  }
  __builtin_unreachable();
}

}  // namespace

void KvmAddressSpace::Removed::Use(Physical page) {
  if (!used.empty() && used.back().physical + used.back().bytes == page) {
    used.back().bytes += kPageSize;
  } else {
    used.push_back({page, kPageSize});
  }
}

void KvmAddressSpace::Removed::Drop(Physical page) {
  const Physical window = page & ~FileWindows::kWindowMask;
  if (!references.empty() && references.back().window == window) {
    ++references.back().count;
  } else {
    references.push_back({window, 1});
  }
}

base::Result<base::RefPtr<KvmAddressSpace>> KvmAddressSpace::Create(KvmPlatform& platform) {
  const Physical root = TRY(platform.machine().TakePage());
  platform.machine().Table(root)[kTableEntries - 1] = platform.machine().kernel_entry();
  return base::RefPtr<KvmAddressSpace>::Adopt(new KvmAddressSpace(platform, root));
}

KvmAddressSpace::KvmAddressSpace(KvmPlatform& platform, Physical root)
    : platform_(platform), root_(root), id_(platform.machine().NewAddressSpaceId()) {}

KvmAddressSpace::~KvmAddressSpace() {
  dead_.store(true, std::memory_order_release);
  End();
}

template <typename F>
void KvmAddressSpace::ForEachEntry(base::Range range, F&& f) {
  Machine& machine = platform_.machine();
  for (uint64_t address = range.start; address < range.end;) {
    uint64_t* table = machine.Table(root_);
    int level = 3;
    while (level > 0) {
      const uint64_t entry = table[address >> (12 + 9 * level) & 511];
      if (!(entry & kPtePresent)) break;
      table = machine.Table(entry & kPteAddress);
      --level;
    }
    if (level > 0) {  // nothing below this entry
      const uint64_t span = uint64_t{1} << (12 + 9 * level);
      address = (address & ~(span - 1)) + span;
      continue;
    }
    const uint64_t end = std::min(range.end, (address & ~(kLeafSpan - 1)) + kLeafSpan);
    for (; address < end; address += kPageSize) {
      uint64_t& entry = table[address >> 12 & 511];
      if (Load(entry) & kPtePresent) f(address, entry);
    }
  }
}

base::Result<uint64_t*> KvmAddressSpace::LeafTable(uint64_t address) {
  Machine& machine = platform_.machine();
  uint64_t* table = machine.Table(root_);
  for (int level = 3; level > 0; --level) {
    uint64_t& entry = table[address >> (12 + 9 * level) & 511];
    if (!(entry & kPtePresent)) {
      if (tables_.size() >= kMaxTables) return base::Errno(ENOMEM);
      const Physical next = TRY(machine.TakePage());
      base::ChargedMemory::Charge(kPageSize);
      tables_.push_back(next);
      __atomic_store_n(&entry, next | kLink, __ATOMIC_RELEASE);
    }
    table = machine.Table(entry & kPteAddress);
  }
  return table;
}

base::Result<void> KvmAddressSpace::Fill(base::Range range, base::Range whole, const Mapping& mapping) {
  FileWindows& windows = platform_.windows();
  const uint64_t bits = ProtectionBits(mapping.prot);
  const uint64_t size = (mapping.file->Size() + kPageSize - 1) & ~(kPageSize - 1);
  for (uint64_t address = range.start; address < range.end;) {
    const uint64_t offset = mapping.offset + (address - whole.start);
    if (offset >= size) return {};
    // As far as one table, one window and the file go.
    uint64_t bytes = std::min(range.end, (address & ~(kLeafSpan - 1)) + kLeafSpan) - address;
    bytes = std::min({bytes, FileWindows::kWindowBytes - (offset & FileWindows::kWindowMask), size - offset});
    uint64_t* table = TRY(LeafTable(address));
    const uint32_t pages = static_cast<uint32_t>(bytes / kPageSize);
    const Physical physical = TRY(windows.Take(*mapping.file, offset, Writable(mapping.prot), pages));
    uint32_t there = 0;
    for (uint32_t i = 0; i < pages; ++i) {
      uint64_t& entry = table[(address >> 12 & 511) + i];
      if (Load(entry) & kPtePresent) {
        ++there;
      } else {
        __atomic_store_n(&entry, (physical + i * kPageSize) | bits, __ATOMIC_RELEASE);
      }
    }
    if (there != 0) windows.Drop(physical, there);
    address += bytes;
  }
  return {};
}

void KvmAddressSpace::Clear(base::Range range, Removed& removed) {
  ForEachEntry(range, [&](uint64_t, uint64_t& entry) {
    const uint64_t old = Exchange(entry, 0);
    if (old & kPteAccessed) removed.Use(old & kPteAddress);
    removed.Drop(old & kPteAddress);
  });
}

base::Result<void> KvmAddressSpace::Protect(base::Range range, uint8_t prot, Removed& removed) {
  uint64_t covered = 0;
  map_.SplitAt(range.start);
  map_.SplitAt(range.end);
  for (auto it = map_.LowerBound(range.start); it != map_.end() && it->first < range.end; ++it) {
    Mapping& mapping = it->second.value;
    const base::Range piece = {it->first, it->second.end};
    covered += piece.length();
    const bool more_write = Writable(prot) && !Writable(mapping.prot);
    mapping.prot = prot;
    if (prot == 0) {
      Clear(piece, removed);
      continue;
    }
    const uint64_t bits = ProtectionBits(prot);
    Physical window = 0;
    bool refused = false;
    ForEachEntry(piece, [&](uint64_t, uint64_t& entry) {
      uint64_t old = Load(entry);
      const bool less =
          ((old & kPteWrite) && !(bits & kPteWrite)) || (!(old & kPteNoExecute) && (bits & kPteNoExecute));
      if (more_write && (old & kPteAddress & ~FileWindows::kWindowMask) != window) {
        window = old & kPteAddress & ~FileWindows::kWindowMask;
        refused = refused || !platform_.windows().MakeWritable(window).ok();
      }
      if (refused) return;
      for (;;) {
        const uint64_t keep = less ? 0 : old & kPteAccessed;
        if (__atomic_compare_exchange_n(&entry, &old, (old & kPteAddress) | bits | keep, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
          break;
        }
      }
      if (less && (old & kPteAccessed)) removed.Use(old & kPteAddress);
    });
    if (refused) return base::Errno(EACCES);
  }
  return covered == range.length() ? base::Result<void>{} : base::Errno(ENOMEM);  // as mprotect(2)
}

base::Result<void> KvmAddressSpace::Change(const MapOp& op, const base::RefPtr<MappedFile>& file, Removed& removed) {
  const base::Range range = {op.start, op.start + op.length};
  const auto forget = [&](base::Range, Mapping&& gone) { removed.files.push_back(std::move(gone.file)); };
  switch (op.kind) {
    case MapOp::Kind::kMap: {
      Clear(range, removed);
      map_.Remove(range, forget);
      auto it = map_.Insert(range, {file, op.offset, op.prot});
      if (op.prot == 0) return {};
      const uint64_t eager = std::min(op.length, op.populate ? kPopulateBytes : kEagerBytes);
      auto filled = Fill({range.start, range.start + eager}, {it->first, it->second.end}, it->second.value);
      if (!filled.ok()) map_.Remove(range, forget);
      return filled;
    }
    case MapOp::Kind::kUnmap:
      Clear(range, removed);
      map_.Remove(range, forget);
      return {};
    case MapOp::Kind::kProtect:
      return Protect(range, op.prot, removed);
  }
  __builtin_unreachable();
}

base::Result<void> KvmAddressSpace::Apply(std::span<const MapOp> ops) {
  for (const MapOp& op : ops) {
    if (!IsValid(op, kGuestRange)) return base::Errno(EINVAL);
    if (op.kind == MapOp::Kind::kMap && op.offset + op.length < op.offset) return base::Errno(EOVERFLOW);
  }
  Removed removed;
  base::Result<void> result;
  std::vector<base::RefPtr<MappedFile>> files;  // released after the lock
  int last_fd = -1;
  for (const MapOp& op : ops) {
    if (op.kind == MapOp::Kind::kMap && op.fd != last_fd) {
      auto file = platform_.windows().Open(op.fd);
      if (!file.ok()) {
        result = file.error();
        break;
      }
      files.push_back(std::move(*file));
      last_fd = op.fd;
    }
    base::MutexLock lock(mu_);
    if (dead() || ended_) {
      result = base::Errno(ESRCH);
      break;
    }
    result = Change(op, files.empty() ? nullptr : files.back(), removed);
    if (!result.ok()) break;
  }
  Finish(removed);
  // It need not wait for anybody here, as it does on other platforms; whoever makes one change after the other must let
  // others have the executor all the same.
  if (base::Fiber::Current() != nullptr && platform_.OthersWait()) base::Fiber::Yield();
  return result;
}

void KvmAddressSpace::Finish(Removed& removed) {
  if (!removed.used.empty()) {
    platform_.Interrupt(*this);
    for (const Removed::Pages& pages : removed.used) {
      // A run of pages may go from one window to the next; a window's place in the sentry follows its physical address
      // only within a slot.
      for (uint64_t done = 0; done < pages.bytes;) {
        const Physical at = pages.physical + done;
        const uint64_t bytes =
            std::min(pages.bytes - done, FileWindows::kWindowBytes - (at & FileWindows::kWindowMask));
        (void)base::Host(SYS_madvise, platform_.windows().Host(at), bytes, MADV_DONTNEED);
        done += bytes;
      }
    }
  }
  for (const Removed::References& r : removed.references) platform_.windows().Drop(r.window, r.count);
}

KvmAddressSpace::FaultOutcome KvmAddressSpace::OnFault(uint64_t address, AccessType access) {
  base::MutexLock lock(mu_);
  auto it = map_.Find(address);
  if (it == map_.end() || !Allows(it->second.value.prot, access)) return FaultOutcome::kForSentry;
  const base::Range whole = {it->first, it->second.end};
  const base::Range part = whole.Intersect({address & ~(kLeafSpan - 1), (address & ~(kLeafSpan - 1)) + kLeafSpan});
  if (!Fill(part, whole, it->second.value).ok()) return FaultOutcome::kBeyondEnd;
  bool there = false;
  const uint64_t page = address & ~(kPageSize - 1);
  ForEachEntry({page, page + kPageSize}, [&](uint64_t, uint64_t&) { there = true; });
  return there ? FaultOutcome::kRetry : FaultOutcome::kBeyondEnd;
}

bool KvmAddressSpace::DropBeyondEnds() {
  Removed removed;
  {
    base::MutexLock lock(mu_);
    for (auto& [start, node] : map_) {
      const Mapping& mapping = node.value;
      const uint64_t size = (mapping.file->Size() + kPageSize - 1) & ~(kPageSize - 1);
      const uint64_t length = node.end - start;
      if (mapping.offset + length <= size) continue;
      const uint64_t good = size > mapping.offset ? size - mapping.offset : 0;
      Clear({start + good, node.end}, removed);
    }
  }
  const bool any = !removed.references.empty();
  Finish(removed);
  return any;
}

size_t KvmAddressSpace::Peek(uint64_t address, std::span<std::byte> out) {
  size_t done = 0;
  base::MutexLock lock(mu_);
  while (done < out.size()) {
    const uint64_t at = address + done, page = at & ~(kPageSize - 1);
    if (!kGuestRange.Contains(at)) break;
    Physical physical = 0;
    ForEachEntry({page, page + kPageSize}, [&](uint64_t, uint64_t& entry) { physical = entry & kPteAddress; });
    if (physical == 0) break;
    const size_t bytes = std::min<size_t>(out.size() - done, page + kPageSize - at);
    const std::byte* host = platform_.windows().Host(physical) + (at - page);
    const size_t copied = base::SafeCopy(out.data() + done, host, bytes).copied;
    done += copied;
    if (copied != bytes) break;
  }
  return done;
}

void KvmAddressSpace::Release() {
  dead_.store(true, std::memory_order_release);
  platform_.EndContexts(*this);
  End();
}

// No virtual CPU runs in it any more.
void KvmAddressSpace::End() {
  Removed removed;
  std::vector<Physical> tables;
  base::IntervalMap<Mapping, MappingTraits> map;
  {
    base::MutexLock lock(mu_);
    if (std::exchange(ended_, true)) return;
    // Entries stay as they are: the tables are forgotten as a whole.
    ForEachEntry(kGuestRange, [&](uint64_t, uint64_t& entry) { removed.Drop(Load(entry) & kPteAddress); });
    tables = std::move(tables_);
    std::swap(map, map_);
  }
  for (size_t i = 0; i < tables.size(); ++i) base::ChargedMemory::Uncharge(kPageSize);
  platform_.machine().Retire(std::move(tables), root_);
  Finish(removed);
}

}  // namespace platform::kvm
