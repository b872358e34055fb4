#include "sentry/fs/mqueue/mqueue_fs.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "sentry/fs/kernfs/kernfs.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/ipc/mqueue.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

namespace sentry::mqueue {
namespace {

constexpr int64_t kMagic = 0x19800202;  // MQUEUE_MAGIC, ipc/mqueue.c
constexpr int64_t kFileSize = 80;       // FILENT_SIZE

class QueueInode final : public kernfs::KernInode {
 public:
  QueueInode(RefPtr<kernfs::KernSuperblock> sb, RefPtr<Mqueue> queue)
      : KernInode(std::move(sb), FileType::kRegular, queue->mode(),
                  kernfs::KernSuperblock::kFirstComputedIno + queue->id()),
        queue_(std::move(queue)) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext&) override {
    return RefPtr<FileDescription>(TRY(base::TryMakeRef<MqueueFile>(queue_, path, flags)));
  }
  Mqueue& queue() const { return *queue_; }

 protected:
  kernfs::Owner GetOwner() override { return {queue_->owner(), queue_->group()}; }
  int64_t Size() override { return kFileSize; }

 private:
  const RefPtr<Mqueue> queue_;
};

class QueueDir final : public kernfs::KernDir {
 public:
  QueueDir(RefPtr<kernfs::KernSuperblock> sb, RefPtr<IpcNamespace> ipc)
      : KernDir(std::move(sb), 01777), ipc_(std::move(ipc)) {}

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    RefPtr<Mqueue> queue = ipc_->mqueues().Find(std::string(name));
    if (!queue) return Errno(ENOENT);
    return RefPtr<Inode>(base::MakeRef<QueueInode>(kern_ref(), std::move(queue)));
  }
  Result<std::vector<Entry>> List(int64_t after) override {
    std::vector<Entry> entries;
    for (auto& [name, id] : ipc_->mqueues().List()) {
      const auto position = static_cast<int64_t>(id);
      if (position <= after) continue;
      entries.push_back({name, FileType::kRegular, kernfs::KernSuperblock::kFirstComputedIno + id, position});
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.position < b.position; });
    return entries;
  }
  // As mq_open(2) with O_CREAT and no attributes.
  Result<RefPtr<Inode>> Create(std::string_view name, const NewNode& node) override {
    Task* task = Task::Current();
    if (task == nullptr) return Errno(EPERM);
    RefPtr<Mqueue> queue =
        TRY(ipc_->mqueues().Open(*task, std::string(name), O_RDWR | O_CREAT | O_EXCL, node.mode, nullptr));
    return RefPtr<Inode>(base::MakeRef<QueueInode>(kern_ref(), std::move(queue)));
  }
  Result<void> Unlink(std::string_view name, Inode& child) override {
    // The caller has checked the permissions of a sticky directory.
    if (!ipc_->mqueues().Remove(std::string(name), static_cast<QueueInode&>(child).queue())) return Errno(ENOENT);
    return {};
  }

 private:
  const RefPtr<IpcNamespace> ipc_;
};

}  // namespace

void Register(Kernel& kernel) {
  vfs::FileSystemType type;
  type.name = "mqueue";
  type.mount = [&kernel](VfsContext&, const vfs::MountRequest&) -> Result<vfs::NewMount> {
    Task* task = Task::Current();
    RefPtr<IpcNamespace> ipc = task != nullptr ? RefPtr<IpcNamespace>(&task->ipc()) : kernel.root_ipc();
    auto sb = base::MakeRef<kernfs::KernSuperblock>("mqueue", kMagic, /*revalidate=*/true);
    RefPtr<Inode> root = base::MakeRef<QueueDir>(sb, std::move(ipc));
    return vfs::NewMount{sb, Dentry::MakeRoot(root)};
  };
  vfs::RegisterFileSystem(std::move(type));
}

}  // namespace sentry::mqueue
