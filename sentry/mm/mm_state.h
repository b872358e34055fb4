// The inside of a MemoryManager: two interval maps over guest addresses, and the operations on them. Everything here
// runs with MemoryManager::lock_ held: for writing, unless a comment says that reading is enough.
//
//   vmas    what may be accessed, and what it is an image of               (Linux: vm_area_struct)
//   pages   what is behind it now, and what the host has mapped there      (Linux: page tables)
//
// A range of vmas without pages has nothing on the host; the first touch faults into BackRange. There are no pages
// where there is no VMA; one entry of pages may reach over several VMAs.
#ifndef SENTRY_MM_MM_STATE_H_
#define SENTRY_MM_MM_STATE_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/interval_map.h"
#include "sentry/mm/file_windows.h"
#include "sentry/mm/host_batch.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/text_patches.h"

namespace sentry {

inline constexpr uint8_t kRead = 1, kWrite = 2, kExec = 4;  // PROT_*, and platform::Protection
inline constexpr Addr kMinAddr = 64 << 10;                  // vm.mmap_min_addr

struct Vma {
  uint8_t prot = 0;
  uint8_t max_prot = 7;
  bool shared = false;
  bool grows_down = false;
  bool noreserve = false;
  bool locked = false;
  bool lock_on_fault = false;
  bool special = false;
  bool dont_fork = false;
  bool wipe_on_fork = false;
  bool dont_dump = false;
  bool runs = false;   // its text is executed there, as far as is known (TextPatches)
  uint8_t copied = 0;  // pieces of the file that were copied by a write each, up to kCopiesBeforeAll
  RefPtr<Mappable> file;
  uint64_t offset = 0;  // in file, of the VMA's first byte; 0 without one
  std::string name;

  bool IsPrivate() const { return !shared; }
  bool PrivateWritable() const { return !shared && (prot & kWrite); }
};

struct VmaTraits {
  static Vma Split(Vma& left, base::Range whole, uint64_t at);
  static bool Merge(Vma& left, base::Range l, const Vma& right, base::Range r);
};
using VmaMap = base::IntervalMap<Vma, VmaTraits>;

struct Page {
  int fd = -1;
  uint64_t offset = 0;       // in fd, of the first byte
  bool owned = false;        // private pages of the memory file: this entry holds a reference to each
  bool memory_file = false;  // fd is the memory file
  bool cow = false;          // owned: others may have references too; not to be written before IsExclusive said so
  bool writable = false;     // not owned: translated for writing
  bool mapped = false;       // the host has it mapped, with host_prot
  bool resident = false;     // not mapped yet, and all of it exists: to be mapped populated
  uint8_t host_prot = 0;

  platform::FileRange FileRangeOf(base::Range entry, base::Range part) const {
    return {offset + (part.start - entry.start), offset + (part.end - entry.start)};
  }
};

struct PageTraits {
  static Page Split(Page& left, base::Range whole, uint64_t at);
  static bool Merge(Page& left, base::Range l, const Page& right, base::Range r);
};
using PageMap = base::IntervalMap<Page, PageTraits>;

enum class CopyKind : uint8_t { kRead, kWrite };

struct MemoryManager::State {
  explicit State(MemoryManager& mm);
  ~State();

  MemoryManager& mm;
  MmEnvironment& env;
  platform::MemoryFile& memory_file;

  VmaMap vmas;
  PageMap pages;
  Layout layout;
  bool released = false;

  // --- Layout of the address space (layout.cc).
  Addr task_size;  // first address beyond what a guest may use
  Addr mmap_base;  // top of the area for mmap without an address
  uint64_t stack_limit = 8 << 20;
  // Every gap in [search_cache, mmap_base) is at most search_hole bytes: 60,000 mappings are not walked for each new
  // one.
  Addr search_cache;
  uint64_t search_hole = 0;
  Result<Addr> FindFree(Addr hint, uint64_t length, bool map_32bit);
  Result<Addr> FindTopDown(uint64_t length);
  Result<Addr> FindBottomUp(uint64_t length, Addr low, Addr high);
  bool IsFree(base::Range r) const;  // a stack above keeps its guard gap
  void NoteFreed(base::Range r);

  // --- VMAs (mm_state.cc). Sums are kept as VMAs come and go.
  uint64_t virtual_bytes = 0, data_bytes = 0, locked_bytes = 0, peak_virtual_bytes = 0, peak_resident_bytes = 0;
  bool lock_future = false, lock_future_on_fault = false;
  struct MappedFile {
    uint64_t bytes = 0;
    RefPtr<Mappable> file;
  };
  // Registration with Mappables, per file and kind: bytes of VMAs; 0 unregisters.
  absl::flat_hash_map<std::pair<Mappable*, bool>, MappedFile> files;
  static bool SharedWritable(const Vma& v) { return v.shared && (v.max_prot & kWrite); }
  void AddToSums(const Vma& v, uint64_t length);
  void SubtractFromSums(const Vma& v, uint64_t length);
  VmaMap::iterator InsertVma(base::Range r, Vma v);
  // Removes VMAs and pages; the host's part goes to the batch.
  void RemoveRange(base::Range r, HostBatch& batch);
  // Only the pages: VMAs stay and fault again. `owned`: private pages too, not only a file's.
  void DropPages(base::Range r, bool owned, HostBatch& batch);
  // Changes attributes of [r] (which VMAs cover), keeping the sums right, and merges.
  template <typename F>
  void ChangeVmas(base::Range r, F&& change);
  // Whether VMAs cover r without a gap.
  bool Covered(base::Range r) const;

  // --- Backing (backing.cc).
  enum class Effort { kEager, kFault };
  // Gives r (within VMAs) pages, and makes the host map them as the VMAs allow. `write`: breaks copy-on-write, gives
  // private file mappings their own copies. kEager leaves out what is expensive or fails. EFAULT-like: EINVAL (beyond
  // the file's end), ENOMEM, EIO.
  Result<void> BackRange(base::Range r, bool write, Effort effort, HostBatch& batch, bool populate = false);
  Result<void> BackRangeUnsynced(base::Range r, bool write, Effort effort, HostBatch& batch, base::Range& touched);
  // After a new VMA or a change of protection: what should be mapped without waiting for a fault.
  void BackEagerly(base::Range r, HostBatch& batch, bool populate);
  // Makes the pages of r exist that are mapped and were not touched yet.
  void PopulateMapped(base::Range r);
  // Emits what makes the host agree with vmas and pages in r.
  void SyncHost(base::Range r, HostBatch& batch, bool populate = false);
  static uint8_t HostProt(const Vma& v, const Page& p);
  // Fill a gap between pages so that `at` is covered; return what they covered. MakePrivate replaces pages that may not
  // be written.
  Result<base::Range> BackAnonymous(base::Range gap, Addr at);
  Result<base::Range> BackFromFile(VmaMap::iterator vma, base::Range gap, base::Range want, Effort effort);
  Result<base::Range> MakePrivate(VmaMap::iterator vma, PageMap::iterator page, base::Range want, HostBatch& batch);
  Result<void> CopyFromFile(Mappable& file, int fd, uint64_t from, platform::FileRange to);
  // What to pass to MemoryFile::Allocate as congruent_to.
  Addr Congruence(base::Range r) const;
  // An offset in the memory file that continues what is mapped next to r, or 0.
  uint64_t PreferredOffset(base::Range r);
  // Copy chunks grow while faults follow each other, and where a small private file mapping has had some.
  uint64_t chunk_bytes = 64 << 10;
  Addr last_chunk_end = 0;
  base::Range CopyChunk(VmaMap::iterator vma, PageMap::iterator page, base::Range want);

  // --- Patched text (text_patches.cc).
  TextPatches text;
  // Whether what is mapped there is text that may be executed from patched images.
  bool IsText(const Vma& v, const Page& p) const;
  // Whether the call that ends at `behind` was made by the program's interpreter.
  bool IsInterpreter(Addr behind) const;
  // Maps the images of a piece of text over the file's pages, which the batch or the host have there; as far as they
  // are known, and not there yet. `p` begins at `part`.
  void PatchText(const Vma& v, const Page& p, base::Range part, HostBatch& batch);
  // The same wherever the file is mapped and runs; so it does at `page`, where a call has trapped.
  void PatchFile(const Mappable& file, Addr page, HostBatch& batch);
  enum class Refuse : uint8_t { kNo, kForGood };
  // Takes a placement back: all of its text but `gone`, which the caller unmaps, and then its trampolines.
  void RestoreText(size_t index, base::Range gone, Refuse refuse, HostBatch& batch);
  // Those that have text in r.
  void RestoreTextIn(base::Range r, base::Range gone, Refuse refuse, HostBatch& batch);
  // Those that have trampolines in r, where a VMA is about to be.
  void GiveUpTrampolinesIn(base::Range r, HostBatch& batch);
  // After the host failed: appends what unmaps all of it, and ends patching here.
  void ForgetText(std::vector<platform::MapOp>& undo);
  Placement* PlaceText(const Vma& v, const Page& p, base::Range part);

  // Applies the batch. On failure what it touched is unmapped on the host (and faults in again), or the address space
  // is given up.
  Result<void> Commit(HostBatch& batch);
  // For a mm that has no address space yet (MemoryManager::CreateDetached).
  bool deferring = false;
  HostBatch deferred;
  // The host has what was deferred.
  void FinishTakeOver();

  // --- Copies (copy_unsafe.cc); a shared lock is enough.
  struct View {
    std::span<std::byte> bytes;
    FileWindows::Pin pin;
  };
  enum class ViewResult { kOk, kAbsent, kDenied };
  // The sentry's view of guest memory from addr on, up to `max` bytes, as far as it is one piece. kAbsent: BackRange is
  // needed.
  ViewResult FindView(Addr addr, uint64_t max, CopyKind kind, bool force, View& out) const;
  bool Accessible(const Vma& v, CopyKind kind, bool force) const;

  // Extends the stack VMA above addr down to it (mm/mmap.c, expand_downwards). False if there is none, or no room.
  bool GrowStack(Addr addr, HostBatch& batch);

  // HandleFault: the page that was faulted on last without anything to do, and how often.
  Addr spurious_page = 0;
  int spurious_count = 0;

  void ReleaseAll();
};

template <typename F>
void MemoryManager::State::ChangeVmas(base::Range r, F&& change) {
  vmas.SplitAt(r.end);
  for (auto it = vmas.SplitAt(r.start); it != vmas.end() && it->first < r.end; ++it) {
    uint64_t length = it->second.end - it->first;
    SubtractFromSums(it->second.value, length);
    change(it->second.value);
    AddToSums(it->second.value, length);
  }
  for (auto it = vmas.LowerBound(r.start); it != vmas.end() && it->first <= r.end;)
    it = std::next(vmas.MergeAround(it));
}

}  // namespace sentry

#endif  // SENTRY_MM_MM_STATE_H_
