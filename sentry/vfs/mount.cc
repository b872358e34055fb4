#include <sys/mount.h>

#include <algorithm>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/path.h"

namespace sentry {
namespace {

std::atomic<int> next_mount_id{1};

}  // namespace

Mount::Mount(RefPtr<Superblock> superblock, RefPtr<Dentry> root, uint64_t flags, std::string source)
    : id_(next_mount_id.fetch_add(1, std::memory_order_relaxed)),
      superblock_(std::move(superblock)),
      root_(std::move(root)),
      flags_(flags),
      source_(std::move(source)) {
  superblock_->active_mounts_.fetch_add(1, std::memory_order_relaxed);
}

Mount::~Mount() {
  root_.reset();
  if (superblock_->active_mounts_.fetch_sub(1, std::memory_order_acq_rel) == 1) DentryCache::Get().Close(*superblock_);
}

MountNamespace::MountNamespace(RefPtr<Mount> root) { mounts_.push_back(std::move(root)); }

MountNamespace::~MountNamespace() NO_THREAD_SAFETY_ANALYSIS {
  // Children before parents. Nobody else is left to see it.
  while (!mounts_.empty()) {
    RefPtr<Mount> mount = std::move(mounts_.back());
    mounts_.pop_back();
    if (mount->mountpoint_) mount->mountpoint_->mounted.fetch_sub(1, std::memory_order_relaxed);
    mount->mountpoint_.reset();
    mount->parent_.reset();
  }
}

VfsPath MountNamespace::Root() const {
  base::MutexLock l(mu_);
  VfsPath path{mounts_[0], mounts_[0]->root_};
  while (Mount* m = FindMountedOn(path.mount.get(), path.dentry.get())) path = {RefPtr<Mount>(m), m->root_};
  return path;
}

Mount* MountNamespace::FindMountedOn(const Mount* mount, const Dentry* dentry) const {
  auto it = by_mountpoint_.find(std::make_pair(mount, dentry));
  return it == by_mountpoint_.end() ? nullptr : it->second;
}

bool MountNamespace::ContainsLocked(const Mount* mount) const {
  return std::any_of(mounts_.begin(), mounts_.end(), [&](const RefPtr<Mount>& m) { return m.get() == mount; });
}

bool MountNamespace::Contains(const Mount& mount) const {
  base::MutexLock l(mu_);
  return ContainsLocked(&mount);
}

void MountNamespace::AttachLocked(Mount& mount, const VfsPath& at) {
  mount.parent_ = at.mount;
  mount.mountpoint_ = at.dentry;
  by_mountpoint_[std::make_pair(at.mount.get(), at.dentry.get())] = &mount;
  at.dentry->mounted.fetch_add(1, std::memory_order_relaxed);
}

VfsPath MountNamespace::DetachLocked(Mount& mount) {
  VfsPath held{std::move(mount.parent_), std::move(mount.mountpoint_)};
  mount.parent_ = nullptr;
  mount.mountpoint_ = nullptr;
  if (held.valid()) {
    by_mountpoint_.erase(std::make_pair(held.mount.get(), held.dentry.get()));
    held.dentry->mounted.fetch_sub(1, std::memory_order_relaxed);
  }
  return held;
}

Result<RefPtr<Mount>> MountNamespace::AddMount(const VfsPath& at, RefPtr<Mount> mount) {
  Inode* where = at.dentry->inode_ptr();
  Inode* what = mount->root().inode_ptr();
  if (where == nullptr || at.dentry->unlinked()) return Errno(ENOENT);
  if (where->is_dir() != what->is_dir()) return Errno(ENOTDIR);
  {
    base::MutexLock l(mu_);
    if (!ContainsLocked(at.mount.get())) return Errno(EINVAL);
    // sysctl fs.mount-max.
    if (mounts_.size() >= 100'000) return Errno(ENOSPC);
    // On top of what somebody else mounted there meanwhile.
    VfsPath top = at;
    while (Mount* m = FindMountedOn(top.mount.get(), top.dentry.get())) top = {RefPtr<Mount>(m), m->root_};
    AttachLocked(*mount, top);
    mounts_.push_back(mount);
  }
  changes.Notify(base::kEventErr | base::kEventPri);
  return mount;
}

Result<void> MountNamespace::Unmount(const VfsPath& at, int flags) {
  std::vector<RefPtr<Mount>> gone;
  std::vector<VfsPath> held;
  {
    base::MutexLock l(mu_);
    Mount* mount = at.mount.get();
    if (mount->root_ != at.dentry || !ContainsLocked(mount)) return Errno(EINVAL);
    if (!mount->parent_) return Errno(EINVAL);  // the root of the namespace
    gone.push_back(at.mount);
    // Everything mounted beneath; mounts_ is in mount order, but MoveMount may have put a parent after its child.
    for (bool grew = true; grew;) {
      grew = false;
      for (const auto& m : mounts_) {
        auto in = [&](const Mount* x) {
          return std::any_of(gone.begin(), gone.end(), [&](const RefPtr<Mount>& g) { return g.get() == x; });
        };
        if (m->parent_ && in(m->parent_.get()) && !in(m.get())) {
          gone.push_back(m);
          grew = true;
        }
      }
    }
    if (!(flags & MNT_DETACH)) {
      if (gone.size() > 1) return Errno(EBUSY);
      // References: the list's, the caller's path, and the one in `gone`.
      if (mount->ref_count() > 3) return Errno(EBUSY);
      if (flags & MNT_EXPIRE) return Errno(EAGAIN);
    }
    for (const auto& g : gone) {
      held.push_back(DetachLocked(*g));
      std::erase_if(mounts_, [&](const RefPtr<Mount>& m) { return m == g; });
    }
  }
  changes.Notify(base::kEventErr | base::kEventPri);
  return {};
}

Result<void> MountNamespace::MoveMount(const VfsPath& from, const VfsPath& to) {
  VfsPath held;
  {
    base::MutexLock l(mu_);
    Mount* mount = from.mount.get();
    if (mount->root_ != from.dentry || !ContainsLocked(mount) || !ContainsLocked(to.mount.get())) return Errno(EINVAL);
    if (!mount->parent_) return Errno(EINVAL);
    Inode* where = to.dentry->inode_ptr();
    if (where == nullptr || to.dentry->unlinked()) return Errno(ENOENT);
    if (where->is_dir() != mount->root_->inode_ptr()->is_dir()) return Errno(ENOTDIR);
    // Not into itself (fs/namespace.c: do_move_mount).
    for (Mount* m = to.mount.get(); m != nullptr; m = m->parent_.get()) {
      if (m == mount) return Errno(ELOOP);
    }
    held = DetachLocked(*mount);
    VfsPath top = to;
    while (Mount* m = FindMountedOn(top.mount.get(), top.dentry.get())) top = {RefPtr<Mount>(m), m->root_};
    AttachLocked(*mount, top);
  }
  changes.Notify(base::kEventErr | base::kEventPri);
  return {};
}

Result<void> MountNamespace::PivotRoot(const VfsPath& new_root, const VfsPath& put_old) {
  VfsPath held_new, held_root;
  {
    base::MutexLock l(mu_);
    Mount* root = mounts_[0].get();
    Mount* fresh = new_root.mount.get();
    // man 2 pivot_root; fs/namespace.c: path_pivot_root.
    if (!ContainsLocked(fresh) || !ContainsLocked(put_old.mount.get())) return Errno(EINVAL);
    if (fresh == root || put_old.mount.get() == root) return Errno(EBUSY);
    if (fresh->root_ != new_root.dentry || !fresh->parent_) return Errno(EINVAL);
    // put_old lies at or underneath new_root.
    Mount* m = put_old.mount.get();
    const Dentry* d = put_old.dentry.get();
    RefPtr<Dentry> hold;
    while (m != fresh) {
      if (!m->parent_) return Errno(EINVAL);
      hold = m->mountpoint_;
      d = hold.get();
      m = m->parent_.get();
    }
    if (!d->IsWithin(*new_root.dentry)) return Errno(EINVAL);
    held_new = DetachLocked(*fresh);
    auto it = std::find_if(mounts_.begin(), mounts_.end(), [&](const RefPtr<Mount>& x) { return x.get() == fresh; });
    std::rotate(mounts_.begin(), it, it + 1);
    VfsPath top = put_old;
    while (Mount* on = FindMountedOn(top.mount.get(), top.dentry.get())) top = {RefPtr<Mount>(on), on->root_};
    AttachLocked(*root, top);
  }
  changes.Notify(base::kEventErr | base::kEventPri);
  return {};
}

RefPtr<MountNamespace> MountNamespace::Clone(absl::flat_hash_map<const Mount*, RefPtr<Mount>>& map) const {
  auto copy = base::MakeRef<MountNamespace>();
  base::MutexLock l(mu_);
  base::MutexLock lc(copy->mu_);  // nobody else knows it
  for (const auto& m : mounts_) {
    auto c = base::MakeRef<Mount>(m->superblock_, m->root_, m->flags(), m->source_);
    c->set_propagation(m->propagation());
    map[m.get()] = c;
    copy->mounts_.push_back(std::move(c));
  }
  for (const auto& m : mounts_) {
    if (m->parent_) copy->AttachLocked(*map[m.get()], {map[m->parent_.get()], m->mountpoint_});
  }
  return copy;
}

RefPtr<Mount> MountNamespace::MountedOn(const Mount* mount, const Dentry* dentry) const {
  base::MutexLock l(mu_);
  return RefPtr<Mount>(FindMountedOn(mount, dentry));
}

VfsPath MountNamespace::MountPointOf(const Mount& mount) const {
  base::MutexLock l(mu_);
  return {mount.parent_, mount.mountpoint_};
}

std::vector<MountNamespace::Entry> MountNamespace::List() const {
  std::vector<Entry> list;
  base::MutexLock l(mu_);
  list.reserve(mounts_.size());
  for (const auto& m : mounts_)
    list.push_back({m, m->parent_ ? m->parent_->id() : m->id(), {m->parent_, m->mountpoint_}});
  return list;
}

}  // namespace sentry
