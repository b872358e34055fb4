// Mappable: what mm needs of a file to map it. Implemented by file systems; the small target that keeps mm and vfs apart.
#ifndef SENTRY_MM_MAPPABLE_H_
#define SENTRY_MM_MAPPABLE_H_

#include <cstdint>
#include <set>
#include <string>

#include "base/errno.h"
#include "base/interval_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "platform/memory_file.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

class MemoryManager;

// Where pages of a file live on the host.
struct HostPages {
  int fd = -1;            // the memory file's or a donated one; stays open as long as the Mappable lives
  uint64_t offset = 0;    // of the first page, in fd
  uint64_t length = 0;    // at least one page; may be more or less than asked
  bool memory_file = false;
};

// A mapping of a Mappable by some address space; the Mappable keeps a set of them to invalidate on truncation.
struct MappingRecord {
  MemoryManager* mm;  // alive while the record is registered
  Addr addr;
  uint64_t offset;    // in the Mappable
  uint64_t length;
  bool shared_writable;
  friend auto operator<=>(const MappingRecord&, const MappingRecord&) = default;
};

class Mappable : public virtual base::RefCounted {
 public:
  // Pages that hold the file's [offset, offset+length): page aligned, for a shared mapping or to be copied from. `for_write`: a shared
  // writable mapping will write there (overlay copies up at open, so no copy-up happens here). Parks. EFAULT-like failures: EINVAL beyond
  // the file's end (the guest gets SIGBUS), ENOMEM, EIO, ENOSPC.
  virtual Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) = 0;
  // Registered for every VMA that maps the file, with mm's lock held; must not park.
  void AddMapping(const MappingRecord& record) EXCLUDES(mappings_mu_);
  void RemoveMapping(const MappingRecord& record) EXCLUDES(mappings_mu_);
  // Removes the translations of [offset, end) from every address space (truncation, hole punching). `keep_private`: copies
  // that a guest made of private mappings stay (hole punching); truncation removes them too. Parks.
  void InvalidateMappings(uint64_t offset, uint64_t end, bool keep_private = false) EXCLUDES(mappings_mu_);
  // For /proc/pid/maps.
  struct Identity {
    std::string path;
    uint64_t dev = 0;
    uint64_t ino = 0;
  };
  virtual Identity MappedIdentity() const = 0;
  virtual Result<void> Msync(uint64_t offset, uint64_t length) { return {}; }

 private:
  base::Mutex mappings_mu_;
  std::multiset<MappingRecord> mappings_ GUARDED_BY(mappings_mu_);
};

}  // namespace sentry

#endif  // SENTRY_MM_MAPPABLE_H_
