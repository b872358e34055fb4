#include "sentry/fs/gofer/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/executor.h"
#include "base/syscall_unsafe.h"
#include "base/worker_pool.h"
#include "sentry/vfs/regular_file.h"

namespace sentry::goferfs {
namespace {

Result<struct stat> HostStat(int fd) {
  struct stat st = {};
  TRY(base::HostRetry(SYS_fstat, fd, &st));
  return st;
}

// On a worker: the host's disk may be slow.
Result<void> HostSync(int fd, bool data_only) {
  Result<long> result = 0L;
  auto sync = [&] { result = base::HostRetry(data_only ? SYS_fdatasync : SYS_fsync, fd); };
  if (base::Fiber::Current() != nullptr) {
    base::Executor::Current()->scheduler().workers().Run(sync);
  } else {
    sync();
  }
  TRY(result);
  return {};
}

class GoferFileDescription final : public RegularFileDescription {
 public:
  GoferFileDescription(VfsPath path, uint32_t flags, const VfsContext& ctx, RefPtr<HostFile> host)
      : RegularFileDescription(std::move(path), flags, ctx), host_(std::move(host)) {}

  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    base::FiberMutexLock l(position_lock_);
    // The host's position is nobody's, so that others may move it meanwhile.
    int64_t at = TRY(base::HostRetry(SYS_lseek, host_->fd(), offset, whence));
    position_.store(at, std::memory_order_relaxed);
    return at;
  }
  Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) override {
    if (!readable()) return Errno(EACCES);
    RefPtr<HostFile> host = host_;
    if (!host->Serves(true, false)) host = TRY(file().Get(true, writable()));
    return RefPtr<Mappable>(TRY(file().Mapping(std::move(host), MappedName())));
  }
  Result<void> Fsync(bool data_only) override { return HostSync(host_->fd(), data_only); }
  Result<void> Allocate(int mode, int64_t offset, int64_t length) override {
    if (!writable()) return Errno(EBADF);
    TRY(base::HostRetry(SYS_fallocate, host_->fd(), mode, offset, length));
    file().MarkStale();
    if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
      if (auto mapping = file().MappingIfAny())
        mapping->InvalidateMappings(PageRoundDown(static_cast<uint64_t>(offset)), UINT64_MAX - kPageMask);
    }
    return {};
  }
  int HostFd() const override { return host_->fd(); }

 protected:
  Result<size_t> ReadAt(IoBuffer& to, int64_t offset, size_t max) override {
    size_t n = TRY(to.ReadFromHost(host_->fd(), offset, max));
    if (TouchesAtime()) file().MarkStale();  // the host may have changed it
    return n;
  }
  Result<size_t> WriteAt(IoBuffer& from, int64_t offset, size_t max) override {
    Result<size_t> n = from.WriteToHost(host_->fd(), offset, max);
    file().MarkStale();
    return n;
  }
  Result<int64_t> CurrentSize() override { return int64_t{TRY(HostStat(host_->fd())).st_size}; }

 private:
  GoferFile& file() const { return static_cast<GoferFile&>(*path().dentry->inode_ptr()); }
  const RefPtr<HostFile> host_;
};

}  // namespace

GoferMapping::GoferMapping(RefPtr<GoferFile> file, RefPtr<HostFile> host, std::string name)
    : file_(std::move(file)), first_(std::move(host)), name_(std::move(name)) {}

GoferMapping::~GoferMapping() {
  // What was written through the mapping shows in the attributes from now on.
  file_->MarkStale();
  base::MutexLock l(file_->fd_mu_);
  if (file_->mapping_ == this) file_->mapping_ = nullptr;
}

RefPtr<HostFile> GoferMapping::Choose(bool write) const {
  if (first_->Serves(true, write)) return first_;
  base::MutexLock l(mu_);
  return writable_;
}

void GoferMapping::AddWritable(RefPtr<HostFile> host) {
  base::MutexLock l(mu_);
  if (!writable_ && !first_->writable()) writable_ = std::move(host);
}

Result<HostPages> GoferMapping::Translate(uint64_t offset, uint64_t length, bool for_write) {
  RefPtr<HostFile> host = Choose(for_write);
  if (!host) return Errno(EACCES);
  // Asked each time: the host may have made it shorter. If it does so later, an access is a SIGBUS there, and the
  // guest's here.
  uint64_t end = PageRoundUp(static_cast<uint64_t>(TRY(HostStat(host->fd())).st_size));
  if (offset >= end) return Errno(EINVAL);
  return HostPages{
      .fd = host->fd(), .offset = offset, .length = std::min(PageRoundUp(length), end - offset), .memory_file = false};
}

Mappable::Identity GoferMapping::MappedIdentity() const { return {name_, file_->superblock().dev(), file_->ino()}; }

Result<void> GoferMapping::Msync(uint64_t offset, uint64_t length) {
  return HostSync(first_->fd(), /*data_only=*/true);
}

Result<void> GoferMapping::PunchHole(uint64_t offset, uint64_t length) {
  RefPtr<HostFile> host = Choose(true);
  if (!host) return Errno(EACCES);
  TRY(base::HostRetry(SYS_fallocate, host->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length));
  file_->MarkStale();
  return {};
}

GoferFile::~GoferFile() { HostFileCache::Get().Remove(*this); }

RefPtr<HostFile> GoferFile::AnyHostFile() const {
  base::MutexLock l(fd_mu_);
  return writer_ ? writer_ : reader_;
}

RefPtr<GoferMapping> GoferFile::MappingIfAny() const {
  base::MutexLock l(fd_mu_);
  if (mapping_ == nullptr || !mapping_->TryRef()) return nullptr;
  return RefPtr<GoferMapping>::Adopt(mapping_);
}

bool GoferFile::ChangesUnseen() const {
  RefPtr<GoferMapping> mapping = MappingIfAny();
  return mapping && mapping->HasSharedWritableMappings();
}

std::optional<Result<Attr>> GoferFile::AttrFromHost() {
  RefPtr<HostFile> host = AnyHostFile();
  if (!host) return std::nullopt;
  Result<struct stat> st = HostStat(host->fd());
  if (!st.ok()) return std::nullopt;
  // Owner and group are the gofer's to say: our user namespace has another view of them.
  Attr attr = cached_attr();
  auto ns = [](const timespec& t) { return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec; };
  attr.mode = static_cast<uint32_t>(type()) | (st->st_mode & 07777);
  attr.nlink = static_cast<uint32_t>(st->st_nlink);
  attr.size = st->st_size;
  attr.blocks = st->st_blocks;
  attr.atime = ns(st->st_atim);
  attr.mtime = ns(st->st_mtim);
  attr.ctime = ns(st->st_ctim);
  return Result<Attr>(attr);
}

Result<RefPtr<HostFile>> GoferFile::Get(bool read, bool write) {
  {
    base::MutexLock l(fd_mu_);
    for (const RefPtr<HostFile>* host : {&writer_, &reader_}) {
      if (!*host || !(*host)->Serves(read, write)) continue;
      RefPtr<HostFile> found = *host;
      return found;
    }
  }
  auto open = [&](uint32_t flags) { return sb().WithRoom([&] { return node().Open(flags); }); };
  bool readable = true;
  Result<base::UniqueFd> fd = open(write ? O_RDWR : O_RDONLY);
  if (write && !read && (fd.failed_with(EACCES) || fd.failed_with(EPERM))) {
    // A host that lets us write only.
    fd = open(O_WRONLY);
    readable = false;
  }
  auto host = base::MakeRef<HostFile>(TRY(std::move(fd)), readable, write);
  {
    base::MutexLock l(fd_mu_);
    RefPtr<HostFile>& place = write ? writer_ : reader_;
    // Two opens at once: the first one's is as good, unless it can do less.
    if (place && place->Serves(read, write)) return RefPtr<HostFile>(place);
    RefPtr<HostFile> old = place;
    place = host;
  }
  HostFileCache::Get().Touch(*this);
  return host;
}

void GoferFile::Adopt(base::UniqueFd fd, bool writable) {
  auto host = base::MakeRef<HostFile>(std::move(fd), true, writable);
  {
    base::MutexLock l(fd_mu_);
    RefPtr<HostFile>& place = writable ? writer_ : reader_;
    if (!place) place.swap(host);
  }
  HostFileCache::Get().Touch(*this);
}

size_t GoferFile::DropDescriptors() {
  RefPtr<HostFile> reader, writer;
  {
    base::MutexLock l(fd_mu_);
    reader.swap(reader_);
    writer.swap(writer_);
  }
  return (reader ? 1 : 0) + (writer ? 1 : 0);
}

Result<RefPtr<GoferMapping>> GoferFile::Mapping(RefPtr<HostFile> host, const std::string& name) {
  auto fresh = base::MakeRef<GoferMapping>(RefPtr<GoferFile>(this), host, name);
  RefPtr<GoferMapping> known;
  {
    base::MutexLock l(fd_mu_);
    if (mapping_ != nullptr && mapping_->TryRef()) {
      known = RefPtr<GoferMapping>::Adopt(mapping_);
    } else {
      mapping_ = fresh.get();
    }
  }
  if (!known) return fresh;
  if (host->writable()) known->AddWritable(std::move(host));
  return known;
}

Result<void> GoferFile::SetSize(int64_t size) {
  // Whoever truncates has the file open or opens it next: a descriptor is worth having.
  Result<RefPtr<HostFile>> host = Get(/*read=*/false, /*write=*/true);
  if (host.ok()) {
    TRY(base::HostRetry(SYS_ftruncate, (*host)->fd(), size));
    MarkStale();
  } else {
    TRY(GoferInode::SetAttr({.size = size}));
  }
  if (auto mapping = MappingIfAny()) {
    mapping->InvalidateMappings(PageRoundUp(static_cast<uint64_t>(size)), UINT64_MAX - kPageMask);
  }
  return {};
}

Result<void> GoferFile::SetAttr(const AttrChange& change) {
  if (change.size) TRY(SetSize(*change.size));
  AttrChange rest = change;
  rest.size.reset();
  return GoferInode::SetAttr(rest);
}

Result<RefPtr<FileDescription>> GoferFile::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  uint32_t mode = flags & O_ACCMODE;
  bool read = mode == O_RDONLY || mode == O_RDWR, write = mode == O_WRONLY || mode == O_RDWR;
  RefPtr<HostFile> host = TRY(Get(read, write));
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<GoferFileDescription>(path, flags, ctx, std::move(host))));
}

}  // namespace sentry::goferfs
