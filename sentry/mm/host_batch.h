// HostBatch: the host-side consequences of one operation on an address space, collected so that they go over as one
// Apply (DESIGN.md §5), and what may be given back only after that was confirmed.
#ifndef SENTRY_MM_HOST_BATCH_H_
#define SENTRY_MM_HOST_BATCH_H_

#include <vector>

#include "base/ref_ptr.h"
#include "platform/memory_file.h"
#include "platform/platform.h"

namespace sentry {

class HostBatch {
 public:
  // Neighbours that continue each other become one operation; a map swallows the unmap of the same place before it.
  void Map(base::Range guest, int fd, uint64_t offset, uint8_t prot, bool populate);
  void Unmap(base::Range guest);
  void Protect(base::Range guest, uint8_t prot);
  // One reference to pages that were mapped here until now.
  void Free(platform::FileRange pages) { free_.push_back(pages); }
  void Hold(base::RefPtr<const base::RefCounted> object) { hold_.push_back(std::move(object)); }
  // The file's own pages take the place of patched ones (text_patches.h): no thread may be in the guest meanwhile.
  void RestoresText() { restores_text_ = true; }
  bool restores_text() const { return restores_text_; }

  // The changes of `later` after these.
  void Append(HostBatch&& later);

  const std::vector<platform::MapOp>& ops() const { return ops_; }
  // After the changes were confirmed.
  void Finish(platform::MemoryFile& memory_file);

 private:
  std::vector<platform::MapOp> ops_;
  std::vector<platform::FileRange> free_;
  std::vector<base::RefPtr<const base::RefCounted>> hold_;
  bool restores_text_ = false;
};

}  // namespace sentry

#endif  // SENTRY_MM_HOST_BATCH_H_
