#include "sentry/fs/overlay/file.h"

#include <fcntl.h>
#include <unistd.h>

namespace sentry::overlay {
namespace {

class OverlayFileDescription final : public RegularFileDescription {
 public:
  OverlayFileDescription(VfsPath path, uint32_t flags, VfsContext& ctx, RefPtr<FileDescription> real, bool upper)
      : RegularFileDescription(std::move(path), flags, ctx), real_(std::move(real)), on_upper_(upper) {}

  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    base::FiberMutexLock l(position_lock_);
    int64_t at = TRY(TRY(Real())->Seek(offset, whence));
    position_.store(at, std::memory_order_relaxed);
    return at;
  }
  Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) override {
    return TRY(Real())->GetMappable(prot, shared);
  }
  Result<void> Fsync(bool data_only) override { return TRY(Real())->Fsync(data_only); }
  Result<void> Allocate(int mode, int64_t offset, int64_t length) override {
    if (!writable()) return Errno(EBADF);
    return TRY(Real())->Allocate(mode, offset, length);
  }
  int HostFd() const override {
    base::MutexLock l(mu_);
    return real_->HostFd();
  }

 protected:
  Result<size_t> ReadAt(IoBuffer& to, int64_t offset, size_t max) override {
    return TRY(Real())->PRead(to, offset, {});
  }
  Result<size_t> WriteAt(IoBuffer& from, int64_t offset, size_t max) override {
    IoFlags flags;
    flags.file_size_limit = static_cast<uint64_t>(offset) + max;
    return TRY(Real())->PWrite(from, offset, flags);
  }
  Result<int64_t> CurrentSize() override { return TRY(inode()->GetAttr()).size; }

 private:
  OverlayFile& file() const { return static_cast<OverlayFile&>(*path().dentry->inode_ptr()); }

  // The layer's description; the upper one once there is one, also for who opened the file before it was copied up.
  Result<RefPtr<FileDescription>> Real() EXCLUDES(mu_) {
    if (!on_upper_.load(std::memory_order_acquire) && file().upper() != nullptr) {
      VfsContext ctx;
      RefPtr<FileDescription> upper = TRY(file().OpenReal(true, flags(), path(), ctx));
      {
        base::MutexLock l(mu_);
        real_.swap(upper);
      }
      on_upper_.store(true, std::memory_order_release);
    }
    base::MutexLock l(mu_);
    return real_;
  }

  mutable base::Mutex mu_;
  RefPtr<FileDescription> real_ GUARDED_BY(mu_);
  std::atomic<bool> on_upper_;  // written after real_
};

constexpr uint32_t kRealFlags = O_ACCMODE | O_NOATIME | O_DIRECT;

}  // namespace

Result<RefPtr<FileDescription>> OverlayFile::OpenReal(bool upper, uint32_t flags, const VfsPath& path,
                                                      VfsContext& ctx) {
  Inode& inode = upper ? *this->upper() : *lower();
  RefPtr<Dentry> dentry;
  {
    base::MutexLock l(mu_);
    dentry = upper ? upper_dentry_ : lower_dentry_;
  }
  if (!dentry) {
    std::string name = ctx.root.valid() ? PathName(ctx, path) : path.dentry->name();
    dentry = Dentry::MakeAnonymous(RefPtr<Inode>(&inode), std::move(name));
    base::MutexLock l(mu_);
    RefPtr<Dentry>& place = upper ? upper_dentry_ : lower_dentry_;
    if (!place) place = dentry;
  }
  return inode.Open({nullptr, std::move(dentry)}, flags & kRealFlags, ctx);
}

Result<RefPtr<FileDescription>> OverlayFile::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  if ((flags & O_ACCMODE) != O_RDONLY) TRY(CopyUp());
  bool upper = this->upper() != nullptr;
  RefPtr<FileDescription> real = TRY(OpenReal(upper, flags, path, ctx));
  return RefPtr<FileDescription>(
      TRY(base::TryMakeRef<OverlayFileDescription>(path, flags, ctx, std::move(real), upper)));
}

}  // namespace sentry::overlay
