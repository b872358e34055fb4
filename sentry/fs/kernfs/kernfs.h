// What synthetic file systems (proc, sysfs) are made of: directories whose entries are computed, files whose text is
// generated when they are read, links. (Linux: fs/kernfs, fs/seq_file.c)
//
// Nothing of a computed inode is kept once nobody uses it. An inode number is therefore either given by whoever derives
// (the same object has the same number every time it is looked up, and in getdents) or, for what lives as long as its
// superblock, taken from NextIno.
#ifndef SENTRY_FS_KERNFS_KERNFS_H_
#define SENTRY_FS_KERNFS_KERNFS_H_

#include <atomic>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::kernfs {

class KernSuperblock : public Superblock {
 public:
  KernSuperblock(std::string_view type, int64_t magic, bool revalidate)
      : type_(type), magic_(magic), revalidate_(revalidate) {}
  std::string_view type_name() const override { return type_; }
  Result<FsStat> StatFs() override;
  bool NeedsRevalidation() const override { return revalidate_; }
  bool CacheDentries() const override { return !revalidate_; }
  // 1 … 2^32 − 1: never meets the numbers that computed inodes give themselves.
  uint64_t NextIno() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }
  static constexpr uint64_t kFirstComputedIno = uint64_t{1} << 32;
  // What making a file, or anything else, in one of its directories fails with.
  virtual int CreateError(bool file) const { return file ? EACCES : EPERM; }
  // st_size of files of text.
  virtual int64_t TextSize() const { return 0; }

 private:
  const std::string type_;
  const int64_t magic_;
  const bool revalidate_;
  std::atomic<uint64_t> next_ino_{1};
};

struct Owner {
  uint32_t uid = 0, gid = 0;
};

class KernInode : public Inode {
 public:
  // `ino` 0: the superblock's next.
  KernInode(RefPtr<KernSuperblock> sb, FileType type, uint32_t permissions, uint64_t ino = 0);
  Result<Attr> GetAttr() override;
  // Modes of synthetic files are kept for the life of the inode, as on Linux; sizes and times are taken and forgotten.
  Result<void> SetAttr(const AttrChange& change) override;
  KernSuperblock& kern() const { return static_cast<KernSuperblock&>(superblock()); }
  RefPtr<KernSuperblock> kern_ref() const { return RefPtr<KernSuperblock>(&kern()); }
  uint32_t permissions() const { return permissions_.load(std::memory_order_relaxed); }

 protected:
  // Asked at every stat and permission check.
  virtual Owner GetOwner() { return {}; }
  virtual int64_t Size() { return 0; }
  virtual uint32_t LinkCount() { return is_dir() ? 2 : 1; }

 private:
  std::atomic<uint32_t> permissions_;
  const FileTimeNs time_;
};

// A directory. Derive, or use StaticDir.
class KernDir : public KernInode {
 public:
  explicit KernDir(RefPtr<KernSuperblock> sb, uint32_t permissions = 0555, uint64_t ino = 0)
      : KernInode(std::move(sb), FileType::kDirectory, permissions, ino) {}
  struct Entry {
    std::string name;
    FileType type;
    uint64_t ino;
    int64_t position;  // where it stands among its siblings, ascending, stable while it exists; > 0, at most 2^62
  };
  // Entries with a position above `after`, in order: all of them, or a bounded part. Empty: the end.
  virtual Result<std::vector<Entry>> List(int64_t after) = 0;
  Result<RefPtr<Inode>> Create(std::string_view, const NewNode&) override { return Errno(kern().CreateError(true)); }
  Result<RefPtr<Inode>> Mkdir(std::string_view, const NewNode&) override { return Errno(kern().CreateError(false)); }
  Result<RefPtr<Inode>> Mknod(std::string_view, const NewNode&) override { return Errno(kern().CreateError(false)); }
  Result<RefPtr<Inode>> Symlink(std::string_view, std::string_view, const NewNode&) override {
    return Errno(kern().CreateError(false));
  }
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;
};

// Children that are made once, in order, before anybody sees the directory.
class StaticDir : public KernDir {
 public:
  using KernDir::KernDir;
  void Add(std::string name, RefPtr<Inode> child);
  // The directory `name` in this one, made with this one's permissions if it is missing. For building; CHECKs that it
  // is a directory.
  RefPtr<StaticDir> Subdir(std::string_view name);
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<Entry>> List(int64_t after) override;
  bool Has(std::string_view name) const { return children_.find(name) != children_.end(); }

 protected:
  uint32_t LinkCount() override { return 2 + directories_; }

 private:
  std::map<std::string, RefPtr<Inode>, std::less<>> children_;
  std::vector<std::string> order_;
  uint32_t directories_ = 0;
};

// A StaticDir that is filled when somebody looks into it for the first time.
class LazyDir final : public StaticDir {
 public:
  using Fill = std::function<void(StaticDir& dir)>;
  LazyDir(RefPtr<KernSuperblock> sb, Fill fill, uint32_t permissions = 0555)
      : StaticDir(std::move(sb), permissions), fill_(std::move(fill)) {}
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<Entry>> List(int64_t after) override;

 protected:
  uint32_t LinkCount() override;

 private:
  void EnsureFilled() EXCLUDES(lock_);
  const Fill fill_;
  base::FiberMutex lock_;
  std::atomic<bool> filled_{false};  // set under lock_, when the children are complete
};

// A file of text. The text is generated at the first read of a description and again when it is read from its start;
// what a description keeps of it is charged to a bound that all of them share, and given back at the end of the file.
//
// The context of these calls has the opener's credentials and nothing else: the opener may be gone. Task::Current() is
// the caller.
class TextFile : public KernInode {
 public:
  TextFile(RefPtr<KernSuperblock> sb, uint32_t permissions, uint64_t ino = 0)
      : KernInode(std::move(sb), FileType::kRegular, permissions, ino) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  static constexpr uint64_t kDone = UINT64_MAX;
  // The part that begins at `cursor` (0: the start); moves it to where the next begins, or to kDone. A long text is
  // made in parts of some ten kilobytes, none of them empty, so that nobody makes us keep all of it.
  virtual Result<std::string> Generate(VfsContext& ctx, uint64_t& cursor) = 0;
  // `text`: at most a page, what one write(2) wrote.
  virtual Result<void> Store(VfsContext& ctx, std::string_view text) { return Errno(EINVAL); }
  // Checks beyond the permission bits, with the opener's whole context.
  virtual Result<void> CheckOpen(VfsContext& ctx) { return {}; }
  int64_t Size() override { return kern().TextSize(); }
  // For files that can be polled: what an open description watches (null: always ready), kept alive by `*hold`.
  virtual base::WaitQueue* Events(RefPtr<base::RefCounted>* hold) { return nullptr; }
};

// A TextFile of functions.
struct TextOps {
  std::function<Result<std::string>(VfsContext& ctx)> generate;                         // null: EINVAL for reads
  std::function<Result<void>(VfsContext& ctx, std::string_view text)> store = nullptr;  // null: EINVAL for writes
};
class TextOpsFile final : public TextFile {
 public:
  TextOpsFile(RefPtr<KernSuperblock> sb, uint32_t permissions, TextOps ops)
      : TextFile(std::move(sb), permissions), ops_(std::move(ops)) {}
  Result<std::string> Generate(VfsContext& ctx, uint64_t& cursor) override;
  Result<void> Store(VfsContext& ctx, std::string_view text) override;

 private:
  const TextOps ops_;
};

// A symbolic link; FollowMagicLink and IsMagicLink may be overridden too.
class KernLink : public KernInode {
 public:
  explicit KernLink(RefPtr<KernSuperblock> sb, uint32_t permissions = 0777, uint64_t ino = 0)
      : KernInode(std::move(sb), FileType::kSymlink, permissions, ino) {}
  Result<std::string> ReadLink() override = 0;
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ELOOP); }
};

// Short hands for files whose text does not depend on who asks.
RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::function<std::string()> generate,
                      uint32_t permissions = 0444);
RefPtr<Inode> NewText(const RefPtr<KernSuperblock>& sb, std::string text, uint32_t permissions = 0444);
// A value that root may write and everybody reads back (settings without an effect here). At most a page.
RefPtr<Inode> NewValue(const RefPtr<KernSuperblock>& sb, std::string initial, uint32_t permissions = 0644);
// Accepts writes and has nothing to read (uevent, drop_caches of sysfs).
RefPtr<Inode> NewSink(const RefPtr<KernSuperblock>& sb, uint32_t permissions = 0200);
RefPtr<Inode> NewLink(const RefPtr<KernSuperblock>& sb, std::string target);
RefPtr<Inode> NewLink(const RefPtr<KernSuperblock>& sb, std::function<Result<std::string>()> target);

// Bytes of text that open descriptions keep at the moment, and the bound. For tests.
size_t RetainedText();
inline constexpr size_t kMaxRetainedText = 64 << 20;

}  // namespace sentry::kernfs

#endif  // SENTRY_FS_KERNFS_KERNFS_H_
