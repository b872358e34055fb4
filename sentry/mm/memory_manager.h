// MemoryManager: a guest address space. VMAs (what may be accessed and what backs it) over a map of the pages behind
// them, over a platform AddressSpace (what the host has mapped).
//
// Locking: lock_ (a fiber lock) guards everything; system calls that change mappings and faults hold it for writing,
// copies of resident memory for reading. Order: mm.lock_ → inode locks are *not* taken under it: Mappable::Translate
// may take a file's own locks, so nothing below a file's locks may copy guest memory (read(2) into a mapping of the
// same file). Sources: man 2 mmap, mm/mmap.c, mm/memory.c.
#ifndef SENTRY_MM_MEMORY_MANAGER_H_
#define SENTRY_MM_MEMORY_MANAGER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fiber_lock.h"
#include "base/interval_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "platform/memory_file.h"
#include "platform/platform.h"
#include "platform/text_patcher.h"
#include "sentry/mm/mappable.h"
#include "sentry/mm/text_patches.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

using base::RefPtr;
using platform::AccessType;

// Host-level things that every mm of a sandbox shares. Owned by the Kernel, outlives every mm.
struct MmEnvironment {
  platform::Platform* platform = nullptr;
  platform::MemoryFile* memory_file = nullptr;
  // Returns when no thread of the address space is in the guest. Those that want to go there meanwhile find
  // text_changing() and wait. Parks; called with the mm's lock held.
  std::function<void(MemoryManager&)> stop_threads = nullptr;
};

struct MMapOptions {
  Addr addr = 0;         // hint, or the address with fixed
  uint64_t length = 0;   // bytes, rounded up here; 0: EINVAL
  uint8_t prot = 0;      // PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4
  uint8_t max_prot = 7;  // a shared mapping of a file opened read-only has no PROT_WRITE: mprotect checks
  bool shared = false;
  bool fixed = false;
  bool fixed_noreplace = false;
  bool grows_down = false;
  bool populate = false;
  bool locked = false;
  bool noreserve = false;
  bool stack = false;
  bool map_32bit = false;
  RefPtr<Mappable> mappable;  // null: anonymous (a shared anonymous mapping makes its own)
  uint64_t offset = 0;
  std::string name;      // "[stack]", "[vdso]", … for /proc/pid/maps
  bool special = false;  // vdso/vvar: not copied by mremap, not split: kernel's VM_SPECIAL as far as visible
  // Who maps a file, which says whether its text will be executed where it is, and not only be read by a program that
  // translates or compares it (text_patches.h).
  Addr caller = 0;           // behind mmap(2)'s instruction; 0: the kernel, in execve(2)
  bool interpreter = false;  // execve(2): of the ELF interpreter, which maps libraries itself
};

// What a fault that cannot be served becomes.
struct FaultSignal {
  int signo = 0;    // SIGSEGV or SIGBUS
  int si_code = 0;  // SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR, …
};

// Identity of a futex word (man 2 futex): private ones by (mm, address), shared ones by what is behind the address.
struct FutexKey {
  const void* object =
      nullptr;  // MemoryManager*, or Mappable* (referenced by `hold`), or null for anonymous shared pages
  uint64_t offset = 0;
  RefPtr<base::RefCounted> hold;
  friend bool operator==(const FutexKey& a, const FutexKey& b) { return a.object == b.object && a.offset == b.offset; }
};

struct MmLimits {  // bytes; RLIM_INFINITY = UINT64_MAX
  uint64_t address_space = UINT64_MAX;
  uint64_t data = UINT64_MAX;
  uint64_t stack = 8 << 20;
  uint64_t memlock = UINT64_MAX;
};

class MemoryManager final : public base::RefCounted, public UserMemory {
 public:
  static constexpr int kMaxMappings = 65530;  // vm.max_map_count

  // Parks. What the platform says: EAGAIN, ENOMEM.
  static Result<RefPtr<MemoryManager>> Create(MmEnvironment& env);
  // For exec: without an address space of the platform. Changes are collected, which the sentry's own copies see at
  // once, until Attach or TakeOver; nobody but its maker uses it before that.
  static Result<RefPtr<MemoryManager>> CreateDetached(MmEnvironment& env);
  // Makes an address space and the collected changes, as one. Parks. What the platform says; the mm is then to be
  // dropped.
  Result<void> Attach() EXCLUDES(lock_);
  // The same with the address space of `old`, which has one user, whose thread `context` is and goes on here; it is
  // empty then. A new one where the platform cannot do that. What the platform says: both are to be dropped.
  Result<void> TakeOver(MemoryManager& old, platform::Context& context) EXCLUDES(lock_);
  // A copy for fork(2): private memory copy-on-write or copied at once, shared memory shared, MADV_DONTFORK left out,
  // MADV_WIPEONFORK zeroed. Parks.
  Result<RefPtr<MemoryManager>> Fork();

  // --- System calls. Errors as in their manual pages. Guest addresses are untrusted.
  Result<Addr> MMap(const MMapOptions& options, const MmLimits& limits);
  Result<void> Munmap(Addr addr, uint64_t length);
  Result<void> Mprotect(Addr addr, uint64_t length, uint8_t prot, bool grows_down, bool grows_up);
  Result<Addr> Mremap(Addr old_addr, uint64_t old_length, uint64_t new_length, uint32_t flags, Addr new_addr,
                      const MmLimits& limits);
  Result<Addr> Brk(Addr new_break, const MmLimits& limits);
  Result<void> Madvise(Addr addr, uint64_t length, int advice);
  Result<void> Msync(Addr addr, uint64_t length, int flags);
  Result<void> Mlock(Addr addr, uint64_t length, int flags, bool may_exceed, const MmLimits& limits);
  Result<void> Munlock(Addr addr, uint64_t length);
  Result<void> MlockAll(int flags, bool may_exceed, const MmLimits& limits);
  Result<void> MunlockAll();
  // One byte per page, bit 0 = resident.
  Result<std::vector<uint8_t>> Mincore(Addr addr, uint64_t length);

  // shmdt(2): unmaps what is left of the file that was mapped with its beginning at `addr`, if `accept` says that it is
  // of the kind that is meant. EINVAL if there is none.
  Result<void> UnmapFileAt(Addr addr, const std::function<bool(Mappable&)>& accept);

  // --- Faults. Success: the access can be repeated. May grow a MAP_GROWSDOWN VMA within limits.stack. Parks.
  std::optional<FaultSignal> HandleFault(Addr addr, AccessType access, const MmLimits& limits);

  // --- UserMemory. Access checks are the guest's own (no read of PROT_NONE, no write to read-only), faulting pages in.
  Result<size_t> CopyIn(std::span<std::byte> dst, Addr src) override;
  Result<size_t> CopyOut(Addr dst, std::span<const std::byte> src) override;
  Result<size_t> ZeroOut(Addr dst, size_t bytes) override;
  Result<size_t> ReadFromHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> to) override;
  Result<size_t> WriteToHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> from) override;
  // The same without the VMA's protection, as ptrace and /proc/pid/mem have it (FOLL_FORCE): writes break copy-on-write
  // of private mappings; shared read-only ones fail with EFAULT.
  Result<size_t> ForceCopyIn(std::span<std::byte> dst, Addr src);
  Result<size_t> ForceCopyOut(Addr dst, std::span<const std::byte> src);

  // --- Futex words. EFAULT, EINVAL (misaligned).
  Result<FutexKey> GetFutexKey(Addr addr, bool private_futex);
  Result<uint32_t> Load32(Addr addr);
  // Value seen before; it was exchanged if that equals `expected`.
  Result<uint32_t> CompareExchange32(Addr addr, uint32_t expected, uint32_t desired);

  // --- exec and /proc
  struct Layout {
    Addr start_code = 0, end_code = 0, start_data = 0, end_data = 0, start_brk = 0, brk = 0, start_stack = 0,
         arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
    Addr vdso = 0;
    std::vector<uint64_t> auxv;
    RefPtr<base::RefCounted> exe;  // /proc/pid/exe: a FileDescription, whose path() it is
  };
  Layout layout();
  void SetLayout(Layout layout);
  void SetBrkStart(Addr start);
  // Picks mmap_base from the stack limit and randomness (arch/x86/mm/mmap.c); call once after exec's new mm is made.
  void SetMmapBase(uint64_t stack_limit, bool randomize);

  struct VmaInfo {
    base::Range range;
    uint8_t prot = 0;
    bool shared = false;
    bool grows_down = false;
    bool locked = false;
    uint64_t offset = 0;
    Mappable::Identity identity;  // path empty for anonymous memory without a name
    uint64_t resident_bytes = 0;
    uint64_t dirty_bytes = 0;
  };
  // Snapshot in address order of at most `max` VMAs that end above `from`.
  std::vector<VmaInfo> Vmas(Addr from = 0, size_t max = SIZE_MAX);
  struct Usage {
    uint64_t virtual_bytes = 0, resident_bytes = 0, shared_bytes = 0, text_bytes = 0, data_bytes = 0, stack_bytes = 0,
             locked_bytes = 0, peak_virtual_bytes = 0, peak_resident_bytes = 0;
    int vma_count = 0;
  };
  Usage usage();
  // Of `count` pages from `from` on: what the bits of /proc/pid/pagemap are made of.
  enum PageState : uint8_t { kPagePresent = 1, kPageOfFile = 2, kPageExclusive = 4 };
  std::vector<uint8_t> PageStates(Addr from, size_t count);
  // The peak of resident memory starts anew (clear_refs).
  void ResetPeak();

  // Threads that use this mm: exec and exit. The last to leave releases the address space (parks).
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  void DropUser();
  int users() const { return users_.load(std::memory_order_acquire); }

  // --- Patched text (text_patches.h).
  // A call trapped; `rip` is behind the instruction. May patch the text that it came from, which parks.
  void NoteTrap(Addr rip, uint64_t number) {
    if (!traps_) return;
    if (uint32_t traps = traps_->Count(platform::TextPatcher::PageOfCall(rip))) ConsiderText(rip, number, traps);
  }
  // Whether a thread that has left the guest may be at an address that the program does not have.
  bool text_patched() const { return text_patched_.load(std::memory_order_relaxed); }
  // Puts such a thread where it is in the original; true if it was not there. Before anybody else looks at its
  // registers, and before it counts as having left the guest.
  bool ShowOriginal(platform::Registers& regs, platform::Exit& exit) EXCLUDES(shown_mu_);
  // Everything goes back to the original and stays so, in children too; for who steps through it. Parks.
  void RestoreText();
  // The text is being changed back: threads stay out of the guest. Looked at after a thread has made known that it is
  // about to go there.
  bool text_changing() const { return text_changing_.load(std::memory_order_seq_cst); }
  // Until that is done. Parks.
  void WaitForText();

  platform::AddressSpace& address_space() { return *address_space_; }
  MmEnvironment& env() { return env_; }
  // membarrier(2) registrations, dumpable (prctl PR_SET_DUMPABLE): small per-mm words.
  std::atomic<uint32_t> membarrier_state{0};
  std::atomic<int> dumpable{1};

  // Called by Mappable::InvalidateMappings: removes translations of the file's [offset, end) from every VMA that maps
  // it.
  void Invalidate(const Mappable& file, uint64_t offset, uint64_t end, bool keep_private);

  struct State;  // VMAs, pages, private to mm/

 private:
  MemoryManager(MmEnvironment& env, RefPtr<platform::AddressSpace> address_space);
  ~MemoryManager() override;
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);

  // text_patches.cc
  void ConsiderText(Addr rip, uint64_t number, uint32_t traps) EXCLUDES(lock_);
  // What ShowOriginal knows becomes what the placements are; with_former: beside what it knew.
  void PublishText(const TextPatches& text, bool with_former) EXCLUDES(shown_mu_);
  void StopThreads();
  void ContinueThreads() { text_changing_.store(false, std::memory_order_seq_cst); }

  // copy_unsafe.cc
  template <typename F>
  Result<size_t> ForEachView(Addr addr, size_t n, bool write, bool force, F&& f) EXCLUDES(lock_);
  bool FaultInForCopy(Addr addr, uint64_t length, bool write, bool force) EXCLUDES(lock_);
  Result<size_t> CopyInImpl(std::span<std::byte> dst, Addr src, bool force);
  Result<size_t> CopyOutImpl(Addr dst, std::span<const std::byte> src, bool force);
  Result<size_t> HostIo(long nr, int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> segments,
                        bool write_guest);

  MmEnvironment& env_;
  RefPtr<platform::AddressSpace> address_space_;  // set once, before others have the mm
  std::atomic<int> users_{1};
  mutable base::FiberRwLock lock_;
  std::unique_ptr<State> state_ PT_GUARDED_BY(lock_);

  struct ShownText {
    RefPtr<platform::PatchedText> text;
    Addr trampolines;
    std::vector<base::Range> parts;
  };
  std::unique_ptr<TrapCounts> traps_;  // set once; null: no patching
  std::atomic<bool> text_patched_{false}, text_changing_{false};
  // Apart from lock_, which may be held by somebody who waits for a thread that asks.
  base::Mutex shown_mu_;
  std::vector<ShownText> shown_text_ GUARDED_BY(shown_mu_);
};

}  // namespace sentry

#endif  // SENTRY_MM_MEMORY_MANAGER_H_
