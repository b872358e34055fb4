// One instance of devpts: a directory of slaves, and ptmx.
#ifndef SENTRY_FS_DEVPTS_SUPERBLOCK_H_
#define SENTRY_FS_DEVPTS_SUPERBLOCK_H_

#include <map>
#include <string>

#include "base/mutex.h"
#include "sentry/fs/tty/pty.h"
#include "sentry/vfs/inode.h"

namespace sentry::devpts {

struct Options {
  uint32_t mode = 0600, ptmx_mode = 0;
  bool set_uid = false, set_gid = false;
  uint32_t uid = 0, gid = 0;
  int max = 4096;  // kernel.pty.max; ENOSPC beyond
};
// mount(2)'s data; EINVAL.
Result<Options> ParseOptions(std::string_view text);

// A node with attributes that can be changed: the directory, ptmx, a slave.
class DevptsInode : public Inode {
 public:
  DevptsInode(RefPtr<Superblock> sb, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev);
  Result<Attr> GetAttr() override EXCLUDES(mu_);
  Result<void> SetAttr(const AttrChange& change) override EXCLUDES(mu_);
  // Devices are opened through the registry.
  Result<RefPtr<FileDescription>> Open(const VfsPath&, uint32_t, VfsContext&) override { return Errno(ENXIO); }

 protected:
  base::Mutex mu_;
  Attr attr_ GUARDED_BY(mu_);
};

// The name of a terminal, until that ends: a pty when its master is closed, a host's terminal when nobody has it open
// any more.
class SlaveInode final : public DevptsInode {
 public:
  SlaveInode(RefPtr<Superblock> sb, uint64_t ino, uint32_t mode, uint32_t uid, uint32_t gid, uint64_t rdev,
             Terminal& terminal)
      : DevptsInode(std::move(sb), ino, mode, uid, gid, rdev), terminal_(&terminal) {}
  // Null once it has ended.
  RefPtr<Terminal> terminal() EXCLUDES(mu_) {
    base::MutexLock lock(mu_);
    if (terminal_ == nullptr || !terminal_->TryRef()) return nullptr;
    return RefPtr<Terminal>::Adopt(terminal_);
  }
  void Forget() EXCLUDES(mu_) {
    base::MutexLock lock(mu_);
    terminal_ = nullptr;
  }

 private:
  Terminal* terminal_ GUARDED_BY(mu_);  // not owned: Forget is called before it goes
};

class DevptsSuperblock final : public Superblock {
 public:
  DevptsSuperblock(Kernel& kernel, const Options& options) : kernel_(kernel), options_(options) {}
  std::string_view type_name() const override { return "devpts"; }
  Result<FsStat> StatFs() override;
  std::string MountOptions() const override;
  // Names come and go with masters.
  bool NeedsRevalidation() const override { return true; }
  bool CacheDentries() const override { return false; }

  // A new pty; the master's description, opened as `path` (a ptmx). `root`: of this instance. ENOSPC.
  Result<RefPtr<FileDescription>> OpenPtmx(const VfsPath& path, Dentry& root, uint32_t flags, VfsContext& ctx)
      EXCLUDES(mu_);
  // Gives a terminal of the host a name, as runc's come from the container's devpts. Its index. ENOSPC.
  Result<int> AddTerminal(Terminal& terminal, uint32_t uid) EXCLUDES(mu_);
  RefPtr<SlaveInode> FindSlave(int index) EXCLUDES(mu_);
  // The lowest index ≥ from, or −1.
  int NextIndex(int from) EXCLUDES(mu_);

  static constexpr uint64_t kRootIno = 1, kPtmxIno = 2, kFirstSlaveIno = 3;

 private:
  Result<int> FreeIndex() const REQUIRES(mu_);
  void Remove(int index) EXCLUDES(mu_);
  Kernel& kernel_;
  const Options options_;
  base::Mutex mu_;
  std::map<int, RefPtr<SlaveInode>> slaves_ GUARDED_BY(mu_);
};

class RootInode final : public DevptsInode {
 public:
  RootInode(RefPtr<DevptsSuperblock> sb, uint32_t ptmx_mode);
  Result<RefPtr<Inode>> Lookup(std::string_view name) override;
  Result<bool> Revalidate(std::string_view name, Inode* child) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;
  DevptsSuperblock& sb() const { return static_cast<DevptsSuperblock&>(superblock()); }

 private:
  const RefPtr<DevptsInode> ptmx_;
};

}  // namespace sentry::devpts

#endif  // SENTRY_FS_DEVPTS_SUPERBLOCK_H_
