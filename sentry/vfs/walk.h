// Walker: path resolution that can stop at the parent of the last component and go on from there, as open(2) with
// O_CREAT needs (fs/namei.c: struct nameidata). vfs/ only; everybody else calls WalkPath.
#ifndef SENTRY_VFS_WALK_H_
#define SENTRY_VFS_WALK_H_

#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/path.h"

namespace sentry {

class Walker {
 public:
  static constexpr int kMaxLinks = 40;        // MAXSYMLINKS
  static constexpr size_t kMaxName = 255;     // NAME_MAX
  static constexpr size_t kMaxPath = 4095;    // PATH_MAX without the NUL
  static constexpr size_t kMaxPrefetch = 32;  // names in one LookupMany

  // `flags`: WalkFlags. The context has to outlive the walker.
  Walker(VfsContext& ctx, uint32_t flags) : ctx_(ctx), flags_(flags) {}
  Walker(const Walker&) = delete;

  // What is found will be opened, for writing too if `write`: file systems are told (Inode::LookupManyForOpen).
  void SetOpening(bool write) {
    opening_ = true;
    opening_for_write_ = write;
  }
  // Sets out; `path` has to outlive the walk.
  Result<void> Start(const VfsPath& start, std::string_view path);
  // Walks to the end, or with kParent to the parent of the last component.
  Result<void> Run();
  // Where the walk is.
  const VfsPath& at() const { return at_; }
  VfsPath& mutable_at() { return at_; }
  // With kParent, after Run: the last component ("" for a path without one, such as "/"), valid until the next Run.
  std::string_view last() const { return last_; }
  // The path ended in slashes: the result has to be a directory, and a link in the last component is followed.
  bool trailing_slash() const { return trailing_slash_; }

  // After a kParent walk, with at() the parent and `child` what its last component names: goes there, through mounts on
  // it. If it is a symlink that is to be followed (`follow`, or a trailing slash), starts on its target and returns
  // true: Run again.
  Result<bool> StepInto(RefPtr<Dentry> child, bool follow);
  // The child of at() that the name means, positive or negative: from the cache or from the file system. `locked`: the
  // caller holds the directory's dir_lock.
  Result<RefPtr<Dentry>> LookupChild(std::string_view name, bool locked);
  // Permission to search at(), which has to be a directory.
  Result<void> CheckSearch();

 private:
  bool Has(WalkFlag f) const { return flags_ & static_cast<uint32_t>(f); }
  Result<void> JumpToRoot();
  Result<void> GoUp();
  Result<void> CrossMounts();
  // Takes the next component off the pending text. False when nothing is left.
  bool NextComponent(std::string_view& name, bool& is_last);
  // `known`: the cached dentry that has to be revalidated, or null.
  Result<RefPtr<Dentry>> LookupUncached(std::string_view name, RefPtr<Dentry> known, bool locked);
  RefPtr<Dentry> TakePrefetched(std::string_view name, const RefPtr<Dentry>& known);
  RefPtr<Dentry> Reconcile(RefPtr<Dentry> known, std::string_view name, RefPtr<Inode> inode);
  // `name` and the plain names that follow it. True if that is all that is left of the path.
  bool CollectNames(std::string_view name);
  void ForgetPrefetched();

  VfsContext& ctx_;
  uint32_t flags_;
  VfsPath root_;  // ctx.root, or the start with kInRoot and kBeneath
  VfsPath at_;
  int links_ = 0;          // followed
  std::string_view rest_;  // what is left of the path, or of text_ after a link was followed
  std::string text_;       // a link's target and what followed the link
  std::string_view last_;
  bool trailing_slash_ = false;
  bool opening_ = false, opening_for_write_ = false;

  // Answers of the last LookupMany: names_[i] in the directory prefetched_[i - 1] is prefetched_[i].
  std::vector<std::string_view> names_;
  std::vector<RefPtr<Inode>> prefetched_;
  uint64_t prefetch_changes_ = 0;  // the superblock's name_changes before it
};

}  // namespace sentry

#endif  // SENTRY_VFS_WALK_H_
