#include "sentry/fs/kernfs/kernfs.h"

#include <algorithm>

#include "sentry/vfs/vfs.h"

namespace sentry::kernfs {

namespace {

constexpr size_t kMaxStore = 4095;  // a page with its NUL, as kernfs_fop_write_iter

uint8_t DirentType(FileType type) { return static_cast<uint8_t>(static_cast<uint32_t>(type) >> 12); }

// An open directory: "." and ".." at positions 0 and 1, entries at their own positions + 1.
class DirFile final : public FileDescription {
 public:
  DirFile(VfsPath path, uint32_t flags, RefPtr<KernDir> dir, VfsContext& ctx)
      : FileDescription(std::move(path), flags), dir_(std::move(dir)), ctx_(ctx) {
    ctx_.blocker = nullptr;
  }
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }
  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    if (position == 0) {
      if (!sink({".", dir_->ino(), DirentType(FileType::kDirectory), 1})) return position;
      position = 1;
    }
    if (position == 1) {
      RefPtr<Dentry> parent = path().dentry->parent();
      RefPtr<Inode> inode = parent ? parent->inode() : inode_ref();
      if (!sink({"..", inode ? inode->ino() : dir_->ino(), DirentType(FileType::kDirectory), 2})) return position;
      position = 2;
    }
    for (;;) {
      std::vector<KernDir::Entry> entries = dir_->List(position - 2, ctx_);
      if (entries.empty()) return position;
      for (const KernDir::Entry& e : entries) {
        const int64_t next = e.position + 2;
        const uint64_t ino = e.ino != 0 ? e.ino : (uint64_t{1} << 32) + static_cast<uint64_t>(e.position);
        if (!sink({e.name, ino, DirentType(e.type), next})) return position;
        position = next;
      }
    }
  }

 private:
  RefPtr<Inode> inode_ref() { return inode(); }
  RefPtr<KernDir> dir_;
  VfsContext ctx_;
};

class TextDescription final : public FileDescription {
 public:
  TextDescription(VfsPath path, uint32_t flags, RefPtr<TextFile> file, VfsContext& ctx)
      : FileDescription(std::move(path), flags), file_(std::move(file)), ctx_(ctx) {
    ctx_.blocker = nullptr;
    ctx_.task = nullptr;  // the opener may be gone when somebody reads
  }
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    if (!file_->ops().generate) return Errno(EINVAL);
    if (offset < 0) return Errno(EINVAL);
    base::FiberMutexLock l(lock_);
    if (!generated_ || offset == 0) {
      text_ = TRY(file_->ops().generate(ctx_));
      generated_ = true;
    }
    if (static_cast<size_t>(offset) >= text_.size()) return size_t{0};
    std::string_view rest = std::string_view(text_).substr(static_cast<size_t>(offset));
    return to.CopyOut(std::as_bytes(std::span(rest.substr(0, to.remaining()))));
  }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags&) override {
    if (!file_->ops().store) return Errno(EINVAL);
    std::string text(std::min(from.remaining(), kMaxStore), '\0');
    const size_t n = TRY(from.CopyIn(std::as_writable_bytes(std::span(text))));
    text.resize(n);
    TRY(file_->ops().store(ctx_, text));
    return n;
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    base::FiberMutexLock l(position_lock_);
    int64_t target = whence == SEEK_CUR ? position() : 0;
    if (whence != SEEK_SET && whence != SEEK_CUR) return Errno(EINVAL);
    if (__builtin_add_overflow(target, offset, &target) || target < 0) return Errno(EINVAL);
    position_.store(target, std::memory_order_relaxed);
    return target;
  }
  Result<void> Truncate(int64_t) override { return {}; }

 private:
  RefPtr<TextFile> file_;
  VfsContext ctx_;
  base::FiberMutex lock_;
  bool generated_ GUARDED_BY(lock_) = false;
  std::string text_ GUARDED_BY(lock_);
};

}  // namespace

Result<FsStat> KernSuperblock::StatFs() {
  FsStat s;
  s.type = magic_;
  return s;
}

KernInode::KernInode(RefPtr<KernSuperblock> sb, FileType type, uint32_t permissions, OwnerFunction owner)
    : Inode(sb, sb->NextIno(), type), permissions_(permissions), owner_(std::move(owner)), time_(vfs::FileNow()) {}

Result<Attr> KernInode::GetAttr() {
  Attr a;
  a.ino = ino();
  a.dev = superblock().dev();
  a.mode = static_cast<uint32_t>(type()) | permissions_.load(std::memory_order_relaxed);
  a.nlink = is_dir() ? 2 : 1;
  if (owner_) {
    Owner o = owner_();
    a.uid = o.uid;
    a.gid = o.gid;
  }
  a.size = Size();
  a.blksize = 1024;
  a.atime = a.mtime = a.ctime = a.btime = time_;
  return a;
}

Result<void> KernInode::SetAttr(const AttrChange& change) {
  if (change.uid || change.gid) return Errno(EPERM);
  if (change.mode) permissions_.store(*change.mode & 07777, std::memory_order_relaxed);
  return {};  // sizes (O_TRUNC) and times: nothing to keep
}

Result<RefPtr<FileDescription>> KernDir::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(base::MakeRef<DirFile>(path, flags, RefPtr<KernDir>(this), ctx));
}

void StaticDir::Add(std::string name, RefPtr<Inode> child) {
  if (children_.emplace(name, std::move(child)).second) order_.push_back(std::move(name));
}

Result<RefPtr<Inode>> StaticDir::Lookup(std::string_view name) {
  auto it = children_.find(name);
  if (it == children_.end()) return Errno(ENOENT);
  return it->second;
}

std::vector<KernDir::Entry> StaticDir::List(int64_t after, VfsContext& ctx) {
  std::vector<Entry> entries;
  for (size_t i = static_cast<size_t>(std::max<int64_t>(after, 0)); i < order_.size(); ++i) {
    const Inode& child = *children_.find(order_[i])->second;
    entries.push_back({order_[i], child.type(), child.ino(), static_cast<int64_t>(i) + 1});
  }
  return entries;
}

Result<RefPtr<FileDescription>> TextFile::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  if (ops_.may_open) TRY(ops_.may_open(ctx));
  return RefPtr<FileDescription>(base::MakeRef<TextDescription>(path, flags, RefPtr<TextFile>(this), ctx));
}

Result<VfsPath> KernLink::FollowMagicLink(VfsContext& ctx) {
  if (!ops_.follow) return Errno(EINVAL);
  return ops_.follow(ctx);
}

RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::function<std::string()> generate, uint32_t permissions) {
  TextOps ops;
  ops.generate = [generate = std::move(generate)](VfsContext&) -> Result<std::string> { return generate(); };
  return base::MakeRef<TextFile>(sb, permissions, std::move(ops));
}

RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::string text, uint32_t permissions) {
  return NewText(sb, [text = std::move(text)] { return text; }, permissions);
}

RefPtr<Inode> NewValue(const RefPtr<KernSuperblock>& sb, std::string initial, uint32_t permissions) {
  struct Value final : base::RefCounted {
    base::Mutex mu;
    std::string text GUARDED_BY(mu);
  };
  RefPtr<Value> value = base::MakeRef<Value>();
  {
    base::MutexLock l(value->mu);
    value->text = std::move(initial);
  }
  TextOps ops;
  ops.generate = [value](VfsContext&) -> Result<std::string> {
    base::MutexLock l(value->mu);
    return value->text;
  };
  ops.store = [value](VfsContext&, std::string_view text) -> Result<void> {
    std::string fresh(text);
    if (fresh.empty() || fresh.back() != '\n') fresh += '\n';
    base::MutexLock l(value->mu);
    value->text = std::move(fresh);
    return {};
  };
  return base::MakeRef<TextFile>(sb, permissions, std::move(ops));
}

}  // namespace sentry::kernfs
