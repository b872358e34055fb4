#include "sentry/vfs/inotify.h"

#include <sys/inotify.h>

#include "sentry/vfs/path.h"

namespace sentry {

std::atomic<int> InotifyWatches::total_{0};

void InotifyWatches::Add(RefPtr<InotifyWatch> watch) {
  base::MutexLock l(mu_);
  watches_.push_back(std::move(watch));
  total_.fetch_add(1, std::memory_order_relaxed);
}

bool InotifyWatches::Remove(const InotifyWatch& watch) {
  RefPtr<InotifyWatch> gone;
  base::MutexLock l(mu_);
  for (auto it = watches_.begin(); it != watches_.end(); ++it) {
    if (it->get() != &watch) continue;
    gone = std::move(*it);
    watches_.erase(it);
    total_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void InotifyWatches::Notify(uint32_t mask, uint32_t cookie, std::string_view name) {
  std::vector<RefPtr<InotifyWatch>> watches;
  {
    base::MutexLock l(mu_);
    watches = watches_;
  }
  for (const auto& w : watches) w->OnEvent(mask, cookie, name);
}

void InotifyWatches::InodeGone() {
  std::vector<RefPtr<InotifyWatch>> watches;
  {
    base::MutexLock l(mu_);
    watches.swap(watches_);
    total_.fetch_sub(static_cast<int>(watches.size()), std::memory_order_relaxed);
  }
  for (const auto& w : watches) w->OnInodeGone();
}

void NotifyInode(Inode& inode, uint32_t mask) {
  if (!InotifyWatches::Any()) return;
  InotifyWatches* watches = inode.watches_if_any();
  // Events about the watched thing itself do not say what it is (inotify_handle_inode_event).
  const bool self = (mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0;
  if (watches != nullptr) watches->Notify(mask | (inode.is_dir() && !self ? IN_ISDIR : 0), 0, {});
}

void NotifyName(Inode& dir, std::string_view name, bool is_dir, uint32_t mask, uint32_t cookie) {
  if (!InotifyWatches::Any()) return;
  InotifyWatches* watches = dir.watches_if_any();
  if (watches != nullptr) watches->Notify(mask | (is_dir ? IN_ISDIR : 0), cookie, name);
}

void NotifyDentry(const Dentry& dentry, uint32_t mask) {
  if (!InotifyWatches::Any()) return;
  Inode* inode = dentry.inode_ptr();
  if (inode == nullptr) return;
  if (RefPtr<Dentry> parent = dentry.parent(); parent && !dentry.unlinked()) {
    if (Inode* dir = parent->inode_ptr()) NotifyName(*dir, dentry.name(), inode->is_dir(), mask);
  }
  NotifyInode(*inode, mask);
}

void NotifyIfDeleted(Inode& inode) {
  if (!InotifyWatches::Any() || !inode.nameless.load(std::memory_order_acquire)) return;
  if (inode.open_count.load(std::memory_order_acquire) != 0) return;
  if (InotifyWatches* watches = inode.watches_if_any()) {
    watches->Notify(IN_DELETE_SELF, 0, {});
    watches->InodeGone();
  }
}

uint32_t NextInotifyCookie() {
  static std::atomic<uint32_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace sentry
