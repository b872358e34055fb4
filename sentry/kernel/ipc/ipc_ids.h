// What the three kinds of System V IPC objects have in common: identifiers, keys and permissions. (ipc/util.c)
#ifndef SENTRY_KERNEL_IPC_IPC_IDS_H_
#define SENTRY_KERNEL_IPC_IPC_IDS_H_

#include <cstdint>
#include <map>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/vfs/credentials.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;

// struct ipc64_perm of amd64.
struct IpcPerm64 {
  int32_t key;
  uint32_t uid, gid, cuid, cgid;
  uint32_t mode;
  uint16_t seq, pad;
  uint32_t pad2;
  uint64_t unused[2];
};
static_assert(sizeof(IpcPerm64) == 48);

inline constexpr int32_t kIpcPrivate = 0;
enum : int { kIpcCreate = 01000, kIpcExclusive = 02000, kIpcNoWait = 04000 };
enum : int { kIpcRmid = 0, kIpcSet = 1, kIpcStat = 2, kIpcInfo = 3 };

// Guarded by the registry's mutex, except for what the constructor sets.
struct IpcPerm {
  IpcPerm(int32_t key_in, uint32_t mode_in, const Credentials& creds)
      : key(key_in), uid(creds.euid), gid(creds.egid), cuid(creds.euid), cgid(creds.egid), mode(mode_in & 0777) {}
  int32_t key;
  uint32_t uid, gid;
  const uint32_t cuid, cgid;
  uint32_t mode;
  int id = -1;  // of a removed object too
  bool removed = false;

  // ipcperms: `wanted` as mode bits in any of the three places.
  Result<void> Check(const Credentials& creds, uint32_t wanted) const {
    const uint32_t requested = (wanted >> 6) | (wanted >> 3) | wanted;
    uint32_t granted = mode;
    if (creds.euid == cuid || creds.euid == uid) {
      granted >>= 6;
    } else if (creds.InGroup(cgid) || creds.InGroup(gid)) {
      granted >>= 3;
    }
    constexpr int kCapIpcOwner = 15;
    if ((requested & ~granted & 7) && !creds.Capable(kCapIpcOwner)) return Errno(EACCES);
    return {};
  }
  // ipcctl_obtain_check: IPC_SET and IPC_RMID.
  Result<void> CheckOwner(const Credentials& creds) const {
    constexpr int kCapSysAdmin = 21;
    if (creds.euid == cuid || creds.euid == uid || creds.Capable(kCapSysAdmin)) return {};
    return Errno(EPERM);
  }
  Result<void> Set(const IpcPerm64& from) {
    if (from.uid == UINT32_MAX || from.gid == UINT32_MAX) return Errno(EINVAL);
    uid = from.uid;
    gid = from.gid;
    mode = (mode & ~0777u) | (from.mode & 0777);
    return {};
  }
  IpcPerm64 ToGuest() const {
    IpcPerm64 p{};
    p.key = key;
    p.uid = uid;
    p.gid = gid;
    p.cuid = cuid;
    p.cgid = cgid;
    p.mode = mode;
    p.seq = static_cast<uint16_t>(static_cast<uint32_t>(id) >> 15);
    return p;
  }
};

// The objects of one kind in a namespace, by number and by key. T has an IpcPerm `perm`. Everything with `mu` held;
// what is taken out is returned, to be dropped without it.
template <typename T>
class IpcIds {
 public:
  static constexpr int kShift = 15;  // IPCMNI_SHIFT
  explicit IpcIds(size_t max) : max_(max) {}

  base::Mutex mu;

  // ENOSPC.
  Result<int> AddLocked(RefPtr<T> object) REQUIRES(mu) {
    if (objects_.size() >= max_) return Errno(ENOSPC);
    // Cyclic, so that an identifier is not used again soon (ipc_idr_alloc).
    int index = last_ + 1;
    for (int tries = 0; objects_.contains(index & kMask); ++tries, ++index) {
      if (tries > kMask) return Errno(ENOSPC);
    }
    index &= kMask;
    if (index <= last_) sequence_ = (sequence_ + 1) & 0x7fff;
    last_ = index;
    object->perm.id = sequence_ << kShift | index;
    const int id = object->perm.id;
    objects_.emplace(index, std::move(object));
    return id;
  }
  // EINVAL: nothing has this number.
  Result<RefPtr<T>> FindLocked(int id) REQUIRES(mu) {
    if (id < 0) return Errno(EINVAL);
    auto it = objects_.find(id & kMask);
    if (it == objects_.end() || it->second->perm.id != id) return Errno(EINVAL);
    return it->second;
  }
  // …_STAT: by place in the table.
  Result<RefPtr<T>> FindIndexLocked(int index) REQUIRES(mu) {
    auto it = objects_.find(index);
    if (index < 0 || it == objects_.end()) return Errno(EINVAL);
    return it->second;
  }
  RefPtr<T> FindKeyLocked(int32_t key) REQUIRES(mu) {
    for (auto& [index, object] : objects_) {
      if (object->perm.key == key) return object;
    }
    return nullptr;
  }
  // The key may mean another object from now on.
  void ForgetKeyLocked(T& object) REQUIRES(mu) { object.perm.key = kIpcPrivate; }
  RefPtr<T> RemoveLocked(T& object) REQUIRES(mu) {
    object.perm.removed = true;
    auto node = objects_.extract(object.perm.id & kMask);
    return node.empty() ? nullptr : std::move(node.mapped());
  }
  std::vector<RefPtr<T>> ListLocked() REQUIRES(mu) {
    std::vector<RefPtr<T>> all;
    for (auto& [index, object] : objects_) all.push_back(object);
    return all;
  }
  size_t size() const REQUIRES(mu) { return objects_.size(); }
  int max_index() const REQUIRES(mu) { return objects_.empty() ? 0 : objects_.rbegin()->first; }

  // …get(2): the object of a key, made when it is not there and the flags say so. `make` may fail; `fits` is asked of
  // one that is there.
  template <typename Make, typename Fits>
  Result<int> Get(int32_t key, int flags, const Credentials& creds, Make&& make, Fits&& fits) EXCLUDES(mu) {
    RefPtr<T> fresh;  // dropped without the lock if it is not needed
    if (key == kIpcPrivate) {
      fresh = TRY(make());
      base::MutexLock lock(mu);
      return AddLocked(fresh);
    }
    for (;;) {
      {
        base::MutexLock lock(mu);
        if (RefPtr<T> there = FindKeyLocked(key)) {
          if ((flags & kIpcCreate) && (flags & kIpcExclusive)) return Errno(EEXIST);
          TRY(fits(*there));
          TRY(there->perm.Check(creds, static_cast<uint32_t>(flags) & 0777));
          return there->perm.id;
        }
        if (!(flags & kIpcCreate)) return Errno(ENOENT);
        if (fresh) return AddLocked(fresh);
      }
      fresh = TRY(make());
    }
  }

 private:
  static constexpr int kMask = (1 << kShift) - 1;
  const size_t max_;
  std::map<int, RefPtr<T>> objects_ GUARDED_BY(mu);
  int last_ GUARDED_BY(mu) = -1;
  int sequence_ GUARDED_BY(mu) = 0;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_IPC_IPC_IDS_H_
