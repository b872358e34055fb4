// Inodes of the gofer file system: a node of the gofer each, with cached attributes.
#ifndef SENTRY_FS_GOFER_INODE_H_
#define SENTRY_FS_GOFER_INODE_H_

#include <atomic>
#include <optional>
#include <set>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "gofer/client/client.h"
#include "sentry/fs/gofer/listing_cache.h"
#include "sentry/fs/gofer/superblock.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/inode.h"

namespace sentry::goferfs {

// All types; symlinks, FIFOs, sockets and devices are this and nothing more.
class GoferInode : public Inode {
 public:
  GoferInode(RefPtr<GoferSuperblock> sb, uint64_t ino, std::pair<uint64_t, uint64_t> key, FileType type,
             RefPtr<gofer::Node> node, const gofer::Attributes& attributes, std::string symlink_target);
  ~GoferInode() override;

  Result<Attr> GetAttr() override EXCLUDES(mu_);
  Result<Attr> GetOwnership() override EXCLUDES(mu_);
  Result<void> SetAttr(const AttrChange& change) override EXCLUDES(mu_);
  Result<std::string> ReadLink() override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    return Errno(ENXIO);
  }
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, uint32_t flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

  Result<base::UniqueFd> ConnectHost(int type) override;
  bool IsHostFifo() override { return type() == FileType::kFifo && sb().host_fifo(); }
  Result<base::UniqueFd> OpenHostFifo(uint32_t flags) override;

  GoferSuperblock& sb() const { return static_cast<GoferSuperblock&>(superblock()); }
  gofer::Node& node() const { return *node_; }
  // What the gofer said just now.
  void Update(const gofer::Attributes& attributes) EXCLUDES(mu_);
  // The host changed attributes because of something we did: the next GetAttr asks.
  void MarkStale() { stale_.store(true, std::memory_order_release); }
  // A name of it is gone.
  void DropLink() EXCLUDES(mu_);

 protected:
  // Attributes as a host descriptor that is open anyway shows them; nothing if there is none.
  virtual std::optional<Result<Attr>> AttrFromHost() { return std::nullopt; }
  // Whether mappings may be changing the file behind our back.
  virtual bool ChangesUnseen() const { return false; }
  Attr Convert(const gofer::Attributes& attributes) const;
  void Store(const Attr& attr) EXCLUDES(mu_);
  Attr cached_attr() const EXCLUDES(mu_);

 private:
  friend class GoferSuperblock;
  // How long attributes are believed when the tree is shared.
  static constexpr int64_t kFreshNs = 1'000'000;
  static constexpr int64_t kFreshForAccessNs = 1'000'000'000;
  // The names of the extended attributes, so that asking for one that is not there (as ls and exec do) costs no
  // message; exclusive only.
  Result<bool> MayHaveXattr(std::string_view name) EXCLUDES(mu_);
  void ForgetXattrNames() EXCLUDES(mu_);

  const std::pair<uint64_t, uint64_t> key_;
  const RefPtr<gofer::Node> node_;
  const std::string symlink_target_;
  std::atomic<bool> stale_{false};
  mutable base::Mutex mu_;
  Attr attr_ GUARDED_BY(mu_);
  base::MonotonicNs fetched_ GUARDED_BY(mu_) = 0;  // shared only
  std::unique_ptr<std::set<std::string, std::less<>>> xattr_names_ GUARDED_BY(mu_);
};

class GoferDirectory final : public GoferInode {
 public:
  using GoferInode::GoferInode;
  ~GoferDirectory() override;
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<RefPtr<Inode>>> LookupMany(std::span<const std::string_view> names) override;
  Result<std::vector<RefPtr<Inode>>> LookupManyForOpen(std::span<const std::string_view> names, bool write) override;
  Result<RefPtr<Inode>> Create(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mkdir(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Mknod(std::string_view name, const NewNode& node) override;
  Result<RefPtr<Inode>> Symlink(std::string_view name, std::string_view target, const NewNode& node) override;
  Result<RefPtr<Inode>> BindSocket(std::string_view name, const NewNode& node, int type, base::UniqueFd& host) override;
  Result<void> Link(std::string_view name, Inode& target) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<void> Rmdir(std::string_view name, Inode& child) override;
  Result<void> Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                      Inode* replaced, uint32_t flags) override;
  Result<RefPtr<Inode>> Tmpfile(const NewNode& node) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  // The first entries, known already or from the gofer.
  Result<RefPtr<const Listing>> List();

 private:
  // Alive while a name of the directory appears or disappears.
  class NamesChange {
   public:
    explicit NamesChange(GoferDirectory& dir) : dir_(dir) { Note(); }
    ~NamesChange() { Note(); }
    NamesChange(const NamesChange&) = delete;
    NamesChange& operator=(const NamesChange&) = delete;

   private:
    void Note();
    GoferDirectory& dir_;
  };
  // That came with a walk; `changes` as for ListingCache::Put.
  void AdoptListing(gofer::DirectoryChunk chunk, uint64_t changes);
  std::atomic<bool> was_listed_{false};
  std::atomic<bool> has_listing_{false};  // maybe: in the superblock's cache

  // Walks `names` from `from` and appends what was found; a null for a name that does not exist. The error of the first
  // name if nothing was appended.
  static Result<void> WalkFrom(GoferInode& from, std::span<const std::string_view> names,
                               const gofer::WalkOptions& options, std::vector<RefPtr<Inode>>& found);
  Result<std::vector<RefPtr<Inode>>> LookupWith(std::span<const std::string_view> names,
                                                const gofer::WalkOptions& options);
  Result<RefPtr<Inode>> Adopt(std::string_view name, Result<gofer::NewNode> made, std::string symlink_target = "");

  // All names of a directory that we made ourselves, on an exclusive tree: what is not among them need not be asked
  // for. Given up when there are many, and with the inode.
  using Names = absl::flat_hash_set<std::string>;
  static constexpr size_t kMaxKnownNames = 10'000;        // in a directory
  static constexpr size_t kMaxKnownNamesOfAll = 200'000;  // in all of them
  void StartKnowingNames() EXCLUDES(names_mu_);
  bool KnownMissing(std::string_view name) EXCLUDES(names_mu_);
  void NameAdded(std::string_view name) EXCLUDES(names_mu_);
  void NameRemoved(std::string_view name) EXCLUDES(names_mu_);
  static std::atomic<size_t> known_names_of_all_;
  base::Mutex names_mu_;
  std::unique_ptr<Names> names_ GUARDED_BY(names_mu_);
};

}  // namespace sentry::goferfs

#endif  // SENTRY_FS_GOFER_INODE_H_
