#include "sentry/vfs/walk.h"

#include "sentry/vfs/permission.h"

namespace sentry {

Result<void> Walker::Start(const VfsPath& start, std::string_view path) {
  if (path.size() > kMaxPath) return Errno(ENAMETOOLONG);
  if (path.find('\0') != std::string_view::npos) return Errno(EINVAL);
  if (path.empty() && !Has(WalkFlag::kEmptyPath)) return Errno(ENOENT);
  at_ = start.valid() ? start : ctx_.cwd;
  root_ = Has(WalkFlag::kBeneath) || Has(WalkFlag::kInRoot) ? at_ : ctx_.root;
  rest_ = path;
  if (!path.empty() && path[0] == '/') return JumpToRoot();
  return {};
}

Result<void> Walker::JumpToRoot() {
  if (Has(WalkFlag::kBeneath)) return Errno(EXDEV);
  if (Has(WalkFlag::kNoXdev) && at_.mount != root_.mount) return Errno(EXDEV);
  at_ = root_;
  return {};
}

bool Walker::NextComponent(std::string_view& name, bool& is_last) {
  size_t begin = rest_.find_first_not_of('/');
  if (begin == std::string_view::npos) {
    rest_ = {};
    return false;
  }
  size_t end = rest_.find('/', begin);
  if (end == std::string_view::npos) end = rest_.size();
  name = rest_.substr(begin, end - begin);
  rest_.remove_prefix(end);
  is_last = rest_.find_first_not_of('/') == std::string_view::npos;
  trailing_slash_ = is_last && !rest_.empty();
  return true;
}

Result<void> Walker::CheckSearch() {
  Inode* inode = at_.dentry->inode_ptr();
  if (inode == nullptr) return Errno(ENOENT);
  if (!inode->is_dir()) return Errno(ENOTDIR);
  return inode->CheckAccess(*ctx_.creds, kMayExec);
}

Result<void> Walker::Run() {
  std::string_view name;
  bool is_last = false;
  last_ = {};
  while (NextComponent(name, is_last)) {
    TRY(CheckSearch());
    if (is_last && Has(WalkFlag::kParent)) {
      last_ = name;
      return {};
    }
    if (name == ".") continue;
    if (name == "..") {
      TRY(GoUp());
      continue;
    }
    RefPtr<Dentry> child = TRY(LookupChild(name, /*locked=*/false));
    if (child->inode_ptr() == nullptr) return Errno(ENOENT);
    TRY(StepInto(std::move(child), !is_last || Has(WalkFlag::kFollow)));
  }
  if (Has(WalkFlag::kParent)) return {};
  if (trailing_slash_ || Has(WalkFlag::kDirectory)) {
    Inode* inode = at_.dentry->inode_ptr();
    if (inode == nullptr || !inode->is_dir()) return Errno(ENOTDIR);
  }
  return {};
}

Result<bool> Walker::StepInto(RefPtr<Dentry> child, bool follow) {
  Inode& inode = *child->inode_ptr();
  if (inode.type() != FileType::kSymlink || !(follow || trailing_slash_)) {
    at_.dentry = std::move(child);
    if (at_.dentry->mounted.load(std::memory_order_relaxed) > 0) TRY(CrossMounts());
    return false;
  }
  if (++links_ > kMaxLinks || Has(WalkFlag::kNoSymlinks)) return Errno(ELOOP);
  if (Has(WalkFlag::kCached)) return Errno(EAGAIN);
  if (inode.IsMagicLink()) {
    if (Has(WalkFlag::kNoMagicLinks)) return Errno(ELOOP);
    Result<VfsPath> object = inode.FollowMagicLink(ctx_);
    if (!object.failed_with(EINVAL)) {
      VfsPath to = TRY(std::move(object));
      // fs/namei.c: nd_jump_link.
      if (Has(WalkFlag::kBeneath) || Has(WalkFlag::kInRoot)) return Errno(EXDEV);
      if (Has(WalkFlag::kNoXdev) && to.mount != at_.mount) return Errno(EXDEV);
      at_ = std::move(to);
      ForgetPrefetched();
      return false;
    }
  }
  std::string target = TRY(inode.ReadLink());
  if (target.empty()) return Errno(ENOENT);
  if (target.size() > kMaxPath) return Errno(ENAMETOOLONG);
  if (target.find('\0') != std::string::npos) return Errno(EIO);  // from a file system that lies
  // Linux stacks the texts; one text after the other is the same walk.
  target.append(rest_);
  text_ = std::move(target);
  rest_ = text_;
  trailing_slash_ = false;
  ForgetPrefetched();
  if (text_[0] == '/') TRY(JumpToRoot());
  return true;
}

Result<void> Walker::CrossMounts() {
  while (ctx_.mounts != nullptr && at_.dentry->mounted.load(std::memory_order_relaxed) > 0) {
    RefPtr<Mount> mount = ctx_.mounts->MountedOn(at_.mount.get(), at_.dentry.get());
    if (!mount) break;
    if (Has(WalkFlag::kNoXdev)) return Errno(EXDEV);
    at_.dentry = mount->root_ref();
    at_.mount = std::move(mount);
  }
  return {};
}

Result<void> Walker::GoUp() {
  if (at_ == root_) {
    if (Has(WalkFlag::kBeneath)) return Errno(EXDEV);
    return {};
  }
  VfsPath up = at_;
  while (up.mount && up.dentry.get() == &up.mount->root()) {
    VfsPath point = ctx_.mounts != nullptr ? ctx_.mounts->MountPointOf(*up.mount) : VfsPath{};
    if (!point.valid()) return {};  // the top of the namespace, or a mount that was detached
    if (point == root_) {
      if (Has(WalkFlag::kBeneath)) return Errno(EXDEV);
      return {};
    }
    up = std::move(point);
  }
  if (Has(WalkFlag::kNoXdev) && up.mount != at_.mount) return Errno(EXDEV);
  RefPtr<Dentry> parent = up.dentry->parent();
  if (!parent) return {};
  at_.mount = std::move(up.mount);
  at_.dentry = std::move(parent);
  return CrossMounts();
}

Result<RefPtr<Dentry>> Walker::LookupChild(std::string_view name, bool locked) {
  if (name.size() > kMaxName) return Errno(ENAMETOOLONG);
  RefPtr<Dentry> known = at_.dentry->CachedChild(name);
  if (known && !at_.dentry->superblock().NeedsRevalidation()) return known;
  return LookupUncached(name, std::move(known), locked);
}

// The analysis cannot follow a lock that is taken only if the caller does not hold it.
Result<RefPtr<Dentry>> Walker::LookupUncached(std::string_view name, RefPtr<Dentry> known,
                                              bool locked) NO_THREAD_SAFETY_ANALYSIS {
  if (Has(WalkFlag::kCached)) return Errno(EAGAIN);
  Inode& dir = *at_.dentry->inode_ptr();
  Superblock& sb = at_.dentry->superblock();
  if (known && known->mounted.load(std::memory_order_relaxed) > 0) return known;  // what is below is covered
  if (known && !sb.RevalidatesByLookup()) {
    if (TRY(dir.Revalidate(name, known->inode_ptr()))) return known;
    known->Unlink();
    known = nullptr;
  }
  if (RefPtr<Dentry> d = TakePrefetched(name, known)) return d;
  if (!locked) dir.dir_lock.LockShared();
  bool to_the_end = CollectNames(name);
  prefetch_changes_ = sb.name_changes.load(std::memory_order_acquire);
  Result<std::vector<RefPtr<Inode>>> answer =
      opening_ && to_the_end ? dir.LookupManyForOpen(names_, opening_for_write_) : dir.LookupMany(names_);
  RefPtr<Dentry> child;
  if (answer.ok()) {
    prefetched_ = std::move(*answer);
    if (prefetched_.size() > names_.size()) prefetched_.resize(names_.size());
    if (!prefetched_.empty()) child = Reconcile(std::move(known), name, prefetched_[0]);
  } else if (answer.failed_with(ENOENT)) {
    prefetched_.clear();
    child = Reconcile(std::move(known), name, nullptr);
  }
  if (!locked) dir.dir_lock.UnlockShared();
  if (child) return child;
  ForgetPrefetched();
  if (!answer.ok()) return answer.error();
  return Errno(EIO);
}

RefPtr<Dentry> Walker::TakePrefetched(std::string_view name, const RefPtr<Dentry>& known) {
  Superblock& sb = at_.dentry->superblock();
  for (size_t i = 1; i < prefetched_.size(); ++i) {
    if (names_[i].data() != name.data()) continue;
    // Only if the walk went where LookupMany went: not over a mount point, not past a change.
    if (prefetched_[i - 1].get() != at_.dentry->inode_ptr()) return nullptr;
    if (sb.name_changes.load(std::memory_order_acquire) != prefetch_changes_) return nullptr;
    if (known) return Reconcile(known, name, prefetched_[i]);
    return at_.dentry->AddChildIfUnchanged(name, prefetched_[i], prefetch_changes_);
  }
  return nullptr;
}

RefPtr<Dentry> Walker::Reconcile(RefPtr<Dentry> known, std::string_view name, RefPtr<Inode> inode) {
  if (known) {
    if (known->inode_ptr() == inode.get()) return known;
    if (known->inode_ptr() == nullptr) {
      known->Instantiate(std::move(inode));
      return known;
    }
    known->Unlink();
  }
  return at_.dentry->AddChild(name, std::move(inode));
}

bool Walker::CollectNames(std::string_view name) {
  names_.clear();
  names_.push_back(name);
  std::string_view rest = rest_;
  // With kParent the walk stops in front of the last name, but whoever asked for the parent wants to know about it as
  // well.
  while (names_.size() < kMaxPrefetch) {
    size_t begin = rest.find_first_not_of('/');
    if (begin == std::string_view::npos) return true;
    size_t end = rest.find('/', begin);
    if (end == std::string_view::npos) end = rest.size();
    std::string_view next = rest.substr(begin, end - begin);
    if (next == "." || next == ".." || next.size() > kMaxName) return false;
    names_.push_back(next);
    rest.remove_prefix(end);
  }
  return false;
}

void Walker::ForgetPrefetched() {
  names_.clear();
  prefetched_.clear();
}

Result<WalkResult> WalkPath(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t walk_flags) {
  Walker walker(ctx, walk_flags);
  TRY(walker.Start(start, path));
  TRY(walker.Run());
  WalkResult result;
  result.last = std::string(walker.last());
  result.last_has_slash = walker.trailing_slash();
  result.path = std::move(walker.mutable_at());
  return result;
}

std::string PathName(const VfsContext& ctx, const VfsPath& path) {
  if (!path.valid()) return "";
  if (!path.mount) return path.dentry->name();  // anonymous
  std::vector<std::string> names;
  bool reachable = true;
  VfsPath p = path;
  while (!(p == ctx.root)) {
    if (p.dentry.get() == &p.mount->root()) {
      VfsPath point = ctx.mounts != nullptr ? ctx.mounts->MountPointOf(*p.mount) : VfsPath{};
      if (!point.valid()) {
        // The top of the namespace is the root of everybody who did not chroot; or the mount was detached.
        reachable = false;
        break;
      }
      p = std::move(point);
      continue;
    }
    RefPtr<Dentry> parent = p.dentry->parent();
    if (!parent) {
      reachable = false;
      break;
    }
    names.push_back(p.dentry->name());
    p.dentry = std::move(parent);
  }
  std::string out = reachable ? "" : "(unreachable)";
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    out += '/';
    out += *it;
  }
  if (names.empty()) out += '/';
  if (path.dentry->unlinked()) out += " (deleted)";
  return out;
}

}  // namespace sentry
