// Regular files of the gofer file system: donated descriptors, and the cache of those that nobody uses at the moment.
#ifndef SENTRY_FS_GOFER_FILE_H_
#define SENTRY_FS_GOFER_FILE_H_

#include "sentry/fs/gofer/inode.h"
#include "sentry/mm/mappable.h"

namespace sentry::goferfs {

// A donated descriptor. Never changes; its file position is not used.
class HostFile final : public base::RefCounted {
 public:
  HostFile(base::UniqueFd fd, bool readable, bool writable)
      : fd_(std::move(fd)), readable_(readable), writable_(writable) {}
  int fd() const { return fd_.get(); }
  bool Serves(bool read, bool write) const { return (readable_ || !read) && (writable_ || !write); }
  bool writable() const { return writable_; }

 private:
  const base::UniqueFd fd_;
  const bool readable_, writable_;
};

class GoferFile;

// What is mapped: one per file as long as anything maps it. Keeps the descriptors open that mm was told about.
class GoferMapping final : public Mappable {
 public:
  GoferMapping(RefPtr<GoferFile> file, RefPtr<HostFile> host, std::string name);
  ~GoferMapping() override;
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override EXCLUDES(mu_);
  Identity MappedIdentity() const override;
  Result<void> Msync(uint64_t offset, uint64_t length) override;
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;
  // One to write through, when the first was for reading only.
  void AddWritable(RefPtr<HostFile> host) EXCLUDES(mu_);

 private:
  RefPtr<HostFile> Choose(bool write) const EXCLUDES(mu_);
  const RefPtr<GoferFile> file_;
  const RefPtr<HostFile> first_;
  const std::string name_;
  mutable base::Mutex mu_;
  RefPtr<HostFile> writable_ GUARDED_BY(mu_);
};

class GoferFile final : public GoferInode {
 public:
  using GoferInode::GoferInode;
  ~GoferFile() override;

  Result<void> SetAttr(const AttrChange& change) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  // A descriptor for reading and/or writing, from the cache or from the gofer.
  Result<RefPtr<HostFile>> Get(bool read, bool write) EXCLUDES(fd_mu_);
  // One for reading, and for writing if `writable`, that came with the file's creation or a walk.
  void Adopt(base::UniqueFd fd, bool writable) EXCLUDES(fd_mu_);
  Result<RefPtr<GoferMapping>> Mapping(RefPtr<HostFile> host, const std::string& name) EXCLUDES(fd_mu_);
  // The mapping, if anything maps it.
  RefPtr<GoferMapping> MappingIfAny() const EXCLUDES(fd_mu_);

 protected:
  std::optional<Result<Attr>> AttrFromHost() override;
  bool ChangesUnseen() const override;

 private:
  friend class GoferMapping;
  friend class HostFileCache;
  RefPtr<HostFile> AnyHostFile() const EXCLUDES(fd_mu_);
  // Gives up the cached descriptors. Those in use stay open until their users are done.
  size_t DropDescriptors() EXCLUDES(fd_mu_);
  Result<void> SetSize(int64_t size);

  mutable base::Mutex fd_mu_;
  RefPtr<HostFile> reader_ GUARDED_BY(fd_mu_);
  RefPtr<HostFile> writer_ GUARDED_BY(fd_mu_);          // reads as well, unless the host allows writing only
  GoferMapping* mapping_ GUARDED_BY(fd_mu_) = nullptr;  // weak: it removes itself
  // HostFileCache's, guarded by its lock.
  GoferFile* lru_next_ = nullptr;
  GoferFile* lru_prev_ = nullptr;
  bool in_lru_ = false;
};

// Files with cached descriptors, least recently opened last.
class HostFileCache {
 public:
  static HostFileCache& Get();
  // `file` was opened. May drop descriptors of others.
  void Touch(GoferFile& file) EXCLUDES(mu_);
  void Remove(GoferFile& file) EXCLUDES(mu_);
  void ShrinkTo(size_t files) EXCLUDES(mu_);
  void set_limit(size_t limit) EXCLUDES(mu_);
  size_t size() const EXCLUDES(mu_);

 private:
  HostFileCache();
  void PushFrontLocked(GoferFile& file) REQUIRES(mu_);
  void UnlinkLocked(GoferFile& file) REQUIRES(mu_);
  mutable base::Mutex mu_;
  GoferFile* head_ GUARDED_BY(mu_) = nullptr;
  GoferFile* tail_ GUARDED_BY(mu_) = nullptr;
  size_t size_ GUARDED_BY(mu_) = 0;
  size_t limit_ GUARDED_BY(mu_);
};

}  // namespace sentry::goferfs

#endif  // SENTRY_FS_GOFER_FILE_H_
