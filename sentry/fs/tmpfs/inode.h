// Inodes of tmpfs. Every one is charged from the moment it is made until it is destroyed; a directory keeps what it
// names.
#ifndef SENTRY_FS_TMPFS_INODE_H_
#define SENTRY_FS_TMPFS_INODE_H_

#include <map>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "sentry/fs/tmpfs/superblock.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::tmpfs {

// Attributes and extended attributes: the same for all types.
class TmpfsInode : public Inode {
 public:
  Result<Attr> GetAttr() override EXCLUDES(mu_);
  Result<void> SetAttr(const AttrChange& change) override EXCLUDES(mu_);
  Result<void> CheckAccess(const Credentials& creds, int may) override EXCLUDES(mu_);
  Result<std::string> GetXattr(std::string_view name) override EXCLUDES(mu_);
  Result<void> SetXattr(std::string_view name, std::string_view value, uint32_t flags) override EXCLUDES(mu_);
  Result<std::vector<std::string>> ListXattr() override EXCLUDES(mu_);
  Result<void> RemoveXattr(std::string_view name) override EXCLUDES(mu_);

  TmpfsSuperblock& sb() const { return static_cast<TmpfsSuperblock&>(superblock()); }
  // nlink += by; ctime.
  void AddLinks(int by) EXCLUDES(mu_);
  // One more, one fewer name of what is not a directory. A name is kept in memory as long as it exists: further ones
  // are charged like inodes (shmem_link). ENOSPC.
  Result<void> AddName() EXCLUDES(mu_);
  void DropName() EXCLUDES(mu_);
  void TouchCtime() EXCLUDES(mu_);

 protected:
  // The inode has been charged; the charge is given back by the destructor.
  TmpfsInode(RefPtr<TmpfsSuperblock> sb, FileType type, const NewNode& node);
  ~TmpfsInode() override;

  mutable base::Mutex mu_;
  Attr attr_ GUARDED_BY(mu_);

 private:
  // Sum of names and values of one inode; a limit of its own, beyond which ENOSPC.
  static constexpr size_t kMaxXattrBytes = 128 << 10;
  using Xattrs = std::map<std::string, std::string, std::less<>>;
  std::unique_ptr<Xattrs> xattrs_ GUARDED_BY(mu_);
  size_t xattr_bytes_ GUARDED_BY(mu_) = 0;
};

class TmpfsSymlink final : public TmpfsInode {
 public:
  // Longer targets are charged a page (SHORT_SYMLINK_LEN).
  static constexpr size_t kFreeTargetBytes = 128;
  TmpfsSymlink(RefPtr<TmpfsSuperblock> sb, const NewNode& node, std::string target);
  ~TmpfsSymlink() override;
  Result<std::string> ReadLink() override { return target_; }
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ELOOP); }

 private:
  const std::string target_;
};

// FIFO, socket, device: opened by the vfs.
class TmpfsSpecial final : public TmpfsInode {
 public:
  TmpfsSpecial(RefPtr<TmpfsSuperblock> sb, FileType type, const NewNode& node);
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ENXIO); }
};

class TmpfsDirectory final : public TmpfsInode {
 public:
  TmpfsDirectory(RefPtr<TmpfsSuperblock> sb, const NewNode& node);
  ~TmpfsDirectory() override;

  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<RefPtr<Inode>> Create(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mkdir(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mknod(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Symlink(std::string_view name, std::string_view target, const NewNode& node) override;
  Result<void> Link(std::string_view name, Inode& target) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<void> Rmdir(std::string_view name, Inode& child) override;
  Result<void> Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                      Inode* replaced, uint32_t flags) override;
  Result<RefPtr<Inode>> Tmpfile(const NewNode& node) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  // Entries with cookies from `cookie` on, at most `max` of them; cookies grow in the order of creation and never come
  // back, so that reading goes on correctly whatever is removed meanwhile.
  struct Entry {
    std::string name;
    RefPtr<TmpfsInode> inode;
  };
  static constexpr uint64_t kFirstCookie = 2;  // 0 is ".", 1 is ".."
  std::vector<std::pair<uint64_t, Entry>> EntriesFrom(uint64_t cookie, size_t max) EXCLUDES(mu_);
  bool Empty() EXCLUDES(mu_);

 private:
  void Insert(std::string_view name, RefPtr<TmpfsInode> inode) EXCLUDES(mu_);
  RefPtr<TmpfsInode> Erase(std::string_view name) EXCLUDES(mu_);
  void TouchMtime() EXCLUDES(mu_);
  RefPtr<TmpfsSuperblock> sb_ref() const { return RefPtr<TmpfsSuperblock>(&sb()); }

  std::map<uint64_t, Entry, std::less<uint64_t>, base::ChargedAllocator<std::pair<const uint64_t, Entry>>> entries_
      GUARDED_BY(mu_);
  absl::flat_hash_map<absl::string_view, uint64_t> by_name_ GUARDED_BY(mu_);  // names of entries_
  uint64_t next_cookie_ GUARDED_BY(mu_) = kFirstCookie;
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_INODE_H_
