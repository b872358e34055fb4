#include "sentry/fs/overlay/inode.h"

#include <charconv>

#include "sentry/fs/overlay/file.h"

namespace sentry::overlay {
namespace {

// Numbers of the upper layer are small and would meet those of the lower one; no file system of a host uses this bit.
constexpr uint64_t kUpperBit = uint64_t{1} << 62;

bool IsOurs(std::string_view xattr) { return xattr.substr(0, kXattrPrefix.size()) == kXattrPrefix; }

}  // namespace

OverlayInode::OverlayInode(RefPtr<OverlaySuperblock> sb, uint64_t ino, FileType type, RefPtr<Inode> upper,
                           RefPtr<Inode> lower, Place place)
    : Inode(std::move(sb), ino, type), upper_(upper.release()), lower_(std::move(lower)), place_(std::move(place)) {}

OverlayInode::~OverlayInode() {
  if (Inode* upper = this->upper()) {
    sb().Forget(*upper, *this);
    upper->Unref();
  }
}

uint64_t OverlayInode::InoFor(Inode* upper, Inode* lower) {
  if (lower != nullptr) return lower->ino();
  Result<std::string> origin = upper->GetXattr(kOriginXattr);
  uint64_t ino;
  if (origin.ok() && std::from_chars(origin->data(), origin->data() + origin->size(), ino).ec == std::errc())
    return ino;
  return upper->ino() | kUpperBit;
}

RefPtr<OverlayInode> OverlayInode::Make(RefPtr<OverlaySuperblock> sb, RefPtr<Inode> upper, RefPtr<Inode> lower,
                                        Place place) {
  if (upper) {
    if (RefPtr<OverlayInode> known = sb->FindUpper(*upper)) return known;
  }
  FileType type = upper ? upper->type() : lower->type();
  uint64_t ino = InoFor(upper.get(), lower.get());
  if (!lower) place = {};
  const Inode* key = upper.get();
  RefPtr<OverlayInode> fresh;
  switch (type) {
    case FileType::kDirectory:
      fresh = base::MakeRef<OverlayDirectory>(sb, ino, type, std::move(upper), std::move(lower), std::move(place));
      break;
    case FileType::kRegular:
      fresh = base::MakeRef<OverlayFile>(sb, ino, type, std::move(upper), std::move(lower), std::move(place));
      break;
    default:
      fresh = base::MakeRef<OverlayInode>(sb, ino, type, std::move(upper), std::move(lower), std::move(place));
      break;
  }
  if (key != nullptr) return sb->FindOrAdd(*key, std::move(fresh));
  return fresh;
}

Result<Attr> OverlayInode::GetAttr() {
  Attr attr = TRY(real().GetAttr());
  attr.ino = ino();
  attr.dev = superblock().dev();
  // The lower file keeps its link.
  if (upper() == nullptr && removed_.load(std::memory_order_acquire)) attr.nlink = 0;
  return attr;
}

Result<void> OverlayInode::SetAttr(const AttrChange& change) {
  TRY(CopyUp(change.size ? *change.size : INT64_MAX));
  base::WriterLock l(upper()->dir_lock);
  return upper()->SetAttr(change);
}

Result<std::string> OverlayInode::GetXattr(std::string_view name) {
  if (IsOurs(name)) return Errno(ENODATA);
  return real().GetXattr(name);
}

Result<void> OverlayInode::SetXattr(std::string_view name, std::string_view value, uint32_t flags) {
  if (IsOurs(name)) return Errno(EPERM);
  TRY(CopyUp());
  base::WriterLock l(upper()->dir_lock);
  return upper()->SetXattr(name, value, flags);
}

Result<std::vector<std::string>> OverlayInode::ListXattr() {
  std::vector<std::string> names = TRY(real().ListXattr());
  std::erase_if(names, [](const std::string& n) { return IsOurs(n); });
  return names;
}

Result<void> OverlayInode::RemoveXattr(std::string_view name) {
  if (IsOurs(name)) return Errno(EPERM);
  TRY(real().GetXattr(name));  // nothing to copy up for if it is not there
  TRY(CopyUp());
  base::WriterLock l(upper()->dir_lock);
  return upper()->RemoveXattr(name);
}

}  // namespace sentry::overlay
