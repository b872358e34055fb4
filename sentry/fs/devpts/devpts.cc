#include "sentry/fs/devpts/devpts.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include <memory>

#include "sentry/fs/devpts/superblock.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry::devpts {
namespace {

struct Instance {
  RefPtr<DevptsSuperblock> sb;
  RefPtr<Dentry> root;
};

// What device numbers alone mean. Shared by what is registered; keeps the first instance.
struct FirstInstance final : public base::RefCounted {
  base::Mutex mu;
  Instance instance GUARDED_BY(mu);
};

// The devpts that `path` lies in, or the first one; null sb if there is none.
Instance InstanceOf(const VfsPath& path, FirstInstance& first) {
  if (auto* own = dynamic_cast<DevptsSuperblock*>(&path.dentry->superblock())) {
    RefPtr<Dentry> parent = path.dentry->parent();
    if (parent != nullptr) return {RefPtr<DevptsSuperblock>(own), std::move(parent)};
  }
  base::MutexLock lock(first.mu);
  return first.instance;
}

Result<RefPtr<FileDescription>> OpenSlave(const VfsPath& path, uint32_t flags, VfsContext& ctx, FirstInstance& first) {
  RefPtr<Pty> pty;
  if (auto* slave = dynamic_cast<SlaveInode*>(path.dentry->inode_ptr())) {
    pty = slave->pty();
  } else if (Instance instance = InstanceOf(path, first); instance.sb != nullptr) {
    Attr attr = TRY(path.dentry->inode_ptr()->GetAttr());
    if (auto found = instance.sb->FindSlave(static_cast<int>(gnu_dev_minor(attr.rdev)))) pty = found->pty();
  }
  if (pty == nullptr) return Errno(EIO);
  auto file = TRY(pty->OpenTerminal(path, flags));
  if (Task* task = TaskOf(ctx)) pty->MaybeBecomeControlling(*task, flags);
  return file;
}

}  // namespace

void Register(Kernel& kernel) {
  auto first = base::MakeRef<FirstInstance>();

  vfs::FileSystemType type;
  type.name = "devpts";
  type.mount = [&kernel, first](VfsContext&, const vfs::MountRequest& request) -> Result<vfs::NewMount> {
    Options options = TRY(ParseOptions(request.options));
    auto sb = base::MakeRef<DevptsSuperblock>(kernel, options);
    RefPtr<Dentry> root = Dentry::MakeRoot(base::MakeRef<RootInode>(sb, options.ptmx_mode));
    {
      base::MutexLock lock(first->mu);
      if (first->instance.sb == nullptr) first->instance = {sb, root};
    }
    return vfs::NewMount{std::move(sb), std::move(root)};
  };
  vfs::RegisterFileSystem(std::move(type));

  vfs::RegisterDevice(FileType::kCharDevice, 5, 2,
                      [first](const VfsPath& path, uint32_t flags, VfsContext& ctx) -> Result<RefPtr<FileDescription>> {
                        Instance instance = InstanceOf(path, *first);
                        if (instance.sb == nullptr) return Errno(ENODEV);
                        return instance.sb->OpenPtmx(path, *instance.root, flags, ctx);
                      });
  vfs::RegisterDevice(FileType::kCharDevice, Pty::kSlaveMajor, -1,
                      [first](const VfsPath& path, uint32_t flags, VfsContext& ctx) {
                        return OpenSlave(path, flags, ctx, *first);
                      });
}

}  // namespace sentry::devpts
