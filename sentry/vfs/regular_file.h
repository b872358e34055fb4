// RegularFileDescription: what every regular file does the same way around its contents: access modes, offsets,
// O_APPEND, limits, set-id bits, times of reading, synchronous writes, inotify (mm/filemap.c: generic_write_checks;
// fs/read_write.c).
#ifndef SENTRY_VFS_REGULAR_FILE_H_
#define SENTRY_VFS_REGULAR_FILE_H_

#include "sentry/vfs/file_description.h"

namespace sentry {

class RegularFileDescription : public FileDescription {
 public:
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) final;
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags& flags) final;
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags& flags) final;
  bool Seekable() const final { return true; }
  Result<void> Truncate(int64_t size) override;

 protected:
  // `ctx`: who opens it. Differs from Linux: whether a write takes the set-id bits away is decided by the capabilities
  // of who opened the file, not of who writes.
  RegularFileDescription(VfsPath path, uint32_t flags, const VfsContext& ctx);

  // Up to `max` bytes, not more than the buffer has left; 0 at the end of the file.
  virtual Result<size_t> ReadAt(IoBuffer& to, int64_t offset, size_t max) = 0;
  // The same for writing, with the inode's dir_lock held exclusively. Extends the file, sets mtime and ctime.
  virtual Result<size_t> WriteAt(IoBuffer& from, int64_t offset, size_t max) = 0;
  // Size now, for O_APPEND.
  virtual Result<int64_t> CurrentSize() = 0;
  // Where writes have to leave no set-id bits (Attr of the inode, with dir_lock held).
  virtual Result<void> DropSetIdBits();
  // True if reads are to be recorded: neither O_NOATIME nor a mount with noatime or read-only.
  bool TouchesAtime() const;

  // The path that it was opened under, for /proc/pid/maps.
  std::string MappedName() const;

  const bool keeps_set_id_;

 private:
  const RefPtr<MountNamespace> opened_in_;
  const VfsPath opened_root_;
  // `offset` becomes where the bytes went.
  Result<size_t> WriteChecked(IoBuffer& from, int64_t& offset, const IoFlags& flags);
};

// relatime: whether a read now changes an atime (fs/inode.c: relatime_need_update).
inline bool RelatimeNeedsUpdate(const Attr& attr, FileTimeNs now) {
  return attr.atime <= attr.mtime || attr.atime <= attr.ctime || now - attr.atime >= 24 * 3600 * 1'000'000'000LL;
}

}  // namespace sentry

#endif  // SENTRY_VFS_REGULAR_FILE_H_
