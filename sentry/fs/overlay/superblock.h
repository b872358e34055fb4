// OverlaySuperblock: the layers, and which overlay inode belongs to an inode of the upper layer.
#ifndef SENTRY_FS_OVERLAY_SUPERBLOCK_H_
#define SENTRY_FS_OVERLAY_SUPERBLOCK_H_

#include "absl/container/flat_hash_map.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/inode.h"

namespace sentry::overlay {

inline constexpr std::string_view kXattrPrefix = "trusted.overlay.";
inline constexpr std::string_view kOpaqueXattr = "trusted.overlay.opaque";
// The number that a copied-up file had: st_ino must not change. (Linux stores a file handle there.)
inline constexpr std::string_view kOriginXattr = "trusted.overlay.origin";

class OverlayInode;

class OverlaySuperblock final : public Superblock {
 public:
  // `work`: a directory of the upper file system beside what is shown; `whiteout`: an inode in it that whiteouts are
  // links to.
  OverlaySuperblock(const Options& options, RefPtr<Inode> work, RefPtr<Inode> whiteout);

  std::string_view type_name() const override { return "overlay"; }
  Result<FsStat> StatFs() override;
  Result<void> Sync() override { return options_.upper.superblock->Sync(); }
  std::string MountOptions() const override { return "lowerdir=/lower,upperdir=/upper,workdir=/work"; }

  Inode& work() const { return *work_; }
  Inode& whiteout() const { return *whiteout_; }
  // A name in the work directory that nothing has.
  std::string NextWorkName();

  // The overlay inode of an upper inode, if there is one; else `fresh` becomes it.
  RefPtr<OverlayInode> FindOrAdd(const Inode& upper, RefPtr<OverlayInode> fresh) EXCLUDES(mu_);
  // `inode` is the overlay inode of `upper` from now on: it copied it up.
  void Claim(const Inode& upper, OverlayInode& inode) EXCLUDES(mu_);
  RefPtr<OverlayInode> FindUpper(const Inode& upper) EXCLUDES(mu_);
  void Forget(const Inode& upper, const OverlayInode& inode) EXCLUDES(mu_);

 private:
  const Options options_;
  const RefPtr<Inode> work_;
  const RefPtr<Inode> whiteout_;
  std::atomic<uint64_t> next_work_name_{0};
  base::Mutex mu_;
  absl::flat_hash_map<const Inode*, OverlayInode*> by_upper_
      GUARDED_BY(mu_);  // weak; the overlay inode keeps the key alive
};

// A character device 0:0.
bool IsWhiteout(Inode& inode);

}  // namespace sentry::overlay

#endif  // SENTRY_FS_OVERLAY_SUPERBLOCK_H_
