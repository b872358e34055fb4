// Regular files of an overlay: descriptions that work on one of the layer's.
#ifndef SENTRY_FS_OVERLAY_FILE_H_
#define SENTRY_FS_OVERLAY_FILE_H_

#include "sentry/fs/overlay/inode.h"
#include "sentry/vfs/regular_file.h"

namespace sentry::overlay {

class OverlayFile final : public OverlayInode {
 public:
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override EXCLUDES(mu_);
  // A description of the layer's file. `upper`: of the upper one, which has to exist.
  Result<RefPtr<FileDescription>> OpenReal(bool upper, uint32_t flags, const VfsPath& path, VfsContext& ctx)
      EXCLUDES(mu_);

 private:
  using OverlayInode::OverlayInode;
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);
  base::Mutex mu_;
  // What the layers' descriptions are opened under: named by the path of the first open, for /proc/pid/maps.
  RefPtr<Dentry> upper_dentry_ GUARDED_BY(mu_);
  RefPtr<Dentry> lower_dentry_ GUARDED_BY(mu_);
};

}  // namespace sentry::overlay

#endif  // SENTRY_FS_OVERLAY_FILE_H_
