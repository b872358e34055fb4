#include <string_view>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/path.h"

namespace sentry {
namespace {

size_t HashName(std::string_view s) { return absl::HashOf(absl::string_view(s.data(), s.size())); }

}  // namespace

// By the child's name, so that names are stored once.
struct Dentry::NameHash {
  using is_transparent = void;
  size_t operator()(const Dentry* d) const { return HashName(d->name_); }
  size_t operator()(std::string_view s) const { return HashName(s); }
};
struct Dentry::NameEq {
  using is_transparent = void;
  bool operator()(const Dentry* a, const Dentry* b) const { return a == b; }
  bool operator()(const Dentry* a, std::string_view b) const { return a->name_ == b; }
  bool operator()(std::string_view a, const Dentry* b) const { return a == b->name_; }
};

Dentry::Dentry(RefPtr<Superblock> sb, RefPtr<Dentry> parent, std::string name, RefPtr<Inode> inode)
    : superblock_(std::move(sb)), parent_(std::move(parent)), name_(std::move(name)), inode_(inode.release()) {}

Dentry::~Dentry() {
  if (Inode* inode = inode_ptr()) inode->Unref();
}

RefPtr<Dentry> Dentry::MakeRoot(RefPtr<Inode> inode) {
  RefPtr<Superblock> sb(&inode->superblock());
  auto d = base::MakeRef<Dentry>(std::move(sb), RefPtr<Dentry>(), std::string(), std::move(inode));
  d->is_root_ = true;
  return d;
}

RefPtr<Dentry> Dentry::MakeAnonymous(RefPtr<Inode> inode, std::string name) {
  RefPtr<Superblock> sb(&inode->superblock());
  return base::MakeRef<Dentry>(std::move(sb), RefPtr<Dentry>(), std::move(name), std::move(inode));
}

void Dentry::OnLastUnref() const {
  auto* self = const_cast<Dentry*>(this);
  if (!DentryCache::Get().Keep(*self)) Destroy(self);
}

// A loop, not recursion through destructors: a guest decides how deep a tree is.
void Dentry::Destroy(Dentry* dentry) {
  while (dentry != nullptr) {
    Dentry* parent = dentry->Detach().release();
    delete dentry;
    dentry = nullptr;
    if (parent != nullptr && parent->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
        !DentryCache::Get().Keep(*parent)) {
      dentry = parent;
    }
  }
}

RefPtr<Dentry> Dentry::Detach() {
  RefPtr<Dentry> parent;
  {
    base::MutexLock l(mu_);
    parent.swap(parent_);
  }
  if (parent) {
    base::MutexLock l(parent->mu_);
    if (hashed_) {
      parent->children_->erase(this);
      hashed_ = false;
    }
  }
  return parent;
}

std::string Dentry::name() const {
  base::MutexLock l(mu_);
  return name_;
}

RefPtr<Dentry> Dentry::parent() const {
  base::MutexLock l(mu_);
  return parent_;
}

Dentry* Dentry::FindLocked(std::string_view name) const {
  if (!children_) return nullptr;
  auto it = children_->find(name);
  return it == children_->end() ? nullptr : *it;
}

RefPtr<Dentry> Dentry::CachedChild(std::string_view name) {
  base::MutexLock l(mu_);
  Dentry* child = FindLocked(name);
  // At zero references it is on its way out, or into the cache: as good as unknown.
  if (child == nullptr || !child->TryRef()) return nullptr;
  if (!child->recently_used_.load(std::memory_order_relaxed))
    child->recently_used_.store(true, std::memory_order_relaxed);
  return RefPtr<Dentry>::Adopt(child);
}

RefPtr<Dentry> Dentry::AddChild(std::string_view name, RefPtr<Inode> inode) {
  return AddChildInternal(name, std::move(inode), nullptr);
}

RefPtr<Dentry> Dentry::AddChildIfUnchanged(std::string_view name, RefPtr<Inode> inode, uint64_t expected_changes) {
  return AddChildInternal(name, std::move(inode), &expected_changes);
}

RefPtr<Dentry> Dentry::AddChildInternal(std::string_view name, RefPtr<Inode> inode, const uint64_t* expected_changes) {
  auto fresh = base::MakeRef<Dentry>(superblock_, RefPtr<Dentry>(this), std::string(name), std::move(inode));
  RefPtr<Dentry> found;
  bool changed = false;
  {
    base::MutexLock l(mu_);
    changed =
        expected_changes != nullptr && superblock_->name_changes.load(std::memory_order_acquire) != *expected_changes;
    if (!changed) {
      if (!children_) children_ = std::make_unique<Children>();
      Dentry* child = FindLocked(name);
      if (child != nullptr && child->TryRef()) {
        found = RefPtr<Dentry>::Adopt(child);
      } else {
        if (child != nullptr) {
          children_->erase(child);
          child->hashed_ = false;
        }
        children_->insert(fresh.get());
        fresh->hashed_ = true;
      }
    }
  }
  if (changed) return nullptr;
  if (!found) return fresh;
  // What was learned later is right: a name that was missing and now exists.
  if (found->inode_ptr() == nullptr && fresh->inode_ptr() != nullptr) found->Instantiate(fresh->inode());
  return found;
}

RefPtr<Dentry> Dentry::MakeUnlinkedChild(std::string name, RefPtr<Inode> inode) {
  auto d = base::MakeRef<Dentry>(superblock_, RefPtr<Dentry>(this), std::move(name), std::move(inode));
  d->unlinked_.store(true, std::memory_order_relaxed);
  return d;
}

void Dentry::Instantiate(RefPtr<Inode> inode) {
  Inode* expected = nullptr;
  Inode* raw = inode.get();
  if (inode_.compare_exchange_strong(expected, raw, std::memory_order_acq_rel)) (void)inode.release();
}

void Dentry::Unlink() {
  RefPtr<Dentry> parent = this->parent();
  if (parent) {
    base::MutexLock l(parent->mu_);
    if (hashed_) {
      parent->children_->erase(this);
      hashed_ = false;
    }
  }
  unlinked_.store(true, std::memory_order_relaxed);
  DentryCache::Get().Drop(*this);
}

void Dentry::Invalidate() {
  std::vector<RefPtr<Dentry>> keep;  // their last references are not dropped under the lock
  {
    base::MutexLock l(mu_);
    if (!children_) return;
    keep.reserve(children_->size());
    for (auto it = children_->begin(); it != children_->end();) {
      Dentry* child = *it;
      if (child->mounted.load(std::memory_order_relaxed) > 0) {
        ++it;
        continue;
      }
      child->hashed_ = false;
      child->unlinked_.store(true, std::memory_order_relaxed);
      if (child->TryRef()) keep.push_back(RefPtr<Dentry>::Adopt(child));
      children_->erase(it++);
    }
  }
  for (auto& child : keep) DentryCache::Get().Drop(*child);
}

void Dentry::Move(Dentry& moved, Dentry& new_parent, std::string_view new_name, Dentry* replaced,
                  bool exchange) NO_THREAD_SAFETY_ANALYSIS {
  RefPtr<Dentry> old_parent = moved.parent();
  std::string old_name = moved.name();
  RefPtr<Dentry> dropped_parent, displaced;
  {
    Dentry& p = *old_parent;
    p.mu_.Lock();
    if (&new_parent != &p) new_parent.mu_.Lock();
    if (moved.hashed_) p.children_->erase(&moved);
    if (replaced != nullptr && replaced->hashed_) new_parent.children_->erase(replaced);
    if (!new_parent.children_) new_parent.children_ = std::make_unique<Children>();
    // Something else may be known at the new name: a negative dentry that a lookup left.
    if (Dentry* other = new_parent.FindLocked(new_name); other != nullptr) {
      new_parent.children_->erase(other);
      other->hashed_ = false;
      other->unlinked_.store(true, std::memory_order_relaxed);
      if (other->TryRef()) displaced = RefPtr<Dentry>::Adopt(other);
    }
    {
      base::MutexLock l(moved.mu_);
      moved.name_ = std::string(new_name);
      dropped_parent = std::move(moved.parent_);
      moved.parent_ = RefPtr<Dentry>(&new_parent);
    }
    moved.hashed_ = true;
    new_parent.children_->insert(&moved);
    if (replaced != nullptr) {
      if (exchange) {
        {
          base::MutexLock l(replaced->mu_);
          replaced->name_ = old_name;
          replaced->parent_ = old_parent;  // new_parent has other references: it is not destroyed here
        }
        replaced->hashed_ = true;
        p.children_->insert(replaced);
      } else {
        replaced->hashed_ = false;
        replaced->unlinked_.store(true, std::memory_order_relaxed);
      }
    }
    if (&new_parent != &p) new_parent.mu_.Unlock();
    p.mu_.Unlock();
  }
  if (replaced != nullptr && !exchange) DentryCache::Get().Drop(*replaced);
  if (displaced) DentryCache::Get().Drop(*displaced);
}

bool Dentry::IsWithin(const Dentry& ancestor) const {
  if (this == &ancestor) return true;
  for (RefPtr<Dentry> d = parent(); d; d = d->parent()) {
    if (d.get() == &ancestor) return true;
  }
  return false;
}

}  // namespace sentry
