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
  RefPtr<Terminal> terminal;
  if (auto* slave = dynamic_cast<SlaveInode*>(path.dentry->inode_ptr())) {
    terminal = slave->terminal();
  } else if (Instance instance = InstanceOf(path, first); instance.sb != nullptr) {
    Attr attr = TRY(path.dentry->inode_ptr()->GetAttr());
    if (auto found = instance.sb->FindSlave(static_cast<int>(gnu_dev_minor(attr.rdev)))) terminal = found->terminal();
  }
  if (terminal == nullptr) return Errno(EIO);
  auto file = TRY(terminal->OpenTerminal(path, flags));
  if (Task* task = TaskOf(ctx)) terminal->MaybeBecomeControlling(*task, flags);
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
  vfs::RegisterDevice(
      FileType::kCharDevice, Pty::kSlaveMajor, -1,
      [first](const VfsPath& path, uint32_t flags, VfsContext& ctx) { return OpenSlave(path, flags, ctx, *first); });
}

Result<VfsPath> NameTerminal(VfsContext& ctx, Terminal& terminal, uint32_t uid) {
  WalkResult dir = TRY(WalkPath(ctx, ctx.root, "/dev/pts", static_cast<uint32_t>(WalkFlag::kFollow)));
  auto* sb = dynamic_cast<DevptsSuperblock*>(&dir.path.dentry->superblock());
  if (sb == nullptr) return Errno(ENODEV);
  int index = TRY(sb->AddTerminal(terminal, uid));
  return TRY(WalkPath(ctx, dir.path, std::to_string(index), 0)).path;
}

}  // namespace sentry::devpts
