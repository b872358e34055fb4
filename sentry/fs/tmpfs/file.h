// TmpfsFile: a regular file of tmpfs, or a memfd: contents in the memory file.
//
// Two maps: extents say where a range of the file lives in the memory file, reserved in growing chunks so that a file
// is few mappings on the host; present says which of those pages belong to the file, are charged to the superblock and
// count as data. Offsets of the memory file cost nothing, pages do.
//
// Locks: dir_lock (the vfs') excludes writers, truncation and hole punching from each other and from readers, who hold
// it shared so that the pages they copy from stay theirs. Faults take no dir_lock (the copy under it may fault):
// changes of the maps are serialized by grow_lock_, which nothing is copied under, and the maps are read under mu_.
// Pages are freed in the order: out of the maps, out of all address spaces, back to the memory file.
#ifndef SENTRY_FS_TMPFS_FILE_H_
#define SENTRY_FS_TMPFS_FILE_H_

#include "sentry/fs/tmpfs/inode.h"
#include "sentry/mm/mappable.h"
#include "sentry/vfs/regular_file.h"

namespace sentry::tmpfs {

// F_SEAL_*.
inline constexpr uint32_t kSealSeal = 1, kSealShrink = 2, kSealGrow = 4, kSealWrite = 8, kSealFutureWrite = 16,
                          kSealExec = 32;

class TmpfsFile final : public TmpfsInode, public Mappable {
 public:
  TmpfsFile(RefPtr<TmpfsSuperblock> sb, const NewNode& node, uint32_t seals);
  ~TmpfsFile() override;

  // Size changes with dir_lock held exclusively.
  Result<void> SetAttr(const AttrChange& change) override;
  Result<RefPtr<FileDescription>> Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) override;

  // --- Mappable
  Result<HostPages> Translate(uint64_t offset, uint64_t length, bool for_write) override EXCLUDES(mu_, grow_lock_);
  Identity MappedIdentity() const override EXCLUDES(mu_);
  Result<void> PunchHole(uint64_t offset, uint64_t length) override;

  // --- For descriptions.
  Result<size_t> Read(IoBuffer& to, int64_t offset, size_t max, bool touch_atime) EXCLUDES(mu_);
  // With dir_lock held exclusively.
  Result<size_t> Write(IoBuffer& from, int64_t offset, size_t max) EXCLUDES(mu_, grow_lock_);
  Result<void> Allocate(int mode, int64_t offset, int64_t length);
  // The next offset of data or of a hole at or after `offset`; ENXIO beyond the end.
  Result<int64_t> SeekData(int64_t offset, bool hole) EXCLUDES(mu_);
  int64_t size() const EXCLUDES(mu_);
  uint32_t seals() const { return seals_.load(std::memory_order_acquire); }
  Result<void> AddSeals(uint32_t seals);
  // What /proc/pid/maps calls a mapping of it: the first path that it is mapped by.
  bool HasMappedName() const EXCLUDES(mu_);
  void SetMappedName(const std::string& name) EXCLUDES(mu_);

 private:
  struct Nothing {};
  struct ExtentTraits {  // value: offset in the memory file of the range's start
    static uint64_t Split(uint64_t& left, base::Range whole, uint64_t at) { return left + (at - whole.start); }
    static bool Merge(uint64_t& left, base::Range l, const uint64_t& right, base::Range) {
      return left + l.length() == right;
    }
  };
  struct PresentTraits {
    static Nothing Split(Nothing&, base::Range, uint64_t) { return {}; }
    static bool Merge(Nothing&, base::Range, const Nothing&, base::Range) { return true; }
  };
  // A part of the file that is in one place, or a hole.
  struct Piece {
    bool present = false;
    uint64_t memory = 0;  // of its start
    uint64_t end = 0;     // in the file; for a hole, where data starts again or UINT64_MAX
  };
  Piece FindLocked(uint64_t offset) const REQUIRES(mu_);
  Piece Find(uint64_t offset) const EXCLUDES(mu_);
  // Makes the pages of [start, end), a hole, present: at least the first, perhaps not all. Returns the end of what is
  // present now.
  Result<uint64_t> MakePresent(uint64_t start, uint64_t end) REQUIRES(grow_lock_) EXCLUDES(mu_);
  // Reserves memory for all of [start, end) where there is none.
  Result<void> Reserve(uint64_t start, uint64_t end) REQUIRES(grow_lock_) EXCLUDES(mu_);
  // Takes whole pages of [start, end) out of the file; with dir_lock held exclusively.
  void FreePages(uint64_t start, uint64_t end, bool keep_private) EXCLUDES(mu_, grow_lock_);
  void ZeroPart(uint64_t start, uint64_t end) EXCLUDES(mu_);
  Result<void> Resize(int64_t size) EXCLUDES(mu_, grow_lock_);

  base::FiberMutex grow_lock_ ACQUIRED_BEFORE(mu_);
  base::IntervalMap<uint64_t, ExtentTraits> extents_ GUARDED_BY(mu_);
  base::IntervalMap<Nothing, PresentTraits> present_ GUARDED_BY(mu_);
  uint64_t reserved_bytes_ GUARDED_BY(mu_) = 0;
  std::atomic<uint32_t> seals_;
  std::string mapped_name_ GUARDED_BY(mu_);
};

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_FILE_H_
