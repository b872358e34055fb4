// Dentries, mounts, and the walk over them.
#ifndef SENTRY_VFS_PATH_H_
#define SENTRY_VFS_PATH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/wait_queue.h"
#include "sentry/vfs/inode.h"

namespace sentry {

// A name in a directory, positive (has an inode) or negative. The tree of cached names of one superblock. A dentry
// keeps its parent alive; a parent knows its children without owning them. A dentry that nobody uses is owned by the
// DentryCache.
//
// A negative dentry can become positive (Instantiate); a positive one keeps its inode for life, also when it leaves the
// tree. So the inode can be read without a lock.
class Dentry final : public base::RefCounted {
 public:
  static RefPtr<Dentry> MakeRoot(RefPtr<Inode> inode);
  // For objects outside of any tree: "pipe:[7]", "socket:[9]", "anon_inode:[eventfd]".
  static RefPtr<Dentry> MakeAnonymous(RefPtr<Inode> inode, std::string name);

  RefPtr<Inode> inode() const { return RefPtr<Inode>(inode_ptr()); }  // null if negative
  // Valid as long as the caller has a reference to the dentry.
  Inode* inode_ptr() const { return inode_.load(std::memory_order_acquire); }
  std::string name() const EXCLUDES(mu_);
  RefPtr<Dentry> parent() const EXCLUDES(mu_);  // null for roots and anonymous dentries
  bool IsRoot() const { return is_root_; }
  // Removed from its parent, by Unlink or because the file system says so: paths show " (deleted)".
  bool unlinked() const { return unlinked_.load(std::memory_order_relaxed); }
  Superblock& superblock() const { return *superblock_; }

  // The cached child; null if unknown.
  RefPtr<Dentry> CachedChild(std::string_view name) EXCLUDES(mu_);
  // Adds a child, or returns the one that is there already (lookups race).
  RefPtr<Dentry> AddChild(std::string_view name, RefPtr<Inode> inode) EXCLUDES(mu_);
  // The same, unless the superblock's name_changes is not `expected_changes` any more: then null.
  RefPtr<Dentry> AddChildIfUnchanged(std::string_view name, RefPtr<Inode> inode, uint64_t expected_changes)
      EXCLUDES(mu_);
  // A dentry beneath this one that no lookup finds: an O_TMPFILE.
  RefPtr<Dentry> MakeUnlinkedChild(std::string name, RefPtr<Inode> inode);
  // After Create and the like: a negative child becomes positive. After Unlink: `child` leaves the tree. With dir_lock
  // held exclusively.
  void Instantiate(RefPtr<Inode> inode);
  void Unlink() EXCLUDES(mu_);
  // After Rename. With the superblock's rename_lock (if the parents differ) and both dir_locks held.
  static void Move(Dentry& moved, Dentry& new_parent, std::string_view new_name, Dentry* replaced, bool exchange);
  // Forgets cached children (a file system that learned of changes).
  void Invalidate() EXCLUDES(mu_);
  // True if `ancestor` is this or above it, within the superblock.
  bool IsWithin(const Dentry& ancestor) const;

  // Number of mounts on this dentry in any namespace: lets the walk skip the mount table.
  std::atomic<int> mounted{0};

 private:
  friend class DentryCache;
  struct NameHash;
  struct NameEq;
  using Children = absl::flat_hash_set<Dentry*, NameHash, NameEq>;
  Dentry(RefPtr<Superblock> sb, RefPtr<Dentry> parent, std::string name, RefPtr<Inode> inode);
  ~Dentry() override;
  void OnLastUnref() const override;
  RefPtr<Dentry> AddChildInternal(std::string_view name, RefPtr<Inode> inode, const uint64_t* expected_changes);
  Dentry* FindLocked(std::string_view name) const REQUIRES(mu_);
  // Takes an unreferenced dentry out of its parent's children; returns the parent's reference.
  RefPtr<Dentry> Detach();
  // For an unreferenced dentry that leaves the cache: deletes it and ancestors whose last reference it was.
  static void Destroy(Dentry* dentry);
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);

  RefPtr<Superblock> superblock_;  // set once
  bool is_root_ = false;           // set once
  // Two dentries' mutexes are only ever held together by Move, which the rename_lock and dir_locks serialize.
  mutable base::Mutex mu_;
  RefPtr<Dentry> parent_ GUARDED_BY(mu_);
  std::string name_;                    // written with this and the parent's mu_ held; read with either
  std::atomic<Inode*> inode_{nullptr};  // owned; null to set, once
  std::atomic<bool> unlinked_{false};
  bool hashed_ = false;                                 // is in its parent's children_; guarded by the parent's mu_
  std::unique_ptr<Children> children_ GUARDED_BY(mu_);  // weak
  // DentryCache's, guarded by its lock.
  Dentry* lru_next_ = nullptr;
  Dentry* lru_prev_ = nullptr;
  bool in_lru_ = false;
  std::atomic<bool> recently_used_{false};  // a hint
};

// Mount flags as mount(2) spells them: MS_RDONLY 1, MS_NOSUID 2, MS_NODEV 4, MS_NOEXEC 8, MS_NOATIME 1024, …
class Mount final : public base::RefCounted {
 public:
  Mount(RefPtr<Superblock> superblock, RefPtr<Dentry> root, uint64_t flags, std::string source);
  ~Mount() override;
  int id() const { return id_; }
  Dentry& root() const { return *root_; }
  RefPtr<Dentry> root_ref() const { return root_; }
  Superblock& superblock() const { return *superblock_; }
  uint64_t flags() const { return flags_.load(std::memory_order_relaxed); }
  void set_flags(uint64_t flags) { flags_.store(flags, std::memory_order_relaxed); }
  bool read_only() const { return flags() & 1; }
  const std::string& source() const { return source_; }
  // MS_PRIVATE, MS_SHARED, …: kept and shown; Differs from Linux: nothing propagates.
  uint32_t propagation() const { return propagation_.load(std::memory_order_relaxed); }
  void set_propagation(uint32_t type) { propagation_.store(type, std::memory_order_relaxed); }

 private:
  friend class MountNamespace;
  const int id_;
  RefPtr<Superblock> superblock_;
  RefPtr<Dentry> root_;
  std::atomic<uint64_t> flags_;
  std::string source_;
  // Guarded by the namespace's lock.
  RefPtr<Mount> parent_;
  RefPtr<Dentry> mountpoint_;
  std::atomic<uint32_t> propagation_{1 << 18};  // MS_PRIVATE
};

struct VfsPath {
  RefPtr<Mount> mount;
  RefPtr<Dentry> dentry;
  bool valid() const { return dentry != nullptr; }
  RefPtr<Inode> inode() const { return dentry->inode(); }
  friend bool operator==(const VfsPath&, const VfsPath&) = default;
};

class MountNamespace final : public base::RefCounted {
 public:
  explicit MountNamespace(RefPtr<Mount> root);
  ~MountNamespace() override;
  VfsPath Root() const EXCLUDES(mu_);
  // Mounts on top of `at` (which may be a mount's root: stacking). EBUSY, ENOTDIR as man 2 mount.
  Result<RefPtr<Mount>> AddMount(const VfsPath& at, RefPtr<Mount> mount) EXCLUDES(mu_);
  // man 2 umount2: EINVAL if not a mount point, EBUSY if used (unless MNT_DETACH). `at` is the caller's only reference
  // to the mount.
  Result<void> Unmount(const VfsPath& at, int flags) EXCLUDES(mu_);
  Result<void> MoveMount(const VfsPath& from, const VfsPath& to) EXCLUDES(mu_);
  Result<void> PivotRoot(const VfsPath& new_root, const VfsPath& put_old) EXCLUDES(mu_);
  // A copy for unshare(CLONE_NEWNS); `map` translates old mounts to new ones for cwd and root.
  RefPtr<MountNamespace> Clone(absl::flat_hash_map<const Mount*, RefPtr<Mount>>& map) const EXCLUDES(mu_);
  // The topmost mount on this path, or null.
  RefPtr<Mount> MountedOn(const Mount* mount, const Dentry* dentry) const EXCLUDES(mu_);
  // The path that `mount` is mounted on; invalid for the root mount.
  VfsPath MountPointOf(const Mount& mount) const EXCLUDES(mu_);
  struct Entry {
    RefPtr<Mount> mount;
    int parent_id;
    VfsPath mountpoint;
  };
  std::vector<Entry> List() const EXCLUDES(mu_);  // in mount order, for /proc/self/mountinfo
  bool Contains(const Mount& mount) const EXCLUDES(mu_);
  base::WaitQueue changes;  // poll on /proc/self/mounts
  const uint64_t number = AllocateNamespaceNumber();

 private:
  MountNamespace() = default;
  template <typename T, typename... A>
  friend RefPtr<T> base::MakeRef(A&&...);
  Mount* FindMountedOn(const Mount* mount, const Dentry* dentry) const REQUIRES(mu_);
  bool ContainsLocked(const Mount* mount) const REQUIRES(mu_);
  void AttachLocked(Mount& mount, const VfsPath& at) REQUIRES(mu_);
  // Undoes AttachLocked; what the mount was held by comes back, to be dropped without the lock.
  VfsPath DetachLocked(Mount& mount) REQUIRES(mu_);

  mutable base::Mutex mu_;
  std::vector<RefPtr<Mount>> mounts_ GUARDED_BY(mu_);
  absl::flat_hash_map<std::pair<const Mount*, const Dentry*>, Mount*> by_mountpoint_ GUARDED_BY(mu_);
};

// How blocking file operations (opening a FIFO, a lock) wait: the task.
class Blocker {
 public:
  // Parks until `ready` returns true (asked first, then after every notification of `queue` for `mask`), the deadline
  // passes (ETIMEDOUT) or a signal is pending (ERESTARTSYS_).
  virtual Result<void> BlockUntil(base::WaitQueue& queue, base::EventMask mask, const std::function<bool()>& ready,
                                  base::MonotonicNs deadline = base::kNever) = 0;

 protected:
  ~Blocker() = default;
};

// Who asks, and from where: made by a task for one operation.
struct VfsContext {
  MountNamespace* mounts = nullptr;
  VfsPath root;
  VfsPath cwd;
  CredentialsRef creds;
  uint32_t umask = 0;
  uint64_t file_size_limit = UINT64_MAX;  // RLIMIT_FSIZE
  Blocker* blocker = nullptr;             // null: nothing may wait (EAGAIN/ENXIO instead)
  const void* lock_owner = nullptr;       // identity for POSIX record locks: the FdTable
  int lock_pid = 0;
  void* task = nullptr;       // sentry::Task* for file systems above the kernel (proc's "self")
  int symlinks_followed = 0;  // ELOOP after 40
};

// Bits of openat2(2)'s resolve and our own.
enum class WalkFlag : uint32_t {
  kFollow = 1,     // follow a symlink in the last component
  kDirectory = 2,  // the result has to be a directory
  kEmptyPath = 4,  // "" is the start itself (AT_EMPTY_PATH)
  kNoXdev = 8,
  kNoMagicLinks = 16,
  kNoSymlinks = 32,
  kBeneath = 64,
  kInRoot = 128,
  kCached = 256,
  kParent = 512,  // stop at the parent; the last component is returned as a name
  kNoAutoMountLast = 1024,
};

struct WalkResult {
  VfsPath path;                 // what was found, or the parent with kParent
  std::string last;             // kParent: last component ("." and ".." possible; empty for "/")
  bool last_has_slash = false;  // kParent: "name/"
};

// Resolves `path` from `start` (ctx.cwd if that is not valid; an absolute path starts at ctx.root). ENOENT, ENOTDIR,
// EACCES, ELOOP, ENAMETOOLONG, EXDEV. (man 7 path_resolution, fs/namei.c)
Result<WalkResult> WalkPath(VfsContext& ctx, const VfsPath& start, std::string_view path, uint32_t walk_flags);
// The absolute path as seen from ctx.root, as getcwd and /proc/self/fd show it: "(unreachable)/x" outside of the root;
// " (deleted)".
std::string PathName(const VfsContext& ctx, const VfsPath& path);

}  // namespace sentry

#endif  // SENTRY_VFS_PATH_H_
