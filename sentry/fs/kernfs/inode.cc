#include "sentry/fs/kernfs/kernfs.h"
#include "sentry/vfs/vfs.h"

namespace sentry::kernfs {

namespace {

class StaticLink final : public KernLink {
 public:
  StaticLink(RefPtr<KernSuperblock> sb, std::function<Result<std::string>()> target)
      : KernLink(std::move(sb)), target_(std::move(target)) {}
  Result<std::string> ReadLink() override { return target_(); }

 private:
  const std::function<Result<std::string>()> target_;
};

}  // namespace

Result<FsStat> KernSuperblock::StatFs() {
  FsStat s;
  s.type = magic_;
  return s;
}

KernInode::KernInode(RefPtr<KernSuperblock> sb, FileType type, uint32_t permissions, uint64_t ino)
    : Inode(sb, ino != 0 ? ino : sb->NextIno(), type), permissions_(permissions), time_(vfs::FileNow()) {}

Result<Attr> KernInode::GetAttr() {
  Attr a;
  a.ino = ino();
  a.dev = superblock().dev();
  a.mode = static_cast<uint32_t>(type()) | permissions_.load(std::memory_order_relaxed);
  a.nlink = LinkCount();
  const Owner owner = GetOwner();
  a.uid = owner.uid;
  a.gid = owner.gid;
  a.size = Size();
  a.blksize = 1024;
  a.atime = a.mtime = a.ctime = a.btime = time_;
  return a;
}

Result<void> KernInode::SetAttr(const AttrChange& change) {
  if (change.uid || change.gid) return Errno(EPERM);
  if (change.mode) permissions_.store(*change.mode & 07777, std::memory_order_relaxed);
  return {};
}

RefPtr<Inode> NewLink(const RefPtr<KernSuperblock>& sb, std::string target) {
  return NewLink(sb, [target = std::move(target)]() -> Result<std::string> { return target; });
}

RefPtr<Inode> NewLink(const RefPtr<KernSuperblock>& sb, std::function<Result<std::string>()> target) {
  return base::MakeRef<StaticLink>(sb, std::move(target));
}

}  // namespace sentry::kernfs
