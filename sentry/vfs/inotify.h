// Who watches an inode (fs/notify). The inotify descriptor lives above; here are the marks on inodes and the hooks that
// report events.
#ifndef SENTRY_VFS_INOTIFY_H_
#define SENTRY_VFS_INOTIFY_H_

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/ref_ptr.h"

namespace sentry {

using base::RefPtr;

class Dentry;
class Inode;
struct VfsPath;

// A mark: one watch of one inotify descriptor on one inode.
class InotifyWatch : public virtual base::RefCounted {
 public:
  // `mask`: one IN_* event, with IN_ISDIR if it is about a directory. `name`: empty for events about the inode itself.
  // Called without any lock, by whoever caused the event; must not park. The watch filters by its own mask.
  virtual void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) = 0;
  // The inode is gone: IN_IGNORED follows.
  virtual void OnInodeGone() = 0;
};

class InotifyWatches {
 public:
  // True if anybody watches anything: lets the hooks cost one load.
  static bool Any() { return total_.load(std::memory_order_relaxed) != 0; }

  void Add(RefPtr<InotifyWatch> watch) EXCLUDES(mu_);
  // False if it was not there.
  bool Remove(const InotifyWatch& watch) EXCLUDES(mu_);
  // The watch for which `matches` holds (an instance looks for its own), or null.
  template <typename F>
  RefPtr<InotifyWatch> Find(F&& matches) EXCLUDES(mu_) {
    base::MutexLock l(mu_);
    for (const auto& w : watches_) {
      if (matches(*w)) return w;
    }
    return nullptr;
  }
  void Notify(uint32_t mask, uint32_t cookie, std::string_view name) EXCLUDES(mu_);
  // Removes all watches, telling them so.
  void InodeGone() EXCLUDES(mu_);

 private:
  static std::atomic<int> total_;
  base::Mutex mu_;
  std::vector<RefPtr<InotifyWatch>> watches_ GUARDED_BY(mu_);
};

// The inode of `dentry`, and the directory it is in, under its name there (fsnotify_dentry). Anonymous objects:
// nothing.
void NotifyDentry(const Dentry& dentry, uint32_t mask);
// A directory, about a name in it (fsnotify_name).
void NotifyName(Inode& dir, std::string_view name, bool is_dir, uint32_t mask, uint32_t cookie = 0);
// An inode alone (IN_DELETE_SELF, IN_MOVE_SELF, IN_ATTRIB after a link count changed).
void NotifyInode(Inode& inode, uint32_t mask);
// IN_DELETE_SELF, and the end of all watches, if the inode has lost its last name and nobody has it open.
void NotifyIfDeleted(Inode& inode);
// Connects the two halves of a rename.
uint32_t NextInotifyCookie();

}  // namespace sentry

#endif  // SENTRY_VFS_INOTIFY_H_
