// Files of /proc/<pid> that show an address space (fs/proc/base.c, proc_mem_open): bound to the one that the process
// had when the file was opened.
#ifndef SENTRY_FS_PROC_MM_FILE_H_
#define SENTRY_FS_PROC_MM_FILE_H_

#include <unistd.h>

#include "sentry/fs/kernfs/kernfs.h"
#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/process_text.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::proc {

class MmDescription : public FileDescription {
 public:
  MmDescription(VfsPath path, uint32_t flags, RefPtr<MemoryManager> mm)
      : FileDescription(std::move(path), flags), mm_(std::move(mm)) {}
  bool Seekable() const override { return true; }
  // mem_lseek: every 64-bit value is an address.
  Result<int64_t> Seek(int64_t offset, int whence) override {
    base::FiberMutexLock l(position_lock_);
    if (whence == SEEK_CUR) {
      offset = static_cast<int64_t>(static_cast<uint64_t>(offset) + static_cast<uint64_t>(position()));
    } else if (whence != SEEK_SET) {
      return Errno(EINVAL);
    }
    position_.store(offset, std::memory_order_relaxed);
    return offset;
  }

 protected:
  // Valid as long as the description. Null when there is nothing to see: no address space, or one that its last thread
  // has left.
  MemoryManager* LiveMm() const { return mm_ && mm_->users() > 0 ? mm_.get() : nullptr; }

 private:
  const RefPtr<MemoryManager> mm_;
};

// `Description`: an MmDescription with its constructor.
template <typename Description>
class MmFile final : public kernfs::KernInode {
 public:
  MmFile(const TaskRef& ref, uint32_t permissions, uint64_t ino)
      : KernInode(ref.sb, FileType::kRegular, permissions, ino), task_(ref.task) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    if (!Alive(*task_)) return Errno(ESRCH);
    TRY(MayInspect(ctx, *task_));
    return RefPtr<FileDescription>(TRY(base::TryMakeRef<Description>(path, flags, task_->SnapshotMm())));
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return KernInode::SetAttr(change);
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*task_); }

 private:
  const RefPtr<Task> task_;
};

}  // namespace sentry::proc

#endif  // SENTRY_FS_PROC_MM_FILE_H_
