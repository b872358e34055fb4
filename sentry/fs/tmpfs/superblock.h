// TmpfsSuperblock: what a tmpfs is charged for.
#ifndef SENTRY_FS_TMPFS_SUPERBLOCK_H_
#define SENTRY_FS_TMPFS_SUPERBLOCK_H_

#include <algorithm>
#include <atomic>

#include "platform/memory_file.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/inode.h"

namespace sentry::tmpfs {

class TmpfsSuperblock final : public Superblock {
 public:
  TmpfsSuperblock(platform::MemoryFile& memory, const Options& options) : memory_(memory), options_(options) {}
  TmpfsSuperblock(std::unique_ptr<platform::MemoryFile> memory, const Options& options)
      : owned_memory_(std::move(memory)), memory_(*owned_memory_), options_(options) {}

  std::string_view type_name() const override { return "tmpfs"; }
  Result<FsStat> StatFs() override;
  std::string MountOptions() const override;

  platform::MemoryFile& memory() { return memory_; }
  // Bytes that can be charged. Differs from Linux: there is a limit also without one, for what is present costs the
  // sentry memory of its own, and fallocate(2) makes much present at once without using any of the host's.
  uint64_t capacity() const { return std::min(options_.size, kMostBytes); }
  // Up to `bytes`, but at least `least`: what was charged. ENOSPC.
  Result<uint64_t> ChargeBytes(uint64_t bytes, uint64_t least);
  void UnchargeBytes(uint64_t bytes) { used_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  Result<void> ChargeInode();
  void UnchargeInode() { used_inodes_.fetch_sub(1, std::memory_order_relaxed); }
  uint64_t NextIno() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr uint64_t kMostBytes = uint64_t{4} << 40;
  const std::unique_ptr<platform::MemoryFile> owned_memory_;  // may be null
  platform::MemoryFile& memory_;
  const Options options_;
  std::atomic<uint64_t> used_bytes_{0};
  std::atomic<uint64_t> used_inodes_{0};
  std::atomic<uint64_t> next_ino_{1};
};

// Takes an inode's charge until it is told to keep it: creations fail in several ways.
class InodeCharge {
 public:
  static Result<InodeCharge> Take(TmpfsSuperblock& sb) {
    TRY(sb.ChargeInode());
    return InodeCharge(&sb);
  }
  InodeCharge(InodeCharge&& o) noexcept : sb_(std::exchange(o.sb_, nullptr)) {}
  ~InodeCharge() {
    if (sb_ != nullptr) sb_->UnchargeInode();
  }
  void Keep() { sb_ = nullptr; }

 private:
  explicit InodeCharge(TmpfsSuperblock* sb) : sb_(sb) {}
  TmpfsSuperblock* sb_;
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_SUPERBLOCK_H_
