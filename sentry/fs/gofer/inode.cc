#include "sentry/fs/gofer/inode.h"

#include "sentry/vfs/vfs.h"

namespace sentry::goferfs {

GoferInode::GoferInode(RefPtr<GoferSuperblock> sb, uint64_t ino, std::pair<uint64_t, uint64_t> key, FileType type,
                       RefPtr<gofer::Node> node, const gofer::Attributes& attributes, std::string symlink_target)
    : Inode(std::move(sb), ino, type), key_(key), node_(std::move(node)), symlink_target_(std::move(symlink_target)) {
  attr_ = Convert(attributes);
  fetched_ = this->sb().shared() ? base::MonotonicNow() : 0;
}

GoferInode::~GoferInode() { sb().Forget(*this); }

Attr GoferInode::Convert(const gofer::Attributes& a) const {
  Attr attr;
  attr.ino = ino();
  attr.dev = superblock().dev();
  attr.mode = static_cast<uint32_t>(type()) | (a.mode & 07777);
  attr.nlink = a.nlink;
  attr.uid = a.uid;
  attr.gid = a.gid;
  attr.rdev = a.rdev;
  attr.size = static_cast<int64_t>(a.size);
  attr.blocks = static_cast<int64_t>(a.blocks);
  attr.blksize = a.blksize != 0 ? a.blksize : 4096;
  attr.atime = a.atime_ns;
  attr.mtime = a.mtime_ns;
  attr.ctime = a.ctime_ns;
  attr.btime = a.btime_ns;
  return attr;
}

void GoferInode::Store(const Attr& attr) {
  base::MonotonicNs now = sb().shared() ? base::MonotonicNow() : 0;
  base::MutexLock l(mu_);
  attr_ = attr;
  fetched_ = now;
}

void GoferInode::Update(const gofer::Attributes& attributes) { Store(Convert(attributes)); }

Attr GoferInode::cached_attr() const {
  base::MutexLock l(mu_);
  return attr_;
}

Result<Attr> GoferInode::GetAttr() {
  bool shared = sb().shared();
  bool ask = stale_.exchange(false, std::memory_order_acq_rel) || ChangesUnseen();
  if (!ask || shared) {
    base::MonotonicNs now = shared ? base::MonotonicNow() : 0;
    base::MutexLock l(mu_);
    if (!ask && (!shared || now - fetched_ < kFreshNs)) return attr_;
  }
  if (auto from_host = AttrFromHost()) {
    if (from_host->ok()) Store(**from_host);
    return std::move(*from_host);
  }
  Result<gofer::Attributes> attributes = node_->GetAttr();
  if (!attributes.ok()) {
    MarkStale();
    return attributes.error();
  }
  Update(*attributes);
  return Convert(*attributes);
}

Result<Attr> GoferInode::GetOwnership() {
  bool shared = sb().shared();
  {
    base::MonotonicNs now = shared ? base::MonotonicNow() : 0;
    base::MutexLock l(mu_);
    if (!shared || now - fetched_ < kFreshForAccessNs) return attr_;
  }
  gofer::Attributes attributes = TRY(node_->GetAttr());
  Update(attributes);
  return Convert(attributes);
}

Result<void> GoferInode::SetAttr(const AttrChange& change) {
  gofer::SetAttrRequest request;
  if (change.mode) {
    request.which |= gofer::kSetMode;
    request.mode = *change.mode & 07777;
  }
  if (change.uid) {
    request.which |= gofer::kSetUid;
    request.uid = *change.uid;
  }
  if (change.gid) {
    request.which |= gofer::kSetGid;
    request.gid = *change.gid;
  }
  if (change.size) {
    request.which |= gofer::kSetSize;
    request.size = static_cast<uint64_t>(*change.size);
  }
  if (change.atime) {
    request.which |= gofer::kSetAtime;
    request.atime_ns = *change.atime;
  }
  if (change.mtime) {
    request.which |= gofer::kSetMtime;
    request.mtime_ns = *change.mtime;
  }
  if (request.which == 0) return {};
  Result<gofer::Attributes> after = node_->SetAttr(request);
  if (!after.ok()) {
    MarkStale();  // a part of it may have happened
    return after.error();
  }
  stale_.store(false, std::memory_order_relaxed);
  Update(*after);
  return {};
}

void GoferInode::DropLink() {
  if (is_dir() || sb().shared()) {
    MarkStale();
    return;
  }
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (attr_.nlink > 0) --attr_.nlink;
  attr_.ctime = now;
}

Result<std::string> GoferInode::ReadLink() {
  if (type() != FileType::kSymlink) return Errno(EINVAL);
  if (!symlink_target_.empty()) return symlink_target_;
  return node_->ReadLink();
}

Result<bool> GoferInode::MayHaveXattr(std::string_view name) {
  if (sb().shared()) return true;
  {
    base::MutexLock l(mu_);
    if (xattr_names_) return xattr_names_->count(name) != 0;
  }
  Result<std::vector<std::string>> names = node_->ListXattr();
  if (!names.ok()) return true;  // whatever the matter is, the question itself will show it
  auto set = std::make_unique<std::set<std::string, std::less<>>>(names->begin(), names->end());
  bool has = set->count(name) != 0;
  base::MutexLock l(mu_);
  xattr_names_ = std::move(set);
  return has;
}

void GoferInode::ForgetXattrNames() {
  base::MutexLock l(mu_);
  xattr_names_.reset();
}

Result<std::string> GoferInode::GetXattr(std::string_view name) {
  // The gofer offers none on other types.
  if (type() != FileType::kRegular && !is_dir()) return Errno(ENODATA);
  // ACLs would have to be obeyed as well.
  if (name.substr(0, 7) == "system.") return Errno(EOPNOTSUPP);
  if (!TRY(MayHaveXattr(name))) return Errno(ENODATA);
  return node_->GetXattr(name);
}

Result<void> GoferInode::SetXattr(std::string_view name, std::string_view value, uint32_t flags) {
  if (name.substr(0, 7) == "system.") return Errno(EOPNOTSUPP);
  Result<void> result = node_->SetXattr(name, value, flags);
  ForgetXattrNames();
  MarkStale();
  return result;
}

Result<std::vector<std::string>> GoferInode::ListXattr() {
  if (type() != FileType::kRegular && !is_dir()) return std::vector<std::string>{};
  std::vector<std::string> names = TRY(node_->ListXattr());
  std::erase_if(names, [](const std::string& n) { return n.compare(0, 7, "system.") == 0; });
  return names;
}

Result<void> GoferInode::RemoveXattr(std::string_view name) {
  if (name.substr(0, 7) == "system.") return Errno(EOPNOTSUPP);
  Result<void> result = node_->RemoveXattr(name);
  ForgetXattrNames();
  MarkStale();
  return result;
}

Result<base::UniqueFd> GoferInode::ConnectHost(int type) {
  if (this->type() != FileType::kSocket || !sb().host_uds()) return Errno(ECONNREFUSED);
  return sb().WithRoom([&] { return node_->Connect(type); });
}

Result<base::UniqueFd> GoferInode::OpenHostFifo(uint32_t flags) {
  if (!IsHostFifo()) return Errno(ENXIO);
  return sb().WithRoom([&] { return node_->Open(flags & gofer::kOpenFlagsMask); });
}

}  // namespace sentry::goferfs
