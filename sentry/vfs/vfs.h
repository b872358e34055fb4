// The operations behind path system calls: each does the walk, the permission and mount checks, the file system call,
// and the dentry and inotify updates. Errors as in the manual pages. All may park.
#ifndef SENTRY_VFS_VFS_H_
#define SENTRY_VFS_VFS_H_

#include <functional>
#include <string_view>
#include <vector>

#include "sentry/vfs/file_description.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

struct OpenArgs {
  uint32_t flags = 0;    // open(2)
  uint32_t mode = 0;     // for O_CREAT and O_TMPFILE, before umask
  uint32_t resolve = 0;  // WalkFlags from openat2's resolve
};
Result<RefPtr<FileDescription>> Open(VfsContext& ctx, const VfsPath& start, std::string_view path,
                                     const OpenArgs& args);
// Opens what `path` names already (fchdir'ed directories, /proc/self/fd, overlay layers). Checks access unless
// `trusted`.
Result<RefPtr<FileDescription>> OpenPath(VfsContext& ctx, const VfsPath& path, uint32_t flags, bool trusted = false);

Result<void> Mkdir(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode);
Result<void> Mknod(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode, uint64_t rdev);
// mknod of a socket of type `type` for bind(2): the inode, with `special` set before anybody can see it. `host`: see
// Inode::BindSocket.
Result<VfsPath> BindSocket(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t mode, int type,
                           RefPtr<base::RefCounted> special, base::UniqueFd& host);
Result<void> Symlink(VfsContext& ctx, std::string_view target, const VfsPath& start, std::string_view path);
Result<void> Link(VfsContext& ctx, const VfsPath& old_start, std::string_view old_path, const VfsPath& new_start,
                  std::string_view new_path, uint32_t at_flags);
Result<void> Unlink(VfsContext& ctx, const VfsPath& start, std::string_view path);
Result<void> Rmdir(VfsContext& ctx, const VfsPath& start, std::string_view path);
Result<void> Rename(VfsContext& ctx, const VfsPath& old_start, std::string_view old_path, const VfsPath& new_start,
                    std::string_view new_path, uint32_t flags);
Result<std::string> ReadLink(VfsContext& ctx, const VfsPath& start, std::string_view path);

// On a path that has been resolved. Permission checks included (man 2 chmod, chown, utimensat, truncate, access).
Result<void> Chmod(VfsContext& ctx, const VfsPath& path, uint32_t mode);
Result<void> Chown(VfsContext& ctx, const VfsPath& path, uint32_t uid, uint32_t gid);  // −1: unchanged
struct TimeChange {
  enum class Kind { kOmit, kNow, kSet } kind = Kind::kOmit;
  FileTimeNs ns = 0;
};
Result<void> Utimes(VfsContext& ctx, const VfsPath& path, TimeChange atime, TimeChange mtime);
Result<void> Truncate(VfsContext& ctx, const VfsPath& path, int64_t size);
Result<void> Access(VfsContext& ctx, const VfsPath& path, int may);  // with ctx.creds as they are
Result<std::string> GetXattr(VfsContext& ctx, const VfsPath& path, std::string_view name);
Result<void> SetXattr(VfsContext& ctx, const VfsPath& path, std::string_view name, std::string_view value,
                      uint32_t flags);
Result<std::vector<std::string>> ListXattr(VfsContext& ctx, const VfsPath& path);
Result<void> RemoveXattr(VfsContext& ctx, const VfsPath& path, std::string_view name);

// --- File system types (Linux: register_filesystem). Registered once by sentry/boot before the first mount, read-only
// afterwards.
struct MountRequest {
  std::string source;
  std::string options;  // "size=1m,mode=755"
  uint64_t flags = 0;   // MS_*
  CredentialsRef creds;
};
struct NewMount {
  RefPtr<Superblock> superblock;
  RefPtr<Dentry> root;
};
using MountFunction = std::function<Result<NewMount>(VfsContext& ctx, const MountRequest& request)>;
struct FileSystemType {
  std::string name;
  bool needs_device = false;  // without "nodev" in /proc/filesystems
  bool guest_may_mount = true;
  MountFunction mount;
};
void RegisterFileSystem(FileSystemType type);
const FileSystemType* FindFileSystem(std::string_view name);
std::vector<const FileSystemType*> FileSystems();

// --- Special files by number: what opening a character or block device, a FIFO or a socket inode means. Registered by
// boot. Key: (type, major, minor); minor −1 matches all. ENXIO for what nobody registered; sockets always ENXIO.
using SpecialOpen =
    std::function<Result<RefPtr<FileDescription>>(const VfsPath& path, uint32_t flags, VfsContext& ctx)>;
void RegisterDevice(FileType type, uint32_t major, int64_t minor, SpecialOpen open);
void RegisterFifo(SpecialOpen open);
void RegisterHostFifo(SpecialOpen open);  // those of which Inode::IsHostFifo is true

// now, for times of files: CLOCK_REALTIME of the sandbox, set by boot.
void SetFileClock(std::function<FileTimeNs()> clock);
FileTimeNs FileNow();

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_VFS_H_
