#include "sentry/vfs/regular_file.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/mount.h>

#include <algorithm>

#include "sentry/vfs/inotify.h"
#include "sentry/vfs/permission.h"

namespace sentry {
namespace {

// rw_verify_area.
bool EndsBeyondOffsets(int64_t offset, size_t bytes) {
  return offset < 0 || bytes > static_cast<uint64_t>(INT64_MAX - offset);
}

}  // namespace

RegularFileDescription::RegularFileDescription(VfsPath path, uint32_t flags, const VfsContext& ctx)
    : FileDescription(std::move(path), flags),
      keeps_set_id_(ctx.creds && ctx.creds->Capable(CAP_FSETID)),
      opened_in_(ctx.mounts),
      opened_root_(ctx.root) {}

std::string RegularFileDescription::MappedName() const {
  VfsContext ctx;
  ctx.mounts = opened_in_.get();
  ctx.root = opened_root_;
  return PathName(ctx, path());
}

bool RegularFileDescription::TouchesAtime() const {
  return !(flags() & O_NOATIME) && !(path().mount && (path().mount->flags() & (MS_NOATIME | MS_RDONLY)));
}

Result<size_t> RegularFileDescription::PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) {
  if (!readable()) return Errno(EBADF);
  size_t max = to.remaining();
  if (EndsBeyondOffsets(offset, max)) return Errno(EINVAL);
  if (max == 0) return size_t{0};
  size_t n = TRY(ReadAt(to, offset, max));
  if (n > 0) NotifyDentry(*path().dentry, IN_ACCESS);
  return n;
}

Result<void> RegularFileDescription::DropSetIdBits() {
  if (keeps_set_id_) return {};
  Attr attr = TRY(inode()->GetOwnership());
  if (!(attr.mode & (S_ISUID | S_ISGID))) return {};
  uint32_t drop = attr.mode & S_ISUID;
  if ((attr.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) drop |= S_ISGID;
  if (drop == 0) return {};
  AttrChange change;
  change.mode = attr.mode & 07777 & ~drop;
  return inode()->SetAttr(change);
}

Result<size_t> RegularFileDescription::WriteChecked(IoBuffer& from, int64_t& offset, const IoFlags& flags) {
  if (!writable()) return Errno(EBADF);
  size_t max = from.remaining();
  if (EndsBeyondOffsets(offset, max)) return Errno(EINVAL);
  if (max == 0) return size_t{0};
  size_t n;
  {
    base::WriterLock l(inode()->dir_lock);
    if (flags.append) offset = TRY(CurrentSize());
    uint64_t limit = std::min<uint64_t>(flags.file_size_limit, INT64_MAX);
    if (static_cast<uint64_t>(offset) >= limit) return Errno(EFBIG);
    max = static_cast<size_t>(std::min<uint64_t>(max, limit - static_cast<uint64_t>(offset)));
    TRY(DropSetIdBits());
    n = TRY(WriteAt(from, offset, max));
  }
  if (n > 0) {
    if (flags.dsync || (this->flags() & O_DSYNC)) TRY(Fsync(/*data_only=*/true));
    NotifyDentry(*path().dentry, IN_MODIFY);
  }
  return n;
}

Result<void> RegularFileDescription::Truncate(int64_t size) {
  if (!writable()) return Errno(EINVAL);
  {
    base::WriterLock l(inode()->dir_lock);
    TRY(DropSetIdBits());
    TRY(inode()->SetAttr({.size = size}));
  }
  NotifyDentry(*path().dentry, IN_MODIFY);
  return {};
}

Result<size_t> RegularFileDescription::PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) {
  return WriteChecked(from, offset, flags);
}

Result<size_t> RegularFileDescription::Write(IoBuffer& from, const IoFlags& flags) {
  base::FiberMutexLock l(position_lock_);
  int64_t at = position();
  size_t n = TRY(WriteChecked(from, at, flags));
  if (n > 0) position_.store(at + static_cast<int64_t>(n), std::memory_order_relaxed);
  return n;
}

}  // namespace sentry
