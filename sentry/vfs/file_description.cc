#include "sentry/vfs/file_description.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "sentry/vfs/file_locks.h"
#include "sentry/vfs/inotify.h"

namespace sentry {

FileDescription::FileDescription(VfsPath path, uint32_t flags)
    : path_(std::move(path)),
      inode_(path_.inode()),
      flags_(flags & ~uint32_t{O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC}) {
  uint32_t mode = flags & O_ACCMODE;
  readable_ = !(flags & O_PATH) && (mode == O_RDONLY || mode == O_RDWR);
  writable_ = !(flags & O_PATH) && (mode == O_WRONLY || mode == O_RDWR);
  // Open has made sure that nobody executes it.
  if (writable_ && inode_->type() == FileType::kRegular) inode_->write_count.fetch_add(1, std::memory_order_acq_rel);
  inode_->open_count.fetch_add(1, std::memory_order_relaxed);
}

Result<void> FileDescription::DenyWrites() {
  TRY(inode_->DenyWriteAccess());
  denies_writes_ = true;
  return {};
}

FileDescription::~FileDescription() {
  if (FileLocks* locks = inode_->locks_if_any()) {
    locks->ReleaseFlock(this);
    locks->ReleaseRecords(this);  // OFD
    locks->ReleaseLease(this);
  }
  if (writable_ && inode_->type() == FileType::kRegular) inode_->PutWriteAccess();
  if (denies_writes_) inode_->AllowWriteAccess();
  if (!path_only()) NotifyDentry(*path_.dentry, writable_ ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  if (inode_->open_count.fetch_sub(1, std::memory_order_acq_rel) == 1) NotifyIfDeleted(*inode_);
}

bool FileDescription::nonblocking() const { return flags() & O_NONBLOCK; }
bool FileDescription::path_only() const { return flags() & O_PATH; }

Result<size_t> FileDescription::Read(IoBuffer& to, const IoFlags& flags) {
  if (!readable_) return Errno(EBADF);
  if (!Seekable()) return Errno(EINVAL);
  base::FiberMutexLock l(position_lock_);
  int64_t at = position();
  size_t n = TRY(PRead(to, at, flags));
  position_.store(at + static_cast<int64_t>(n), std::memory_order_relaxed);
  return n;
}

Result<size_t> FileDescription::Write(IoBuffer& from, const IoFlags& flags) {
  if (!writable_) return Errno(EBADF);
  if (!Seekable()) return Errno(EINVAL);
  base::FiberMutexLock l(position_lock_);
  int64_t at = position();
  size_t n = TRY(PWrite(from, at, flags));
  position_.store(at + static_cast<int64_t>(n), std::memory_order_relaxed);
  return n;
}

Result<int64_t> FileDescription::Seek(int64_t offset, int whence) {
  if (path_only()) return Errno(EBADF);
  if (!Seekable()) return Errno(ESPIPE);
  base::FiberMutexLock l(position_lock_);
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = position();
      if (offset == 0) return base;
      break;
    case SEEK_END:
    case SEEK_DATA:
    case SEEK_HOLE: {
      int64_t size = TRY(GetAttr()).size;
      if (whence == SEEK_END) {
        base = size;
        break;
      }
      // generic_file_llseek: all data, and a hole at the end.
      if (offset < 0 || offset >= size) return Errno(ENXIO);
      if (whence == SEEK_HOLE) offset = size;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  int64_t target;
  if (__builtin_add_overflow(base, offset, &target)) return Errno(offset > 0 ? EOVERFLOW : EINVAL);
  if (target < 0) return Errno(EINVAL);
  position_.store(target, std::memory_order_relaxed);
  return target;
}

Result<void> FileDescription::Truncate(int64_t size) {
  if (!writable_ || inode_->type() != FileType::kRegular) return Errno(EINVAL);
  AttrChange change;
  change.size = size;
  {
    base::WriterLock l(inode_->dir_lock);
    TRY(inode_->SetAttr(change));
  }
  NotifyDentry(*path_.dentry, IN_MODIFY);
  return {};
}

Result<Attr> FileDescription::GetAttr() { return inode_->GetAttr(); }

Result<void> FileDescription::SetStatusFlags(uint32_t flags) {
  constexpr uint32_t kChangeable = O_NONBLOCK | O_APPEND | O_DIRECT | O_NOATIME | O_ASYNC;
  uint32_t old = this->flags();
  while (!flags_.compare_exchange_weak(old, (old & ~kChangeable) | (flags & kChangeable), std::memory_order_relaxed)) {
  }
  return {};
}

void FileDescription::SetAsyncEntry(std::unique_ptr<base::WaitEntry> entry) {
  base::MutexLock lock(async_mu_);
  if (async_entry_) wait_queue()->Remove(*async_entry_);
  async_entry_ = std::move(entry);
  has_async_entry_.store(async_entry_ != nullptr, std::memory_order_release);
  if (async_entry_) wait_queue()->Add(*async_entry_);
}

void FileDescription::OnDescriptorClosed(VfsContext& ctx) {
  if (FileLocks* locks = inode_->locks_if_any(); locks != nullptr && ctx.lock_owner != nullptr) {
    locks->ReleaseRecords(ctx.lock_owner);
  }
}

}  // namespace sentry
