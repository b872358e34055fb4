#include "sentry/fs/proc/mem_file.h"

#include <algorithm>

#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

// Bound to the mm that the task had at open, as on Linux.
class MemDescription final : public FileDescription {
 public:
  MemDescription(VfsPath path, uint32_t flags, RefPtr<MemoryManager> mm) : FileDescription(std::move(path), flags), mm_(std::move(mm)) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override { return Transfer(to, offset, /*write=*/false); }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags&) override { return Transfer(from, offset, /*write=*/true); }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    base::FiberMutexLock l(position_lock_);
    if (whence == SEEK_CUR) {
      offset += position();
    } else if (whence != SEEK_SET) {
      return Errno(EINVAL);
    }
    position_.store(offset, std::memory_order_relaxed);
    return offset;
  }

 private:
  Result<size_t> Transfer(IoBuffer& buffer, int64_t offset, bool write) {
    std::vector<std::byte> bounce(std::min<size_t>(buffer.remaining(), 64 << 10));
    Addr at = static_cast<Addr>(offset);
    size_t total = 0;
    while (buffer.remaining() > 0) {
      std::span<std::byte> piece = std::span(bounce).first(std::min(bounce.size(), buffer.remaining()));
      Result<size_t> n = size_t{0};
      if (write) {
        size_t in = TRY(buffer.CopyIn(piece));
        n = mm_->ForceCopyOut(at, piece.first(in));
      } else {
        n = mm_->ForceCopyIn(piece, at);
        if (n.ok()) n = buffer.CopyOut(piece.first(*n));
      }
      if (!n.ok()) return total != 0 ? Result<size_t>(total) : Errno(EIO);
      total += *n;
      at += *n;
      if (*n != piece.size()) break;
    }
    return total;
  }
  RefPtr<MemoryManager> mm_;
};

class MemFile final : public kernfs::KernInode {
 public:
  MemFile(RefPtr<ProcSuperblock> sb, RefPtr<Task> task)
      : KernInode(std::move(sb), FileType::kRegular, 0600, OwnerOf(task)), task_(std::move(task)) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    TRY(MayInspect(ctx, *task_));
    RefPtr<MemoryManager> mm = task_->SnapshotMm();
    if (!mm) return Errno(ESRCH);
    return RefPtr<FileDescription>(base::MakeRef<MemDescription>(path, flags, std::move(mm)));
  }

 private:
  RefPtr<Task> task_;
};

}  // namespace

RefPtr<Inode> NewMemFile(RefPtr<ProcSuperblock> sb, RefPtr<Task> task) {
  return base::MakeRef<MemFile>(std::move(sb), std::move(task));
}

}  // namespace sentry::proc
