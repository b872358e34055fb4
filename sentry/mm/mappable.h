// Mappable: what mm needs of a file to map it. Implemented by file systems; the small target that keeps mm and vfs
// apart.
#ifndef SENTRY_MM_MAPPABLE_H_
#define SENTRY_MM_MAPPABLE_H_

#include <cstdint>
#include <map>
#include <string>

#include "base/errno.h"
#include "base/interval_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "platform/memory_file.h"
#include "sentry/mm/file_windows.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

class MemoryManager;

// Where pages of a file live on the host.
struct HostPages {
  int fd = -1;          // the memory file's or a donated one; stays open as long as the Mappable lives
  uint64_t offset = 0;  // of the first page, in fd
  uint64_t length = 0;  // at least one page; may be more or less than asked
  bool memory_file = false;
};

// An address space that maps a Mappable. One record per address space and kind, however many VMAs it has: which of them
// are concerned by a truncation is looked up there and then.
struct MappingRecord {
  MemoryManager* mm;     // alive while the record is registered
  bool shared_writable;  // MAP_SHARED and may be made writable
  friend auto operator<=>(const MappingRecord&, const MappingRecord&) = default;
};

class Mappable : public virtual base::RefCounted {
 public:
  // Pages that hold the file from `offset` on: page aligned, for a shared mapping or to be copied from. `length` is
  // what would be welcome, up to the whole of a mapping: give what is cheap to give (all of a donated file; of a sparse
  // one the piece there). `for_write`: a shared writable mapping will write there (overlay copies up at open, so no
  // copy-up happens here). Parks. Failures: EINVAL beyond the file's end (the guest gets SIGBUS), ENOMEM, EIO, ENOSPC.
  virtual Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) = 0;
  // Called by mm with its lock held; must not park.
  void AddMapping(const MappingRecord& record) EXCLUDES(mappings_mu_);
  void RemoveMapping(const MappingRecord& record) EXCLUDES(mappings_mu_);
  // Removes the translations of [offset, end) from every address space (truncation, hole punching). `keep_private`:
  // copies that a guest made of private mappings stay (hole punching); truncation removes them too. Parks. The order
  // for callers: make Translate refuse the range (the new size), then this, then free the pages; and hold none of the
  // locks that Translate takes, because mm's lock comes before them.
  void InvalidateMappings(uint64_t offset, uint64_t end, bool keep_private = false) EXCLUDES(mappings_mu_);
  // Some address space has a MAP_SHARED mapping that is or can be made writable (F_ADD_SEALS, ETXTBSY).
  bool HasSharedWritableMappings() const EXCLUDES(mappings_mu_);
  // Address spaces that map it.
  size_t MappingCount() const EXCLUDES(mappings_mu_);
  // What stands for this object's pages as futex words: the same for all that give access to the same pages.
  virtual Mappable& FutexIdentity() { return *this; }
  // For /proc/pid/maps.
  struct Identity {
    std::string path;
    uint64_t dev = 0;
    uint64_t ino = 0;
  };
  virtual Identity MappedIdentity() const = 0;
  virtual Result<void> Msync(uint64_t offset, uint64_t length) { return {}; }
  // madvise(MADV_REMOVE): punches a hole, InvalidateMappings included. Parks; no mm lock is held.
  virtual Result<void> PunchHole(uint64_t offset, uint64_t length) { return Errno(EOPNOTSUPP); }

  // The sentry's own mappings of descriptors that Translate returned (not the memory file's).
  FileWindows& windows() { return windows_; }

 private:
  mutable base::Mutex mappings_mu_;
  std::map<MappingRecord, uint64_t> mappings_ GUARDED_BY(mappings_mu_);  // to the sequence number of its registration
  uint64_t last_sequence_ GUARDED_BY(mappings_mu_) = 0;
  FileWindows windows_;
};

}  // namespace sentry

#endif  // SENTRY_MM_MAPPABLE_H_
