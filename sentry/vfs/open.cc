// open(2) and its relatives (fs/open.c, fs/namei.c: path_openat).
#include <fcntl.h>
#include <sys/inotify.h>

#include "sentry/vfs/file_locks.h"
#include "sentry/vfs/inotify.h"
#include "sentry/vfs/name_change.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/special.h"
#include "sentry/vfs/vfs.h"
#include "sentry/vfs/walk.h"

namespace sentry::vfs {
namespace {

// O_PATH: a place, not a file.
class PathDescription final : public FileDescription {
 public:
  using FileDescription::FileDescription;
  PathDescription(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> Read(IoBuffer&, const IoFlags&) override { return Errno(EBADF); }
  Result<size_t> Write(IoBuffer&, const IoFlags&) override { return Errno(EBADF); }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EBADF); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EBADF); }
  Result<int64_t> Seek(int64_t, int) override { return Errno(EBADF); }
  Result<int64_t> ReadDir(int64_t, const DirentSink&) override { return Errno(EBADF); }
  Result<int64_t> Ioctl(const IoctlArgs&) override { return Errno(EBADF); }
  Result<RefPtr<Mappable>> GetMappable(uint8_t, bool) override { return Errno(EBADF); }
  Result<void> Fsync(bool) override { return Errno(EBADF); }
  Result<void> Truncate(int64_t) override { return Errno(EBADF); }
};

constexpr uint32_t kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;

int AccessOf(uint32_t flags) {
  int may = 0;
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      may = kMayRead;
      break;
    case O_WRONLY:
      may = kMayWrite;
      break;
    default:
      may = kMayRead | kMayWrite;
      break;  // 3 as well: both permissions, neither ability
  }
  if (flags & O_TRUNC) may |= kMayWrite;
  return may;
}

// may_open.
Result<void> MayOpen(const Credentials& creds, const VfsPath& path, int may, uint32_t flags) {
  Inode& inode = *path.dentry->inode_ptr();
  switch (inode.type()) {
    case FileType::kSymlink:
      return Errno(ELOOP);
    case FileType::kDirectory:
      if (may & kMayWrite) return Errno(EISDIR);
      break;
    case FileType::kBlockDevice:
    case FileType::kCharDevice:
      if (path.mount && (path.mount->flags() & 4 /* MS_NODEV */)) return Errno(EACCES);
      break;
    default:
      break;
  }
  if (may != 0) TRY(PathPermission(creds, path, may));
  if (flags & O_NOATIME) {
    if (!OwnerOrCapable(creds, TRY(inode.GetOwnership()).uid)) return Errno(EPERM);
  }
  return {};
}

Result<void> TruncateOnOpen(VfsContext& ctx, const VfsPath& path) {
  Inode& inode = *path.dentry->inode_ptr();
  base::WriterLock l(inode.dir_lock);
  AttrChange change;
  change.size = 0;
  Attr attr = TRY(inode.GetOwnership());
  if (uint32_t drop = SetIdBitsToDrop(*ctx.creds, attr)) change.mode = attr.mode & 07777 & ~drop;
  return inode.SetAttr(change);
}

// do_open and vfs_open: what `path` names is there. `may`: 0 if it has just been made by this very call.
Result<RefPtr<FileDescription>> FinishOpen(VfsContext& ctx, const VfsPath& path, uint32_t flags, int may) {
  Inode& inode = *path.dentry->inode_ptr();
  TRY(MayOpen(*ctx.creds, path, may, flags));
  FileType type = inode.type();
  if (type == FileType::kFifo || type == FileType::kCharDevice || type == FileType::kBlockDevice ||
      type == FileType::kSocket) {
    RefPtr<FileDescription> file = TRY(OpenSpecial(path, flags, ctx));
    NotifyDentry(*path.dentry, IN_OPEN);
    return file;
  }
  bool counts = type == FileType::kRegular && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC));
  if (counts) TRY(inode.GetWriteAccess());
  auto open = [&]() -> Result<RefPtr<FileDescription>> {
    // Who waits here to write counts as a writer already (do_dentry_open): the lease cannot become one for reading.
    FileLocks* locks = type == FileType::kRegular && may != 0 ? inode.locks_if_any() : nullptr;
    if (locks != nullptr) {
      TRY(locks->BreakLeases((may & kMayWrite) != 0, (flags & O_NONBLOCK) ? nullptr : ctx.blocker));
    }
    bool truncate = (flags & O_TRUNC) && type == FileType::kRegular && may != 0;
    if (truncate) TRY(TruncateOnOpen(ctx, path));
    RefPtr<FileDescription> file = TRY(inode.Open(path, flags, ctx));
    if (truncate) NotifyDentry(*path.dentry, IN_MODIFY);
    NotifyDentry(*path.dentry, IN_OPEN);
    return file;
  };
  Result<RefPtr<FileDescription>> file = open();
  if (counts) inode.PutWriteAccess();  // the description holds its own
  return file;
}

Result<RefPtr<FileDescription>> OpenTmpfile(VfsContext& ctx, const VfsPath& start, std::string_view path,
                                            const OpenArgs& args) {
  uint32_t walk = args.resolve | static_cast<uint32_t>(WalkFlag::kDirectory) | static_cast<uint32_t>(WalkFlag::kFollow);
  WalkResult dir = TRY(WalkPath(ctx, start, path, walk));
  TRY(WantWrite(*dir.path.mount));
  Inode& inode = *dir.path.dentry->inode_ptr();
  TRY(inode.CheckAccess(*ctx.creds, kMayWrite | kMayExec));
  NewNode node = InitOwner(*ctx.creds, TRY(inode.GetOwnership()), args.mode & 07777 & ~ctx.umask, false);
  RefPtr<Inode> file = TRY(inode.Tmpfile(node));
  if (!(args.flags & O_EXCL)) file->linkable.store(true, std::memory_order_relaxed);
  // Shown as "/dir/#inode (deleted)" (fs/dcache.c: d_mark_tmpfile).
  std::string name = "#" + std::to_string(file->ino());
  auto dentry = dir.path.dentry->MakeUnlinkedChild(std::move(name), file);
  return FinishOpen(ctx, {dir.path.mount, std::move(dentry)}, args.flags & ~(O_EXCL | kTmpfileBit | O_DIRECTORY), 0);
}

// Creates the last component in walker.at(), whose dir_lock is held. The dentry was negative.
Result<void> CreateLocked(VfsContext& ctx, Walker& walker, Dentry& child, std::string_view name, uint32_t mode) {
  Inode& dir = *walker.at().dentry->inode_ptr();
  TRY(MayCreateIn(*ctx.creds, dir));
  NewNode node = InitOwner(*ctx.creds, TRY(dir.GetOwnership()), mode & 07777 & ~ctx.umask, false);
  NameChange change(dir.superblock());
  RefPtr<Inode> inode = TRY(dir.Create(name, node));
  child.Instantiate(std::move(inode));
  return {};
}

Result<RefPtr<FileDescription>> OpenCreate(VfsContext& ctx, const VfsPath& start, std::string_view path,
                                           const OpenArgs& args) {
  uint32_t flags = args.flags;
  Walker walker(ctx, args.resolve | static_cast<uint32_t>(WalkFlag::kParent));
  TRY(walker.Start(start, path));
  if (!(flags & O_EXCL)) walker.SetOpening((flags & O_ACCMODE) != O_RDONLY);
  bool follow = !(flags & (O_NOFOLLOW | O_EXCL));
  int races = 0;
  for (bool run = true;;) {
    if (run) TRY(walker.Run());
    run = true;
    if (walker.last().empty() || walker.last() == "." || walker.last() == ".." || walker.trailing_slash())
      return Errno(EISDIR);
    VfsPath dir = walker.at();
    Inode& dir_inode = *dir.dentry->inode_ptr();
    std::string_view name = walker.last();
    RefPtr<Dentry> child = TRY(walker.LookupChild(name, /*locked=*/false));
    bool created = false;
    if (child->inode_ptr() == nullptr) {
      base::WriterLock l(dir_inode.dir_lock);
      child = TRY(walker.LookupChild(name, /*locked=*/true));
      if (child->inode_ptr() == nullptr) {
        TRY(WantWrite(*dir.mount));
        Result<void> made = CreateLocked(ctx, walker, *child, name, args.mode);
        if (made.failed_with(EEXIST) && !(flags & O_EXCL) && ++races < 5) {
          // Somebody on the host was faster: look again.
          child->Unlink();
          run = false;
          continue;
        }
        TRY(made);
        created = true;
      }
    }
    if (created) {
      NotifyName(dir_inode, name, false, IN_CREATE);
      RefPtr<FileDescription> file = TRY(FinishOpen(ctx, {dir.mount, std::move(child)}, flags & ~O_TRUNC, 0));
      file->created = true;
      return file;
    }
    if (flags & O_EXCL) return Errno(EEXIST);
    if (TRY(walker.StepInto(std::move(child), follow))) continue;
    Inode& inode = *walker.at().dentry->inode_ptr();
    if (inode.is_dir()) return Errno(EISDIR);
    return FinishOpen(ctx, walker.at(), flags, AccessOf(flags));
  }
}

}  // namespace

Result<RefPtr<FileDescription>> Open(VfsContext& ctx, const VfsPath& start, std::string_view path,
                                     const OpenArgs& args) {
  uint32_t flags = args.flags;
  OpenArgs a = args;
  if (flags & O_PATH) {
    a.flags = flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  } else if (flags & kTmpfileBit) {
    if ((flags & O_TMPFILE) != O_TMPFILE || (flags & O_CREAT)) return Errno(EINVAL);
    if (!(AccessOf(flags & ~O_TRUNC) & kMayWrite)) return Errno(EINVAL);
    return OpenTmpfile(ctx, start, path, a);
  } else if (flags & O_CREAT) {
    if (flags & O_DIRECTORY) return Errno(EINVAL);  // since 6.4
    return OpenCreate(ctx, start, path, a);
  }
  uint32_t walk = a.resolve;
  if (!(flags & O_NOFOLLOW)) walk |= static_cast<uint32_t>(WalkFlag::kFollow);
  if (flags & O_DIRECTORY) walk |= static_cast<uint32_t>(WalkFlag::kDirectory);
  Walker walker(ctx, walk);
  if (!(flags & (O_PATH | O_DIRECTORY))) walker.SetOpening((flags & O_ACCMODE) != O_RDONLY);
  TRY(walker.Start(start, path));
  TRY(walker.Run());
  if (flags & O_PATH) return RefPtr<FileDescription>(TRY(base::TryMakeRef<PathDescription>(walker.at(), flags)));
  return FinishOpen(ctx, walker.at(), flags, AccessOf(flags));
}

Result<RefPtr<FileDescription>> OpenPath(VfsContext& ctx, const VfsPath& path, uint32_t flags, bool trusted) {
  Inode* inode = path.dentry->inode_ptr();
  if (inode == nullptr) return Errno(ENOENT);
  if ((flags & O_DIRECTORY) && !inode->is_dir()) return Errno(ENOTDIR);
  if (flags & O_PATH) return RefPtr<FileDescription>(TRY(base::TryMakeRef<PathDescription>(path, flags)));
  if (trusted && !(flags & O_TRUNC)) return FinishOpen(ctx, path, flags & ~O_NOATIME, 0);
  return FinishOpen(ctx, path, flags, AccessOf(flags));
}

}  // namespace sentry::vfs
