// Superblock and Inode: what a file system implements (Linux: super_operations, inode_operations).
//
// The vfs does path walking, dentry caching, mounts, permission checks, read-only mounts and flag rules; a file system
// answers for one directory at a time. Every call may park. Locks held by the vfs when it calls: lookups hold the
// directory's dir_lock shared; Create…Rename hold it exclusively (both directories' for Rename, ancestors first, after
// the superblock's rename_lock).
#ifndef SENTRY_VFS_INODE_H_
#define SENTRY_VFS_INODE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/errno.h"
#include "base/fiber_lock.h"
#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "sentry/vfs/attr.h"
#include "sentry/vfs/credentials.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;

class Dentry;
class FileDescription;
class FileLocks;
class Inode;
class InotifyWatches;
struct VfsContext;
struct VfsPath;

struct FsStat {
  int64_t type = 0;  // f_type magic
  int64_t bsize = 4096;
  uint64_t blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0;
  int64_t namelen = 255;
};

// One instance of a file system.
class Superblock : public base::RefCounted {
 public:
  virtual std::string_view type_name() const = 0;  // as in /proc/filesystems
  virtual Result<FsStat> StatFs() = 0;
  virtual Result<void> Sync() { return {}; }
  // Options as /proc/mounts shows them ("size=1024k"), without a leading comma.
  virtual std::string MountOptions() const { return ""; }
  uint64_t dev() const { return dev_; }  // unique among live superblocks: AllocateAnonymousDev at construction
  // Directories and inodes can vanish or change behind our back (shared gofer mounts, proc): dentries are revalidated.
  virtual bool NeedsRevalidation() const { return false; }
  // With NeedsRevalidation: ask again by LookupMany, which returns the same inode objects for files that are the same,
  // instead of Revalidate for one name at a time. One LookupMany then covers a whole path.
  virtual bool RevalidatesByLookup() const { return false; }
  // Whether dentries without users stay cached (a bounded LRU over all superblocks, DentryCache).
  virtual bool CacheDentries() const { return true; }

  base::FiberMutex rename_lock;  // s_vfs_rename_mutex
  // Counts changes of names, before and after each: lets a walk that fetched several levels at once see that what it
  // was told may be stale (LookupMany looks at directories whose dir_lock it does not hold).
  std::atomic<uint64_t> name_changes{0};

 protected:
  Superblock();
  ~Superblock() override;

 private:
  friend class Dentry;
  friend class DentryCache;
  friend class Mount;
  uint64_t dev_;
  std::atomic<int> active_mounts_{0};
  std::atomic<bool> cache_closed_{false};  // the last mount is gone: dentries are not kept any more
};

// A device number for a file system without a device: major 0, minors never reused.
uint64_t AllocateAnonymousDev();
// The number by which /proc/<pid>/ns names a namespace: above those of the initial ones that are fixed
// (include/linux/proc_ns.h).
uint64_t AllocateNamespaceNumber();

struct NewNode {
  uint32_t mode = 0;          // permission bits after umask; type bits for Mknod
  uint32_t uid = 0, gid = 0;  // owner, set-gid directory rule applied by the vfs
  uint64_t rdev = 0;
};

class Inode : public virtual base::RefCounted {
 public:
  Superblock& superblock() const { return *superblock_; }
  uint64_t ino() const { return ino_; }
  FileType type() const { return type_; }
  bool is_dir() const { return type_ == FileType::kDirectory; }

  virtual Result<Attr> GetAttr() = 0;
  // For permission checks: mode, uid, gid and rdev are right, the rest may be out of date. Where only we change those,
  // this asks nobody.
  virtual Result<Attr> GetOwnership() { return GetAttr(); }
  virtual Result<void> SetAttr(const AttrChange& change) { return Errno(EPERM); }
  // `may`: R_OK 4, W_OK 2, X_OK 1. The default is Linux' generic_permission over GetAttr with capabilities.
  virtual Result<void> CheckAccess(const Credentials& creds, int may);

  // --- Directories.
  // The child's inode; ENOENT if there is none (the vfs caches that).
  virtual Result<RefPtr<Inode>> Lookup(std::string_view name) { return Errno(ENOTDIR); }
  // A chance to fetch several levels in one go. `names` is the rest of a path without "." and ".."; returns the inodes
  // of a prefix of at least one name (or the error of the first); a null last element says that this name does not
  // exist. The default looks up the first.
  virtual Result<std::vector<RefPtr<Inode>>> LookupMany(std::span<const std::string_view> names);
  // The same for an open of the last of all names, which a file system may do along with it: a descriptor for reading,
  // or with `write` for both, will be wanted next if it is a regular file. A hint.
  virtual Result<std::vector<RefPtr<Inode>>> LookupManyForOpen(std::span<const std::string_view> names, bool write) {
    return LookupMany(names);
  }
  // Revalidation of a cached child (NeedsRevalidation): true if `child` (null: negative) is still what `name` means.
  virtual Result<bool> Revalidate(std::string_view name, Inode* child) { return true; }
  virtual Result<RefPtr<Inode>> Create(std::string_view name, const NewNode& node) { return Errno(EPERM); }
  virtual Result<RefPtr<Inode>> Mkdir(std::string_view name, const NewNode& node) { return Errno(EPERM); }
  virtual Result<RefPtr<Inode>> Mknod(std::string_view name, const NewNode& node) { return Errno(EPERM); }
  virtual Result<RefPtr<Inode>> Symlink(std::string_view name, std::string_view target, const NewNode& node) {
    return Errno(EPERM);
  }
  virtual Result<void> Link(std::string_view name, Inode& target) { return Errno(EPERM); }
  virtual Result<void> Unlink(std::string_view name, Inode& child) { return Errno(EPERM); }
  virtual Result<void> Rmdir(std::string_view name, Inode& child) { return Errno(EPERM); }
  // `flags`: RENAME_NOREPLACE 1, EXCHANGE 2, WHITEOUT 4. `replaced`: the inode at the new name, or null.
  virtual Result<void> Rename(std::string_view old_name, Inode& moved, Inode& new_dir, std::string_view new_name,
                              Inode* replaced, uint32_t flags) {
    return Errno(EPERM);
  }
  // A nameless regular file (O_TMPFILE), and giving it a name later is Link.
  virtual Result<RefPtr<Inode>> Tmpfile(const NewNode& node) { return Errno(EOPNOTSUPP); }

  // --- Symlinks.
  virtual Result<std::string> ReadLink() { return Errno(EINVAL); }
  // Magic links (/proc/self/fd/3): the object itself instead of a path. EINVAL: an ordinary link, walk its text.
  virtual Result<VfsPath> FollowMagicLink(VfsContext& ctx);
  virtual bool IsMagicLink() const { return false; }

  // --- Files. `path` is how it was reached; access has been checked. Flags are open(2)'s. O_TRUNC and O_CREAT are done
  // by the vfs. FIFOs and devices are opened by the vfs through the special-file registry (VfsContext), not by the file
  // system.
  virtual Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) = 0;

  // --- Files that are the host's (--host-uds, --host-fifo): only the gofer's, where it was allowed, are.
  // A socket of the host, connected to the one that this socket file is: nonblocking. `type` without flags. EAGAIN when
  // its backlog is full.
  virtual Result<base::UniqueFd> ConnectHost(int type) { return Errno(ECONNREFUSED); }
  // bind(2): makes a socket file. Where the host may know of it, `host` becomes a socket of the host bound to it.
  virtual Result<RefPtr<Inode>> BindSocket(std::string_view name, const NewNode& node, int type, base::UniqueFd& host);
  // A FIFO whose other end may be on the host, and opening it there: never waits, ENXIO without a reader.
  virtual bool IsHostFifo() { return false; }
  virtual Result<base::UniqueFd> OpenHostFifo(uint32_t flags) { return Errno(ENXIO); }

  // --- Extended attributes: full names ("user.x"). ENODATA, ERANGE are the vfs' (sizes); EOPNOTSUPP by default.
  virtual Result<std::string> GetXattr(std::string_view name) { return Errno(EOPNOTSUPP); }
  virtual Result<void> SetXattr(std::string_view name, std::string_view value, uint32_t flags) {
    return Errno(EOPNOTSUPP);
  }
  virtual Result<std::vector<std::string>> ListXattr() { return Errno(EOPNOTSUPP); }
  virtual Result<void> RemoveXattr(std::string_view name) { return Errno(EOPNOTSUPP); }

  // The process whose directory /proc/<pid> this is (its ThreadGroup), for pidfd_send_signal(2); null for all others.
  virtual RefPtr<base::RefCounted> Process() { return nullptr; }

  // The directory's own lock (i_rwsem). For files: serializes writes with O_APPEND and truncation.
  base::FiberRwLock dir_lock;

  // Made on first use; per inode, for the life of the inode.
  FileLocks& locks();
  FileLocks* locks_if_any() const { return locks_.load(std::memory_order_acquire); }
  InotifyWatches* watches_if_any() const { return watches_.load(std::memory_order_acquire); }
  InotifyWatches& watches();
  // Objects that sockets and FIFOs attach to their inode (bound UNIX socket, pipe). Guarded by special_mu.
  base::Mutex special_mu;
  RefPtr<base::RefCounted> special GUARDED_BY(special_mu);
  // Writers through open descriptors and executions, for ETXTBSY (i_writecount): > 0 writers, < 0 denied by exec.
  std::atomic<int> write_count{0};
  Result<void> GetWriteAccess();  // ETXTBSY while it is being executed
  void PutWriteAccess();
  Result<void> DenyWriteAccess();  // exec; ETXTBSY while somebody may write
  void AllowWriteAccess();
  // Open descriptions, and whether the last name is gone: together they say when IN_DELETE_SELF is due.
  std::atomic<int> open_count{0};
  std::atomic<bool> nameless{false};
  // Set by rmdir with dir_lock held exclusively: nothing can be made in it any more (S_DEAD).
  std::atomic<bool> dead{false};
  // An O_TMPFILE that may still get its first name (I_LINKABLE).
  std::atomic<bool> linkable{false};

 protected:
  Inode(RefPtr<Superblock> superblock, uint64_t ino, FileType type);
  ~Inode() override;

 private:
  RefPtr<Superblock> superblock_;
  uint64_t ino_;
  FileType type_;
  std::atomic<FileLocks*> locks_{nullptr};         // owned; made once by compare-and-swap
  std::atomic<InotifyWatches*> watches_{nullptr};  // likewise
};

}  // namespace sentry

#endif  // SENTRY_VFS_INODE_H_
