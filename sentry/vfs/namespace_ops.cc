// mkdir, mknod, symlink, link, unlink, rmdir, rename (fs/namei.c).
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/inotify.h>

#include "sentry/vfs/inotify.h"
#include "sentry/vfs/name_change.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/walk.h"

namespace sentry::vfs {
namespace {

constexpr uint32_t kParentFlag = static_cast<uint32_t>(WalkFlag::kParent);

bool IsPlainName(std::string_view name) { return !name.empty() && name != "." && name != ".."; }

// filename_create and what follows: `make(dir inode, name, node)` makes the inode. `mode` with umask applied.
template <typename Make>
Result<VfsPath> CreateEntry(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode, bool is_dir,
                            Make&& make) {
  Walker walker(ctx, kParentFlag);
  TRY(walker.Start(start, path));
  TRY(walker.Run());
  std::string_view name = walker.last();
  if (!IsPlainName(name)) return Errno(EEXIST);
  VfsPath parent = walker.at();
  Inode& dir = *parent.dentry->inode_ptr();
  RefPtr<Dentry> child;
  {
    base::WriterLock l(dir.dir_lock);
    child = TRY(walker.LookupChild(name, /*locked=*/true));
    if (child->inode_ptr() != nullptr) return Errno(EEXIST);
    // "name/" can only become a directory.
    if (walker.trailing_slash() && !is_dir) return Errno(ENOENT);
    TRY(WantWrite(*parent.mount));
    TRY(MayCreateIn(*ctx.creds, dir));
    NewNode node = InitOwner(*ctx.creds, TRY(dir.GetOwnership()), mode, is_dir);
    NameChange change(dir.superblock());
    child->Instantiate(TRY(make(dir, name, node)));
  }
  NotifyName(dir, name, is_dir, IN_CREATE);
  return VfsPath{parent.mount, std::move(child)};
}

// Removes a positive child: its place is known to be empty now.
void ForgetChild(Dentry& parent, Dentry& child, std::string_view name) {
  child.Unlink();
  if (parent.superblock().CacheDentries() && !parent.superblock().NeedsRevalidation())
    (void)parent.AddChild(name, nullptr);
}

// A name of `inode` is gone; its directory has been told (fs/namei.c: vfs_unlink, d_delete_notify).
void NotifyUnlinked(Inode& inode) {
  if (!InotifyWatches::Any()) return;
  Result<Attr> attr = inode.GetAttr();
  if (inode.is_dir() || (attr.ok() && attr->nlink == 0)) inode.nameless.store(true, std::memory_order_release);
  NotifyIfDeleted(inode);
}

Result<void> Remove(VfsContext& ctx, const VfsPath& start, std::string_view path, bool want_dir) {
  Walker walker(ctx, kParentFlag);
  TRY(walker.Start(start, path));
  TRY(walker.Run());
  std::string_view name = walker.last();
  if (want_dir) {
    if (name == "..") return Errno(ENOTEMPTY);
    if (name == ".") return Errno(EINVAL);
    if (name.empty()) return Errno(EBUSY);
  } else if (!IsPlainName(name)) {
    return Errno(EISDIR);
  }
  VfsPath parent = walker.at();
  TRY(WantWrite(*parent.mount));
  Inode& dir = *parent.dentry->inode_ptr();
  RefPtr<Dentry> child;
  {
    base::WriterLock l(dir.dir_lock);
    child = TRY(walker.LookupChild(name, /*locked=*/true));
    Inode* inode = child->inode_ptr();
    if (inode == nullptr) return Errno(ENOENT);
    if (!want_dir && walker.trailing_slash()) return Errno(inode->is_dir() ? EISDIR : ENOTDIR);
    TRY(MayDelete(*ctx.creds, dir, *child, want_dir));
    if (child->mounted.load(std::memory_order_relaxed) > 0) return Errno(EBUSY);
    NameChange change(dir.superblock());
    if (want_dir) {
      // Its own lock keeps out whoever is about to make something in it.
      base::WriterLock lc(inode->dir_lock);
      TRY(dir.Rmdir(name, *inode));
      inode->dead.store(true, std::memory_order_relaxed);
      child->Invalidate();  // names known to be missing in it would keep it alive (shrink_dcache_parent)
    } else {
      TRY(dir.Unlink(name, *inode));
    }
    ForgetChild(*parent.dentry, *child, name);
  }
  Inode& inode = *child->inode_ptr();
  if (!want_dir) NotifyInode(inode, IN_ATTRIB);  // its link count
  NotifyName(dir, name, want_dir, IN_DELETE);
  NotifyUnlinked(inode);
  return {};
}

// lock_rename: both directories exclusively, the upper one first, after rename_lock if they differ. `trap` is the child
// of one directory that leads down to the other, or null.
class RenameLock {
 public:
  RenameLock(Dentry& a, Dentry& b) NO_THREAD_SAFETY_ANALYSIS : a_(*a.inode_ptr()),
                                                               b_(*b.inode_ptr()),
                                                               sb_(a.superblock()) {
    if (&a == &b) {
      a_.dir_lock.Lock();
      return;
    }
    rename_locked_ = true;
    sb_.rename_lock.Lock();
    bool b_first = false;
    if ((trap_ = ChildTowards(b, a))) {
      b_first = true;  // b is above a
    } else if (!(trap_ = ChildTowards(a, b))) {
      b_first = &b_ < &a_;
    }
    if (&a_ == &b_) {  // a file system that shows one directory under two names
      a_.dir_lock.Lock();
      return;
    }
    (b_first ? b_ : a_).dir_lock.Lock();
    (b_first ? a_ : b_).dir_lock.Lock();
    both_ = true;
  }
  ~RenameLock() NO_THREAD_SAFETY_ANALYSIS {
    a_.dir_lock.Unlock();
    if (both_) b_.dir_lock.Unlock();
    if (rename_locked_) sb_.rename_lock.Unlock();
  }
  RenameLock(const RenameLock&) = delete;
  const Dentry* trap() const { return trap_.get(); }

 private:
  // The child of `above` on the way down to `below`; null if `above` is not above it.
  static RefPtr<Dentry> ChildTowards(Dentry& above, Dentry& below) {
    RefPtr<Dentry> d(&below);
    for (RefPtr<Dentry> p = d->parent(); p; p = d->parent()) {
      if (p.get() == &above) return d;
      d = std::move(p);
    }
    return nullptr;
  }

  Inode& a_;
  Inode& b_;
  Superblock& sb_;
  RefPtr<Dentry> trap_;
  bool both_ = false;
  bool rename_locked_ = false;
};

}  // namespace

Result<void> Mkdir(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode) {
  TRY(CreateEntry(ctx, start, path, mode & 01777 & ~ctx.umask, true,
                  [](Inode& dir, std::string_view name, const NewNode& node) { return dir.Mkdir(name, node); }));
  return {};
}

Result<void> Mknod(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode, uint64_t rdev) {
  uint32_t type = mode & S_IFMT;
  if (type == 0) type = S_IFREG;
  if (type == S_IFDIR) return Errno(EPERM);
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK)
    return Errno(EINVAL);
  bool device = type == S_IFCHR || type == S_IFBLK;
  uint32_t permission_bits = mode & 07777 & ~ctx.umask;
  TRY(CreateEntry(ctx, start, path, permission_bits, false,
                  [&](Inode& dir, std::string_view name, NewNode node) -> Result<RefPtr<Inode>> {
                    if (type == S_IFREG) return dir.Create(name, node);
                    // A 0:0 character device is overlay's whiteout; anybody may make one (vfs_mknod).
                    if (device && !(type == S_IFCHR && rdev == 0) && !ctx.creds->Capable(CAP_MKNOD))
                      return Errno(EPERM);
                    node.mode |= type;
                    if (device) node.rdev = rdev;
                    return dir.Mknod(name, node);
                  }));
  return {};
}

Result<VfsPath> BindSocket(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode, int type,
                           RefPtr<base::RefCounted> special, base::UniqueFd& host) {
  return CreateEntry(ctx, start, path, mode & 07777 & ~ctx.umask, false,
                     [&](Inode& dir, std::string_view name, NewNode node) -> Result<RefPtr<Inode>> {
                       node.mode |= S_IFSOCK;
                       RefPtr<Inode> inode = TRY(dir.BindSocket(name, node, type, host));
                       base::MutexLock l(inode->special_mu);
                       inode->special = std::move(special);
                       return inode;
                     });
}

Result<void> Symlink(VfsContext& ctx, std::string_view target, const VfsPath& start, std::string_view path) {
  if (target.empty()) return Errno(ENOENT);
  if (target.size() > Walker::kMaxPath) return Errno(ENAMETOOLONG);
  TRY(CreateEntry(ctx, start, path, 0777, false, [&](Inode& dir, std::string_view name, const NewNode& node) {
    return dir.Symlink(name, target, node);
  }));
  return {};
}

Result<void> Link(VfsContext& ctx, const VfsPath& old_start, std::string_view old_path, const VfsPath& new_start,
                  std::string_view new_path, uint32_t at_flags) {
  if (at_flags & ~uint32_t{AT_SYMLINK_FOLLOW | AT_EMPTY_PATH}) return Errno(EINVAL);
  uint32_t walk = 0;
  if (at_flags & AT_SYMLINK_FOLLOW) walk |= static_cast<uint32_t>(WalkFlag::kFollow);
  if (at_flags & AT_EMPTY_PATH) {
    // Without a name there is no search permission to show for it.
    if (!ctx.creds->Capable(CAP_DAC_READ_SEARCH)) return Errno(ENOENT);
    walk |= static_cast<uint32_t>(WalkFlag::kEmptyPath);
  }
  VfsPath old = TRY(WalkPath(ctx, old_start, old_path, walk)).path;
  RefPtr<Inode> inode = old.inode();
  if (!inode) return Errno(ENOENT);
  Walker walker(ctx, kParentFlag);
  TRY(walker.Start(new_start, new_path));
  TRY(walker.Run());
  std::string_view name = walker.last();
  if (!IsPlainName(name)) return Errno(EEXIST);
  VfsPath parent = walker.at();
  Inode& dir = *parent.dentry->inode_ptr();
  {
    base::WriterLock l(dir.dir_lock);
    RefPtr<Dentry> child = TRY(walker.LookupChild(name, /*locked=*/true));
    if (child->inode_ptr() != nullptr) return Errno(EEXIST);
    if (walker.trailing_slash()) return Errno(ENOENT);
    TRY(WantWrite(*parent.mount));
    if (parent.mount != old.mount) return Errno(EXDEV);
    TRY(MayCreateIn(*ctx.creds, dir));
    if (&dir.superblock() != &inode->superblock()) return Errno(EXDEV);
    if (inode->is_dir()) return Errno(EPERM);
    // The file's own lock: its last name may be going away.
    base::WriterLock li(inode->dir_lock);
    if (TRY(inode->GetAttr()).nlink == 0 && !inode->linkable.load(std::memory_order_relaxed)) return Errno(ENOENT);
    NameChange change(dir.superblock());
    TRY(dir.Link(name, *inode));
    inode->linkable.store(false, std::memory_order_relaxed);
    child->Instantiate(inode);
  }
  NotifyInode(*inode, IN_ATTRIB);
  NotifyName(dir, name, false, IN_CREATE);
  return {};
}

Result<void> Unlink(VfsContext& ctx, const VfsPath& start, std::string_view path) {
  return Remove(ctx, start, path, false);
}
Result<void> Rmdir(VfsContext& ctx, const VfsPath& start, std::string_view path) {
  return Remove(ctx, start, path, true);
}

namespace {

struct RenameEnds {
  VfsPath old_parent, new_parent;
  std::string_view old_name, new_name;
  uint32_t flags;
};

// vfs_rename, with the locks held and both names looked up.
Result<void> RenameLocked(VfsContext& ctx, const RenameEnds& r, Dentry& source, Dentry& target) {
  const Credentials& creds = *ctx.creds;
  Inode& old_dir = *r.old_parent.dentry->inode_ptr();
  Inode& new_dir = *r.new_parent.dentry->inode_ptr();
  Inode& moved = *source.inode_ptr();
  Inode* replaced = target.inode_ptr();
  bool exchange = r.flags & RENAME_EXCHANGE;
  if (&moved == replaced) return {};  // links to one file: nothing happens, says POSIX
  TRY(MayDelete(creds, old_dir, source, moved.is_dir()));
  if (replaced == nullptr) {
    TRY(MayCreateIn(creds, new_dir));
  } else {
    TRY(MayDelete(creds, new_dir, target, exchange ? replaced->is_dir() : moved.is_dir()));
  }
  // ".." of a directory that moves is written.
  if (&old_dir != &new_dir) {
    if (moved.is_dir()) TRY(moved.CheckAccess(creds, kMayWrite));
    if (exchange && replaced->is_dir()) TRY(replaced->CheckAccess(creds, kMayWrite));
  }
  if (source.mounted.load(std::memory_order_relaxed) > 0 || target.mounted.load(std::memory_order_relaxed) > 0) {
    return Errno(EBUSY);
  }
  NameChange change(old_dir.superblock());
  auto rename = [&] { return old_dir.Rename(r.old_name, moved, new_dir, r.new_name, replaced, r.flags); };
  if (replaced != nullptr && replaced->is_dir() && !exchange) {
    base::WriterLock l(replaced->dir_lock);
    TRY(rename());
    replaced->dead.store(true, std::memory_order_relaxed);
    target.Invalidate();
  } else {
    TRY(rename());
  }
  Dentry::Move(source, *r.new_parent.dentry, r.new_name, replaced != nullptr ? &target : nullptr, exchange);
  return {};
}

void NotifyRenamed(const RenameEnds& r, Inode& moved, Inode* replaced) {
  if (!InotifyWatches::Any()) return;
  Inode& old_dir = *r.old_parent.dentry->inode_ptr();
  Inode& new_dir = *r.new_parent.dentry->inode_ptr();
  bool exchange = r.flags & RENAME_EXCHANGE;
  auto report = [](Inode& from, std::string_view from_name, Inode& to, std::string_view to_name, Inode& inode) {
    uint32_t cookie = NextInotifyCookie();
    NotifyName(from, from_name, inode.is_dir(), IN_MOVED_FROM, cookie);
    NotifyName(to, to_name, inode.is_dir(), IN_MOVED_TO, cookie);
    NotifyInode(inode, IN_MOVE_SELF);
  };
  report(old_dir, r.old_name, new_dir, r.new_name, moved);
  if (replaced == nullptr) return;
  if (exchange) {
    report(new_dir, r.new_name, old_dir, r.old_name, *replaced);
  } else {
    if (!replaced->is_dir()) NotifyInode(*replaced, IN_ATTRIB);
    NotifyUnlinked(*replaced);
  }
}

}  // namespace

Result<void> Rename(VfsContext& ctx, const VfsPath& old_start, std::string_view old_path, const VfsPath& new_start,
                    std::string_view new_path, uint32_t flags) {
  if (flags & ~uint32_t{RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT}) return Errno(EINVAL);
  if ((flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) && (flags & RENAME_EXCHANGE)) return Errno(EINVAL);
  if ((flags & RENAME_WHITEOUT) && !ctx.creds->Capable(CAP_MKNOD)) return Errno(EPERM);
  Walker old_walk(ctx, kParentFlag), new_walk(ctx, kParentFlag);
  TRY(old_walk.Start(old_start, old_path));
  TRY(old_walk.Run());
  TRY(new_walk.Start(new_start, new_path));
  TRY(new_walk.Run());
  RenameEnds r{old_walk.at(), new_walk.at(), old_walk.last(), new_walk.last(), flags};
  if (r.old_parent.mount != r.new_parent.mount) return Errno(EXDEV);
  if (!IsPlainName(r.old_name)) return Errno(EBUSY);
  if (!IsPlainName(r.new_name)) return Errno(flags & RENAME_NOREPLACE ? EEXIST : EBUSY);
  TRY(WantWrite(*r.old_parent.mount));
  RefPtr<Inode> moved, replaced;
  {
    RenameLock lock(*r.old_parent.dentry, *r.new_parent.dentry);
    RefPtr<Dentry> source = TRY(old_walk.LookupChild(r.old_name, /*locked=*/true));
    moved = source->inode();
    if (!moved) return Errno(ENOENT);
    RefPtr<Dentry> target = TRY(new_walk.LookupChild(r.new_name, /*locked=*/true));
    replaced = target->inode();
    if ((flags & RENAME_NOREPLACE) && replaced) return Errno(EEXIST);
    if (flags & RENAME_EXCHANGE) {
      if (!replaced) return Errno(ENOENT);
      if (!replaced->is_dir() && new_walk.trailing_slash()) return Errno(ENOTDIR);
    }
    if (!moved->is_dir()) {
      if (old_walk.trailing_slash()) return Errno(ENOTDIR);
      if (!(flags & RENAME_EXCHANGE) && new_walk.trailing_slash()) return Errno(ENOTDIR);
    }
    // A directory does not move into itself, and one that is above the source is not empty.
    if (source.get() == lock.trap()) return Errno(EINVAL);
    if (target.get() == lock.trap()) return Errno(flags & RENAME_EXCHANGE ? EINVAL : ENOTEMPTY);
    TRY(RenameLocked(ctx, r, *source, *target));
    if (moved == replaced) return {};
  }
  NotifyRenamed(r, *moved, replaced.get());
  return {};
}

Result<std::string> ReadLink(VfsContext& ctx, const VfsPath& start, std::string_view path) {
  VfsPath at = TRY(WalkPath(ctx, start, path, static_cast<uint32_t>(WalkFlag::kEmptyPath))).path;
  Inode* inode = at.dentry->inode_ptr();
  if (inode == nullptr) return Errno(ENOENT);
  // do_readlinkat: "" stands for the descriptor itself, which has to be a link.
  if (inode->type() != FileType::kSymlink) return Errno(path.empty() ? ENOENT : EINVAL);
  return inode->ReadLink();
}

}  // namespace sentry::vfs
