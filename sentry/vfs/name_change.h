// Marks a change of names in a superblock, before the file system makes it and after the dentries show it. vfs/ only.
#ifndef SENTRY_VFS_NAME_CHANGE_H_
#define SENTRY_VFS_NAME_CHANGE_H_

#include "sentry/vfs/inode.h"

namespace sentry {

class NameChange {
 public:
  explicit NameChange(Superblock& superblock) : superblock_(superblock) {
    superblock_.name_changes.fetch_add(1, std::memory_order_acq_rel);
  }
  ~NameChange() { superblock_.name_changes.fetch_add(1, std::memory_order_acq_rel); }
  NameChange(const NameChange&) = delete;

 private:
  Superblock& superblock_;
};

}  // namespace sentry

#endif  // SENTRY_VFS_NAME_CHANGE_H_
