#include <dirent.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>

#include "absl/strings/string_view.h"
#include "sentry/fs/tmpfs/file.h"
#include "sentry/fs/tmpfs/inode.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {
namespace {

// BOGO_DIRENT_SIZE: what an entry adds to a directory's size.
constexpr int64_t kEntrySize = 20;

absl::string_view View(std::string_view s) { return {s.data(), s.size()}; }

class DirectoryDescription final : public FileDescription {
 public:
  DirectoryDescription(VfsPath path, uint32_t flags) : FileDescription(std::move(path), flags) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EISDIR); }
  Result<size_t> Read(IoBuffer&, const IoFlags&) override { return Errno(EISDIR); }
  Result<void> Fsync(bool) override { return {}; }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    // offset_dir_llseek: no end to seek to.
    if (whence != SEEK_SET && whence != SEEK_CUR) return Errno(EINVAL);
    return FileDescription::Seek(offset, whence);
  }

  Result<int64_t> ReadDir(int64_t position, const DirentSink& sink) override {
    auto& dir = static_cast<TmpfsDirectory&>(*inode());
    if (position < 0) return Errno(EINVAL);
    if (position == 0) {
      if (!sink({".", dir.ino(), DT_DIR, 1})) return position;
      position = 1;
    }
    if (position == 1) {
      RefPtr<Dentry> parent = path().dentry->parent();
      uint64_t ino = parent && parent->inode_ptr() != nullptr ? parent->inode_ptr()->ino() : dir.ino();
      if (!sink({"..", ino, DT_DIR, 2})) return position;
      position = 2;
    }
    // In batches, because the sink may fault guest memory in and the entries are under a mutex.
    for (;;) {
      auto entries = dir.EntriesFrom(static_cast<uint64_t>(position), 64);
      if (entries.empty()) return position;
      for (const auto& [cookie, entry] : entries) {
        uint8_t type = static_cast<uint8_t>(static_cast<uint32_t>(entry.inode->type()) >> 12);
        int64_t next = static_cast<int64_t>(cookie) + 1;
        if (!sink({entry.name, entry.inode->ino(), type, next})) return position;
        position = next;
      }
    }
  }
};

}  // namespace

TmpfsDirectory::TmpfsDirectory(RefPtr<TmpfsSuperblock> sb, const NewNode& node)
    : TmpfsInode(std::move(sb), FileType::kDirectory, node) {
  base::MutexLock l(mu_);
  attr_.nlink = 2;
}

// A loop instead of recursion through destructors: a guest decides how deep the tree is.
TmpfsDirectory::~TmpfsDirectory() NO_THREAD_SAFETY_ANALYSIS {
  std::vector<RefPtr<TmpfsInode>> doomed;
  auto take = [&doomed](TmpfsDirectory& dir) NO_THREAD_SAFETY_ANALYSIS {
    dir.by_name_.clear();
    for (auto& [cookie, entry] : dir.entries_) doomed.push_back(std::move(entry.inode));
    dir.entries_.clear();
  };
  take(*this);
  while (!doomed.empty()) {
    RefPtr<TmpfsInode> inode = std::move(doomed.back());
    doomed.pop_back();
    // Nobody can find it any more: with one reference, it is ours alone.
    if (inode->is_dir() && inode->ref_count() == 1) take(static_cast<TmpfsDirectory&>(*inode));
  }
}

Result<RefPtr<Inode>> TmpfsDirectory::Lookup(std::string_view name) {
  base::MutexLock l(mu_);
  auto it = by_name_.find(View(name));
  if (it == by_name_.end()) return Errno(ENOENT);
  return RefPtr<Inode>(entries_.find(it->second)->second.inode);
}

bool TmpfsDirectory::Empty() {
  base::MutexLock l(mu_);
  return entries_.empty();
}

std::vector<std::pair<uint64_t, TmpfsDirectory::Entry>> TmpfsDirectory::EntriesFrom(uint64_t cookie, size_t max) {
  std::vector<std::pair<uint64_t, Entry>> out;
  base::MutexLock l(mu_);
  for (auto it = entries_.lower_bound(cookie); it != entries_.end() && out.size() < max; ++it) out.push_back(*it);
  return out;
}

void TmpfsDirectory::Insert(std::string_view name, RefPtr<TmpfsInode> inode) {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  uint64_t cookie = next_cookie_++;
  auto it = entries_.emplace_hint(entries_.end(), cookie, Entry{std::string(name), std::move(inode)});
  by_name_.emplace(View(it->second.name), cookie);
  attr_.size += kEntrySize;
  attr_.mtime = attr_.ctime = now;
}

RefPtr<TmpfsInode> TmpfsDirectory::Erase(std::string_view name) {
  FileTimeNs now = vfs::FileNow();
  RefPtr<TmpfsInode> inode;
  base::MutexLock l(mu_);
  auto it = by_name_.find(View(name));
  if (it == by_name_.end()) return nullptr;
  auto entry = entries_.find(it->second);
  by_name_.erase(it);
  inode = std::move(entry->second.inode);
  entries_.erase(entry);
  attr_.size -= kEntrySize;
  attr_.mtime = attr_.ctime = now;
  return inode;
}

void TmpfsDirectory::TouchMtime() {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  attr_.mtime = attr_.ctime = now;
}

Result<RefPtr<Inode>> TmpfsDirectory::Create(std::string_view name, const NewNode& node) {
  InodeCharge charge = TRY(InodeCharge::Take(sb()));
  auto inode = base::MakeRef<TmpfsFile>(sb_ref(), node, kSealSeal);
  charge.Keep();
  Insert(name, inode);
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> TmpfsDirectory::Tmpfile(const NewNode& node) {
  InodeCharge charge = TRY(InodeCharge::Take(sb()));
  auto inode = base::MakeRef<TmpfsFile>(sb_ref(), node, kSealSeal);
  charge.Keep();
  inode->AddLinks(-1);
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> TmpfsDirectory::Mkdir(std::string_view name, const NewNode& node) {
  InodeCharge charge = TRY(InodeCharge::Take(sb()));
  auto inode = base::MakeRef<TmpfsDirectory>(sb_ref(), node);
  charge.Keep();
  Insert(name, inode);
  AddLinks(1);  // its ".."
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> TmpfsDirectory::Mknod(std::string_view name, const NewNode& node) {
  InodeCharge charge = TRY(InodeCharge::Take(sb()));
  auto inode = base::MakeRef<TmpfsSpecial>(sb_ref(), static_cast<FileType>(node.mode & S_IFMT), node);
  charge.Keep();
  Insert(name, inode);
  return RefPtr<Inode>(std::move(inode));
}

Result<RefPtr<Inode>> TmpfsDirectory::Symlink(std::string_view name, std::string_view target, const NewNode& node) {
  InodeCharge charge = TRY(InodeCharge::Take(sb()));
  if (target.size() >= TmpfsSymlink::kFreeTargetBytes) TRY(sb().ChargeBytes(kPageSize, kPageSize));
  auto inode = base::MakeRef<TmpfsSymlink>(sb_ref(), node, std::string(target));
  charge.Keep();
  Insert(name, inode);
  return RefPtr<Inode>(std::move(inode));
}

Result<void> TmpfsDirectory::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<TmpfsInode&>(target);
  TRY(inode.AddName());
  Insert(name, RefPtr<TmpfsInode>(&inode));
  return {};
}

Result<void> TmpfsDirectory::Unlink(std::string_view name, Inode& child) {
  RefPtr<TmpfsInode> inode = Erase(name);
  if (!inode) return Errno(ENOENT);
  inode->DropName();
  return {};
}

Result<void> TmpfsDirectory::Rmdir(std::string_view name, Inode& child) {
  auto& dir = static_cast<TmpfsDirectory&>(child);
  if (!dir.Empty()) return Errno(ENOTEMPTY);
  RefPtr<TmpfsInode> inode = Erase(name);
  if (!inode) return Errno(ENOENT);
  inode->AddLinks(-2);
  AddLinks(-1);
  return {};
}

Result<void> TmpfsDirectory::Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                                    Inode* replaced, uint32_t flags) {
  auto& to = static_cast<TmpfsDirectory&>(new_dir);
  if (flags & RENAME_EXCHANGE) {
    RefPtr<TmpfsInode> a = Erase(old_name);
    RefPtr<TmpfsInode> b = to.Erase(new_name);
    if (!a || !b) return Errno(ENOENT);
    if (&to != this && a->is_dir() != b->is_dir()) {
      AddLinks(a->is_dir() ? -1 : 1);
      to.AddLinks(a->is_dir() ? 1 : -1);
    }
    a->TouchCtime();
    b->TouchCtime();
    Insert(old_name, std::move(b));
    to.Insert(new_name, std::move(a));
    return {};
  }
  RefPtr<TmpfsInode> whiteout;
  if (flags & RENAME_WHITEOUT) {
    InodeCharge charge = TRY(InodeCharge::Take(sb()));
    NewNode node{.mode = 0, .rdev = makedev(0, 0)};  // WHITEOUT_MODE, WHITEOUT_DEV
    whiteout = base::MakeRef<TmpfsSpecial>(sb_ref(), FileType::kCharDevice, node);
    charge.Keep();
  }
  if (replaced != nullptr) {
    TRY(replaced->is_dir() ? to.Rmdir(new_name, *replaced) : to.Unlink(new_name, *replaced));
  }
  RefPtr<TmpfsInode> inode = Erase(old_name);
  if (!inode) return Errno(ENOENT);
  if (inode->is_dir() && &to != this) {
    AddLinks(-1);
    to.AddLinks(1);
  }
  inode->TouchCtime();
  to.Insert(new_name, std::move(inode));
  if (whiteout) Insert(old_name, std::move(whiteout));
  return {};
}

Result<RefPtr<FileDescription>> TmpfsDirectory::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<DirectoryDescription>(path, flags)));
}

}  // namespace sentry::tmpfs
