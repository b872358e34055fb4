#include "sentry/fs/tmpfs/inode.h"

#include <linux/xattr.h>

#include "sentry/vfs/apply_attr.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {

TmpfsInode::TmpfsInode(RefPtr<TmpfsSuperblock> sb, FileType type, const NewNode& node)
    : Inode(sb, sb->NextIno(), type) {
  attr_.ino = ino();
  attr_.dev = sb->dev();
  attr_.mode = static_cast<uint32_t>(type) | (node.mode & 07777);
  attr_.uid = node.uid;
  attr_.gid = node.gid;
  attr_.rdev = node.rdev;
  attr_.nlink = 1;
  attr_.atime = attr_.mtime = attr_.ctime = attr_.btime = vfs::FileNow();
}

TmpfsInode::~TmpfsInode() {
  if (xattr_bytes_ != 0) sb().UnchargeBytes(xattr_bytes_);
  sb().UnchargeInode();
}

Result<Attr> TmpfsInode::GetAttr() {
  base::MutexLock l(mu_);
  return attr_;
}

Result<void> TmpfsInode::SetAttr(const AttrChange& change) {
  if (change.size) return Errno(EINVAL);
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  ApplyAttrChange(attr_, change, now);
  return {};
}

Result<void> TmpfsInode::CheckAccess(const Credentials& creds, int may) {
  uint32_t mode, uid, gid;
  {
    base::MutexLock l(mu_);
    mode = attr_.mode;
    uid = attr_.uid;
    gid = attr_.gid;
  }
  return GenericPermission(creds, mode, uid, gid, may);
}

void TmpfsInode::AddLinks(int by) {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  attr_.nlink += static_cast<uint32_t>(by);
  attr_.ctime = now;
}

Result<void> TmpfsInode::AddName() {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (attr_.nlink > 0) TRY(sb().ChargeInode());
  ++attr_.nlink;
  attr_.ctime = now;
  return {};
}

void TmpfsInode::DropName() {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (--attr_.nlink > 0) sb().UnchargeInode();
  attr_.ctime = now;
}

void TmpfsInode::TouchCtime() {
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  attr_.ctime = now;
}

namespace {

bool SupportedXattr(std::string_view name) {
  auto starts = [&](std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; };
  return starts(XATTR_USER_PREFIX) || starts(XATTR_TRUSTED_PREFIX) || starts(XATTR_SECURITY_PREFIX);
}

}  // namespace

Result<std::string> TmpfsInode::GetXattr(std::string_view name) {
  if (!SupportedXattr(name)) return Errno(EOPNOTSUPP);
  base::MutexLock l(mu_);
  if (!xattrs_) return Errno(ENODATA);
  auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  return it->second;
}

Result<void> TmpfsInode::SetXattr(std::string_view name, std::string_view value, uint32_t flags) {
  if (!SupportedXattr(name)) return Errno(EOPNOTSUPP);
  std::string fresh(value);
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (!xattrs_) xattrs_ = std::make_unique<Xattrs>();
  auto it = xattrs_->find(name);
  if (it == xattrs_->end() && (flags & XATTR_REPLACE)) return Errno(ENODATA);
  if (it != xattrs_->end() && (flags & XATTR_CREATE)) return Errno(EEXIST);
  size_t before = it == xattrs_->end() ? 0 : name.size() + it->second.size();
  size_t after = name.size() + value.size();
  if (xattr_bytes_ - before + after > kMaxXattrBytes) return Errno(ENOSPC);
  if (after > before) TRY(sb().ChargeBytes(after - before, after - before));
  if (after < before) sb().UnchargeBytes(before - after);
  xattr_bytes_ = xattr_bytes_ - before + after;
  if (it != xattrs_->end()) {
    it->second.swap(fresh);
  } else {
    xattrs_->emplace(std::string(name), std::move(fresh));
  }
  attr_.ctime = now;
  return {};
}

Result<std::vector<std::string>> TmpfsInode::ListXattr() {
  std::vector<std::string> names;
  base::MutexLock l(mu_);
  if (xattrs_) {
    for (const auto& [name, value] : *xattrs_) names.push_back(name);
  }
  return names;
}

Result<void> TmpfsInode::RemoveXattr(std::string_view name) {
  if (!SupportedXattr(name)) return Errno(EOPNOTSUPP);
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (!xattrs_) return Errno(ENODATA);
  auto it = xattrs_->find(name);
  if (it == xattrs_->end()) return Errno(ENODATA);
  size_t bytes = it->first.size() + it->second.size();
  xattr_bytes_ -= bytes;
  sb().UnchargeBytes(bytes);
  xattrs_->erase(it);
  attr_.ctime = now;
  return {};
}

TmpfsSymlink::TmpfsSymlink(RefPtr<TmpfsSuperblock> sb, const NewNode& node, std::string target)
    : TmpfsInode(std::move(sb), FileType::kSymlink, node), target_(std::move(target)) {
  base::MutexLock l(mu_);
  attr_.size = static_cast<int64_t>(target_.size());
  if (target_.size() >= kFreeTargetBytes) attr_.blocks = 8;
}

TmpfsSymlink::~TmpfsSymlink() {
  if (target_.size() >= kFreeTargetBytes) sb().UnchargeBytes(kPageSize);
}

TmpfsSpecial::TmpfsSpecial(RefPtr<TmpfsSuperblock> sb, FileType type, const NewNode& node)
    : TmpfsInode(std::move(sb), type, node) {}

}  // namespace sentry::tmpfs
