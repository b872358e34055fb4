// What synthetic file systems (proc, sysfs) are made of: directories whose entries are computed, files whose text is generated when they
// are opened, links. Nothing of them is kept but inode numbers. (Linux: fs/kernfs, fs/seq_file.c)
#ifndef SENTRY_FS_KERNFS_KERNFS_H_
#define SENTRY_FS_KERNFS_KERNFS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::kernfs {

class KernSuperblock : public Superblock {
 public:
  KernSuperblock(std::string_view type, int64_t magic, bool revalidate) : type_(type), magic_(magic), revalidate_(revalidate) {}
  std::string_view type_name() const override { return type_; }
  Result<FsStat> StatFs() override;
  bool NeedsRevalidation() const override { return revalidate_; }
  bool CacheDentries() const override { return !revalidate_; }
  uint64_t NextIno() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }

 private:
  const std::string type_;
  const int64_t magic_;
  const bool revalidate_;
  std::atomic<uint64_t> next_ino_{1};
};

// Who owns an inode; asked at every stat.
struct Owner {
  uint32_t uid = 0, gid = 0;
};
using OwnerFunction = std::function<Owner()>;

class KernInode : public Inode {
 public:
  KernInode(RefPtr<KernSuperblock> sb, FileType type, uint32_t permissions, OwnerFunction owner = nullptr);
  Result<Attr> GetAttr() override;
  // Modes and owners of synthetic files are kept for the life of the inode, as on Linux.
  Result<void> SetAttr(const AttrChange& change) override;
  KernSuperblock& kern() const { return static_cast<KernSuperblock&>(superblock()); }
  RefPtr<KernSuperblock> kern_ref() const { return RefPtr<KernSuperblock>(&kern()); }

 protected:
  virtual int64_t Size() { return 0; }

 private:
  std::atomic<uint32_t> permissions_;
  const OwnerFunction owner_;
  const FileTimeNs time_;
};

// A directory. Derive, or use StaticDir.
class KernDir : public KernInode {
 public:
  KernDir(RefPtr<KernSuperblock> sb, uint32_t permissions = 0555, OwnerFunction owner = nullptr)
      : KernInode(std::move(sb), FileType::kDirectory, permissions, std::move(owner)) {}
  struct Entry {
    std::string name;
    FileType type;
    uint64_t ino = 0;     // 0: made up from the position
    int64_t position = 0; // where it stands among its siblings, ascending, stable while it exists; > 0
  };
  // Entries with a position above `after`, in order; all of them, or a bounded part.
  virtual std::vector<Entry> List(int64_t after, VfsContext& ctx) = 0;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;
};

// Children that are made once, in order.
class StaticDir : public KernDir {
 public:
  using KernDir::KernDir;
  void Add(std::string name, RefPtr<Inode> child);
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  std::vector<Entry> List(int64_t after, VfsContext& ctx) override;

 protected:
  const std::map<std::string, RefPtr<Inode>, std::less<>>& children() const { return children_; }

 private:
  std::map<std::string, RefPtr<Inode>, std::less<>> children_;  // complete before anybody sees the directory
  std::vector<std::string> order_;
};

// A file of text. `generate` runs at the first read of a description, and again when it is read from position 0; `ctx` is the opener's.
struct TextOps {
  std::function<Result<std::string>(VfsContext& ctx)> generate;                       // null: EINVAL for reads
  std::function<Result<void>(VfsContext& ctx, std::string_view text)> store = nullptr;  // null: EINVAL… permissions say EACCES
  std::function<Result<void>(VfsContext& ctx)> may_open = nullptr;                    // further checks at open
};
class TextFile : public KernInode {
 public:
  TextFile(RefPtr<KernSuperblock> sb, uint32_t permissions, TextOps ops, OwnerFunction owner = nullptr)
      : KernInode(std::move(sb), FileType::kRegular, permissions, std::move(owner)), ops_(std::move(ops)) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;
  const TextOps& ops() const { return ops_; }

 private:
  const TextOps ops_;
};

// A link whose text is computed. With `follow`, a magic link: where it leads is an object, not the text.
struct LinkOps {
  std::function<Result<std::string>()> text;
  std::function<Result<VfsPath>(VfsContext& ctx)> follow = nullptr;
};
class KernLink : public KernInode {
 public:
  KernLink(RefPtr<KernSuperblock> sb, LinkOps ops, OwnerFunction owner = nullptr, uint32_t permissions = 0777)
      : KernInode(std::move(sb), FileType::kSymlink, permissions, std::move(owner)), ops_(std::move(ops)) {}
  Result<std::string> ReadLink() override { return ops_.text(); }
  bool IsMagicLink() const override { return ops_.follow != nullptr; }
  Result<VfsPath> FollowMagicLink(VfsContext& ctx) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ELOOP); }

 private:
  const LinkOps ops_;
};

// Short hands for files whose text does not depend on who asks.
RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::function<std::string()> generate, uint32_t permissions = 0444);
RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::string text, uint32_t permissions = 0444);
// A value that root may write and everybody reads back (sysctls without an effect here).
RefPtr<Inode> NewValue(const RefPtr<KernSuperblock>& sb, std::string initial, uint32_t permissions = 0644);

}  // namespace sentry::kernfs

#endif  // SENTRY_FS_KERNFS_KERNFS_H_
