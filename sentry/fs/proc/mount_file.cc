#include "sentry/fs/proc/mount_file.h"

#include "sentry/fs/proc/mount_text.h"

namespace sentry::proc {

namespace {

using Format = std::string (*)(MountNamespace& ns, const VfsPath& root);

// What an open description reads. It has no name; its description's inode is the MountFile that was opened.
class OpenedMounts final : public kernfs::TextFile {
 public:
  OpenedMounts(RefPtr<kernfs::KernSuperblock> sb, uint64_t ino, RefPtr<MountNamespace> ns, VfsPath root, Format format)
      : TextFile(std::move(sb), 0444, ino), ns_(std::move(ns)), root_(std::move(root)), format_(format) {}
  Result<std::string> Generate(VfsContext&, uint64_t& cursor) override {
    cursor = kDone;
    return format_(*ns_, root_);
  }
  base::WaitQueue* Events(RefPtr<base::RefCounted>* hold) override {
    *hold = ns_;
    return &ns_->changes;
  }

 private:
  const RefPtr<MountNamespace> ns_;
  const VfsPath root_;
  const Format format_;
};

class MountFile final : public kernfs::KernInode {
 public:
  MountFile(const TaskRef& ref, uint32_t permissions, uint64_t ino, Format format)
      : KernInode(ref.sb, FileType::kRegular, permissions, ino), task_(ref.task), format_(format) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    RefPtr<MountNamespace> ns = task_->SnapshotMounts();
    RefPtr<FsContext> fs = task_->SnapshotFs();
    if (!ns || !fs) return Errno(EINVAL);
    return base::MakeRef<OpenedMounts>(kern_ref(), ino(), std::move(ns), fs->root(), format_)->Open(path, flags, ctx);
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return KernInode::SetAttr(change);
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*task_); }

 private:
  const RefPtr<Task> task_;
  const Format format_;
};

}  // namespace

RefPtr<Inode> NewMountsFile(const TaskRef& ref, uint64_t ino) {
  return base::MakeRef<MountFile>(ref, 0444, ino, &MountsText);
}
RefPtr<Inode> NewMountinfoFile(const TaskRef& ref, uint64_t ino) {
  return base::MakeRef<MountFile>(ref, 0444, ino, &MountinfoText);
}
RefPtr<Inode> NewMountstatsFile(const TaskRef& ref, uint64_t ino) {
  return base::MakeRef<MountFile>(ref, 0400, ino, &MountstatsText);
}

}  // namespace sentry::proc
