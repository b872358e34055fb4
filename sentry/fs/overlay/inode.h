// Inodes of an overlay: an upper inode, a lower one, or both (merged directories).
#ifndef SENTRY_FS_OVERLAY_INODE_H_
#define SENTRY_FS_OVERLAY_INODE_H_

#include <atomic>
#include <string>

#include "sentry/fs/overlay/superblock.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::overlay {

class OverlayDirectory;

// Where a lower inode is, for its copy-up. It stays there as long as it has no upper part: renaming copies up first,
// and the directories above it cannot be renamed (EXDEV).
struct Place {
  RefPtr<OverlayDirectory> parent;
  std::string name;
};

// All types but directories and regular files are this and nothing more.
//
// Locks: the overlay's dir_locks (the vfs') → copy_up_lock_ (parents are copied up before it is taken) → the upper
// directory's dir_lock, which every change of an upper directory takes and which makes a copy-up and a removal of the
// same name exclude each other.
class OverlayInode : public Inode {
 public:
  ~OverlayInode() override;

  Inode* upper() const { return upper_.load(std::memory_order_acquire); }
  Inode* lower() const { return lower_.get(); }
  Inode& real() const { return upper() != nullptr ? *upper() : *lower_; }
  OverlaySuperblock& sb() const { return static_cast<OverlaySuperblock&>(superblock()); }

  Result<Attr> GetAttr() override;
  Result<Attr> GetOwnership() override { return real().GetOwnership(); }
  Result<void> SetAttr(const AttrChange& change) override;
  Result<void> CheckAccess(const Credentials& creds, int may) override { return real().CheckAccess(creds, may); }
  Result<std::string> ReadLink() override { return real().ReadLink(); }
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    return Errno(ENXIO);
  }
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, uint32_t flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

  // A copy-up makes a file of the same name and owner; what listens or reads is where it was.
  Result<base::UniqueFd> ConnectHost(int type) override {
    return lower_ ? lower_->ConnectHost(type) : Result<base::UniqueFd>(Errno(ECONNREFUSED));
  }
  bool IsHostFifo() override { return lower_ && lower_->IsHostFifo(); }
  Result<base::UniqueFd> OpenHostFifo(uint32_t flags) override { return lower_->OpenHostFifo(flags); }

  // Makes sure that there is an upper part; of a regular file's contents, at most `max_bytes` are copied (it is
  // truncated next).
  Result<void> CopyUp(int64_t max_bytes = INT64_MAX) EXCLUDES(copy_up_lock_);
  // Its name is gone: it is not to be published by a copy-up any more. With the upper directory's dir_lock held, if
  // there is one.
  void MarkRemoved() { removed_.store(true, std::memory_order_release); }

  // The inode for what a lookup found: `upper` and/or `lower`.
  static RefPtr<OverlayInode> Make(RefPtr<OverlaySuperblock> sb, RefPtr<Inode> upper, RefPtr<Inode> lower, Place place);
  // What Make gives it as its number.
  static uint64_t InoFor(Inode* upper, Inode* lower);

 protected:
  OverlayInode(RefPtr<OverlaySuperblock> sb, uint64_t ino, FileType type, RefPtr<Inode> upper, RefPtr<Inode> lower,
               Place place);
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);

 private:
  Result<RefPtr<Inode>> CopyRegular(const Attr& attr, int64_t max_bytes, Inode& upper_dir);
  Result<void> CopyContents(Inode& to, int64_t bytes);
  Result<void> CopyAttributes(const Attr& attr, Inode& to);
  Result<void> CopyUpOne(int64_t max_bytes) EXCLUDES(copy_up_lock_);

  std::atomic<Inode*> upper_;  // owned; set once
  const RefPtr<Inode> lower_;
  const Place place_;  // empty if there is no lower part
  std::atomic<bool> removed_{false};
  base::FiberMutex copy_up_lock_;
};

class OverlayDirectory final : public OverlayInode {
 public:
  Result<Attr> GetAttr() override;
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<RefPtr<Inode>>> LookupMany(std::span<const std::string_view> names) override {
    return LookupWith(names, false);
  }
  // The lower file is only ever read, also to copy it up.
  Result<std::vector<RefPtr<Inode>>> LookupManyForOpen(std::span<const std::string_view> names, bool write) override {
    return LookupWith(names, true);
  }
  Result<RefPtr<Inode>> Create(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mkdir(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mknod(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Symlink(std::string_view name, std::string_view target, const NewNode& node) override;
  Result<void> Link(std::string_view name, Inode& target) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<void> Rmdir(std::string_view name, Inode& child) override;
  Result<void> Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                      Inode* replaced, uint32_t flags) override;
  Result<RefPtr<Inode>> Tmpfile(const NewNode& node) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  // The merged names, without "." and "..".
  struct Entry {
    std::string name;
    uint64_t ino;
    uint8_t type;
  };
  Result<std::vector<Entry>> Entries(VfsContext& ctx);

 private:
  using OverlayInode::OverlayInode;
  template <typename T, typename... A>
  friend base::RefPtr<T> base::MakeRef(A&&...);
  Result<std::vector<RefPtr<Inode>>> LookupWith(std::span<const std::string_view> names, bool opening);
  // The entry of the upper directory, whiteouts included; null if there is none.
  Result<RefPtr<Inode>> UpperEntry(std::string_view name);
  // Whether the lower directory shows something under that name.
  Result<bool> LowerHas(std::string_view name);
  // Makes something under a name that the overlay does not show: takes a whiteout away before, and puts it back if that
  // fails.
  template <typename MakeInode>
  Result<RefPtr<Inode>> Make(std::string_view name, bool is_dir, MakeInode&& make);
  // Takes `child`'s name away, leaving a whiteout if the lower directory has the name. With the upper dir_lock held.
  Result<void> RemoveEntry(std::string_view name, OverlayInode& child);
  // ENOTEMPTY if a merged listing has entries; else removes the whiteouts from the upper part.
  static Result<void> EmptyForRemoval(OverlayDirectory& dir);
};

}  // namespace sentry::overlay

#endif  // SENTRY_FS_OVERLAY_INODE_H_
