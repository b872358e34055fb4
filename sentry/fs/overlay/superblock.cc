#include "sentry/fs/overlay/superblock.h"

#include <linux/magic.h>
#include <sys/sysmacros.h>

#include "absl/strings/str_cat.h"
#include "sentry/fs/overlay/inode.h"

#ifndef OVERLAYFS_SUPER_MAGIC
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#endif

namespace sentry::overlay {

OverlaySuperblock::OverlaySuperblock(const Options& options, RefPtr<Inode> work, RefPtr<Inode> whiteout)
    : options_(options), work_(std::move(work)), whiteout_(std::move(whiteout)) {}

Result<FsStat> OverlaySuperblock::StatFs() {
  FsStat st = TRY(options_.upper.superblock->StatFs());
  // A tmpfs without a limit says 0, which programs take for a full disk; what the host has is a better guess.
  if (st.blocks == 0) st = TRY(options_.lower.superblock->StatFs());
  st.type = OVERLAYFS_SUPER_MAGIC;
  return st;
}

std::string OverlaySuperblock::NextWorkName() {
  return absl::StrCat("#", next_work_name_.fetch_add(1, std::memory_order_relaxed));
}

RefPtr<OverlayInode> OverlaySuperblock::FindUpper(const Inode& upper) {
  base::MutexLock l(mu_);
  auto it = by_upper_.find(&upper);
  if (it == by_upper_.end() || !it->second->TryRef()) return nullptr;
  return RefPtr<OverlayInode>::Adopt(it->second);
}

RefPtr<OverlayInode> OverlaySuperblock::FindOrAdd(const Inode& upper, RefPtr<OverlayInode> fresh) {
  base::MutexLock l(mu_);
  auto [it, inserted] = by_upper_.try_emplace(&upper, fresh.get());
  if (!inserted) {
    if (it->second->TryRef()) return RefPtr<OverlayInode>::Adopt(it->second);
    it->second = fresh.get();  // that one is on its way out
  }
  return fresh;
}

void OverlaySuperblock::Claim(const Inode& upper, OverlayInode& inode) {
  base::MutexLock l(mu_);
  by_upper_[&upper] = &inode;
}

void OverlaySuperblock::Forget(const Inode& upper, const OverlayInode& inode) {
  base::MutexLock l(mu_);
  auto it = by_upper_.find(&upper);
  if (it != by_upper_.end() && it->second == &inode) by_upper_.erase(it);
}

bool IsWhiteout(Inode& inode) {
  if (inode.type() != FileType::kCharDevice) return false;
  Result<Attr> attr = inode.GetAttr();
  return attr.ok() && attr->rdev == 0;
}

Result<vfs::NewMount> Create(const Options& options) {
  RefPtr<Inode> lower = options.lower.root->inode();
  RefPtr<Inode> top = options.upper.root->inode();
  if (!lower->is_dir() || !top->is_dir()) return Errno(ENOTDIR);
  Attr attr = TRY(lower->GetAttr());
  base::WriterLock l(top->dir_lock);
  RefPtr<Inode> upper = TRY(top->Mkdir("upper", {.mode = attr.mode & 07777, .uid = attr.uid, .gid = attr.gid}));
  RefPtr<Inode> work = TRY(top->Mkdir("work", {.mode = 0}));
  RefPtr<Inode> whiteout;
  {
    base::WriterLock lw(work->dir_lock);
    whiteout = TRY(work->Mknod("whiteout", {.mode = S_IFCHR, .rdev = makedev(0, 0)}));
  }
  TRY(upper->SetAttr({.atime = attr.atime, .mtime = attr.mtime}));
  auto sb = base::MakeRef<OverlaySuperblock>(options, std::move(work), std::move(whiteout));
  vfs::NewMount mount;
  mount.root = Dentry::MakeRoot(OverlayInode::Make(sb, std::move(upper), std::move(lower), {}));
  mount.superblock = std::move(sb);
  return mount;
}

}  // namespace sentry::overlay
