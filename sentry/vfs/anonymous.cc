// Inodes without a file system: pipes, sockets, eventfds (fs/anon_inodes.c, fs/pipe.c: pipefs).
#include "absl/strings/str_cat.h"
#include "sentry/vfs/apply_attr.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

class AnonymousSuperblock final : public Superblock {
 public:
  std::string_view type_name() const override { return "anon_inodefs"; }
  Result<FsStat> StatFs() override {
    FsStat st;
    st.type = 0x09041934;  // ANON_INODE_FS_MAGIC
    return st;
  }
  bool CacheDentries() const override { return false; }
};

const RefPtr<AnonymousSuperblock>& TheSuperblock() {
  static auto* sb = new RefPtr<AnonymousSuperblock>(base::MakeRef<AnonymousSuperblock>());
  return *sb;
}

class AnonymousInode final : public Inode {
 public:
  AnonymousInode(uint64_t ino, uint32_t mode, const Credentials* creds)
      : Inode(TheSuperblock(), ino, static_cast<FileType>(mode & S_IFMT)) {
    attr_.ino = ino;
    attr_.dev = superblock().dev();
    attr_.mode = mode;
    if (creds != nullptr) {
      attr_.uid = creds->fsuid;
      attr_.gid = creds->fsgid;
    }
    attr_.atime = attr_.mtime = attr_.ctime = attr_.btime = vfs::FileNow();
  }
  Result<Attr> GetAttr() override {
    base::MutexLock l(mu_);
    return attr_;
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.size) return Errno(EINVAL);
    base::MutexLock l(mu_);
    ApplyAttrChange(attr_, change, vfs::FileNow());
    return {};
  }
  // Opened by those who made it; /proc/self/fd of a pipe goes through the FIFO registry.
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ENXIO); }

 private:
  base::Mutex mu_;
  Attr attr_ GUARDED_BY(mu_);
};

}  // namespace

RefPtr<Inode> NewAnonymousInode(uint32_t mode, const Credentials* creds) {
  static std::atomic<uint64_t> next_ino{1};
  return base::MakeRef<AnonymousInode>(next_ino.fetch_add(1, std::memory_order_relaxed), mode, creds);
}

VfsPath NewAnonymousPath(std::string_view name, uint32_t mode, const Credentials* creds) {
  RefPtr<Inode> inode = NewAnonymousInode(mode, creds);
  std::string text(name);
  if (!text.empty() && text.back() == ':') absl::StrAppend(&text, "[", inode->ino(), "]");
  return {nullptr, Dentry::MakeAnonymous(std::move(inode), std::move(text))};
}

}  // namespace sentry
