#include "sentry/fs/proc/mem_file.h"

#include <algorithm>

#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

// Bound to the mm that the task had at open, as on Linux.
class MemDescription final : public FileDescription {
 public:
  MemDescription(VfsPath path, uint32_t flags, RefPtr<MemoryManager> mm)
      : FileDescription(std::move(path), flags), mm_(std::move(mm)) {}
  bool Seekable() const override { return true; }
  Result<size_t> PRead(IoBuffer& to, int64_t offset, const IoFlags&) override {
    return Transfer(to, offset, /*write=*/false);
  }
  Result<size_t> PWrite(IoBuffer& from, int64_t offset, const IoFlags&) override {
    return Transfer(from, offset, /*write=*/true);
  }
  Result<int64_t> Seek(int64_t offset, int whence) override {
    base::FiberMutexLock l(position_lock_);
    // mem_lseek: every 64-bit value is an address.
    if (whence == SEEK_CUR) {
      offset = static_cast<int64_t>(static_cast<uint64_t>(offset) + static_cast<uint64_t>(position()));
    } else if (whence != SEEK_SET) {
      return Errno(EINVAL);
    }
    position_.store(offset, std::memory_order_relaxed);
    return offset;
  }

 private:
  Result<size_t> Transfer(IoBuffer& buffer, int64_t offset, bool write) {
    // mem_rw: nothing of an address space that its last thread has left.
    if (!mm_ || mm_->users() <= 0) return size_t{0};
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
        if (n.ok()) {
          // The reader's own buffer is EFAULT, what the address space lacks EIO.
          n = buffer.CopyOut(piece.first(*n));
          if (!n.ok() && total == 0) return n.error();
        }
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
  MemFile(const TaskRef& ref, uint64_t ino) : KernInode(ref.sb, FileType::kRegular, 0600, ino), task_(ref.task) {}
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override {
    if (!Alive(*task_)) return Errno(ESRCH);
    TRY(MayInspect(ctx, *task_));
    return RefPtr<FileDescription>(TRY(base::TryMakeRef<MemDescription>(path, flags, task_->SnapshotMm())));
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

}  // namespace

RefPtr<Inode> NewMemFile(const TaskRef& ref, uint64_t ino) { return base::MakeRef<MemFile>(ref, ino); }

}  // namespace sentry::proc
