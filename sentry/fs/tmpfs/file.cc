#include "sentry/fs/tmpfs/file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "base/safe_copy_unsafe.h"
#include "sentry/vfs/vfs.h"

namespace sentry::tmpfs {
namespace {

constexpr uint64_t kFirstChunk = 16 << 10;
constexpr uint64_t kMaxChunk = 2 << 20;
// What one step of a write makes present, and what a fault makes present around it.
constexpr uint64_t kWriteStep = 2 << 20;
constexpr uint64_t kFaultStep = 64 << 10;

class TmpfsFileDescription final : public RegularFileDescription {
 public:
  TmpfsFileDescription(VfsPath path, uint32_t flags, const VfsContext& ctx)
      : RegularFileDescription(std::move(path), flags, ctx) {}
  TmpfsFile& file() const { return static_cast<TmpfsFile&>(*path().dentry->inode_ptr()); }

  Result<int64_t> Seek(int64_t offset, int whence) override {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return FileDescription::Seek(offset, whence);
    base::FiberMutexLock l(position_lock_);
    int64_t at = TRY(file().SeekData(offset, whence == SEEK_HOLE));
    position_.store(at, std::memory_order_relaxed);
    return at;
  }
  Result<RefPtr<Mappable>> GetMappable(uint8_t prot, bool shared) override {
    if (shared && (prot & 2) && (file().seals() & (kSealWrite | kSealFutureWrite))) return Errno(EPERM);
    if (!file().HasMappedName()) file().SetMappedName(MappedName());
    return RefPtr<Mappable>(&file());
  }
  bool MayBeMappedForWriting() const override { return (file().seals() & (kSealWrite | kSealFutureWrite)) == 0; }
  Result<void> Fsync(bool) override { return {}; }
  Result<void> Allocate(int mode, int64_t offset, int64_t length) override {
    if (!writable()) return Errno(EBADF);
    return file().Allocate(mode, offset, length);
  }

 protected:
  Result<size_t> ReadAt(IoBuffer& to, int64_t offset, size_t max) override {
    return file().Read(to, offset, max, TouchesAtime());
  }
  Result<size_t> WriteAt(IoBuffer& from, int64_t offset, size_t max) override {
    return file().Write(from, offset, max);
  }
  Result<int64_t> CurrentSize() override { return file().size(); }
};

}  // namespace

TmpfsFile::TmpfsFile(RefPtr<TmpfsSuperblock> sb, const NewNode& node, uint32_t seals)
    : TmpfsInode(std::move(sb), FileType::kRegular, node), seals_(seals) {}

TmpfsFile::~TmpfsFile() NO_THREAD_SAFETY_ANALYSIS {
  uint64_t present = 0;
  for (auto it = present_.begin(); it != present_.end(); ++it) present += present_.RangeOf(it).length();
  sb().UnchargeBytes(present);
  for (auto it = extents_.begin(); it != extents_.end(); ++it) {
    sb().memory().DecRef({it->second.value, it->second.value + extents_.RangeOf(it).length()});
  }
}

int64_t TmpfsFile::size() const {
  base::MutexLock l(mu_);
  return attr_.size;
}

TmpfsFile::Piece TmpfsFile::FindLocked(uint64_t offset) const {
  auto it = present_.LowerBound(offset);
  if (it == present_.end()) return {false, 0, UINT64_MAX};
  if (it->first > offset) return {false, 0, it->first};
  auto extent = extents_.Find(offset);
  CHECK(extent != extents_.end());
  return {true, extent->second.value + (offset - extent->first), std::min(it->second.end, extent->second.end)};
}

TmpfsFile::Piece TmpfsFile::Find(uint64_t offset) const {
  base::MutexLock l(mu_);
  return FindLocked(offset);
}

Result<void> TmpfsFile::Reserve(uint64_t start, uint64_t end) {
  while (start < end) {
    base::Range gap;
    uint64_t after = 0;
    {
      base::MutexLock l(mu_);
      auto it = extents_.LowerBound(start);
      if (it != extents_.end() && it->first <= start) {
        start = it->second.end;
        continue;
      }
      // The gap around it, cut to the chunk that this file deserves by now, or to what is asked for.
      uint64_t gap_end = it == extents_.end() ? UINT64_MAX - kPageMask : it->first;
      uint64_t gap_start = 0;
      if (it != extents_.begin()) {
        auto prev = std::prev(it);
        gap_start = prev->second.end;
        if (gap_start == start) after = prev->second.value + extents_.RangeOf(prev).length();
      }
      uint64_t chunk = std::clamp(std::bit_ceil(std::max(reserved_bytes_, end - start)), kFirstChunk, kMaxChunk);
      gap.start = std::max(gap_start, start & ~(chunk - 1));
      gap.end = std::min(gap_end, std::max(end, (start & ~(chunk - 1)) + chunk));
      if (gap.start < start) after = gap.start == gap_start ? after : 0;
    }
    // The same place within 2 MiB as in the file, so that large mappings can be huge pages on the host.
    uint64_t congruent = gap.length() >= kMaxChunk && after == 0 ? gap.start : 0;
    platform::FileRange memory = TRY(sb().memory().Allocate(gap.length(), congruent, after));
    {
      base::MutexLock l(mu_);
      extents_.Insert(gap, memory.start);
      reserved_bytes_ += gap.length();
    }
    start = gap.end;
  }
  return {};
}

Result<uint64_t> TmpfsFile::MakePresent(uint64_t start, uint64_t end) {
  uint64_t charged = TRY(sb().ChargeBytes(end - start, kPageSize));
  end = start + charged;
  Result<void> reserved = Reserve(start, end);
  if (!reserved.ok()) {
    sb().UnchargeBytes(charged);
    return reserved.error();
  }
  base::MutexLock l(mu_);
  present_.Insert({start, end}, Nothing{});
  attr_.blocks += static_cast<int64_t>(charged / 512);
  return end;
}

Result<size_t> TmpfsFile::Read(IoBuffer& to, int64_t offset, size_t max, bool touch_atime) {
  size_t done = 0;
  base::ReaderLock lock(dir_lock);
  {
    base::MutexLock l(mu_);
    if (offset >= attr_.size) return size_t{0};
    max = static_cast<size_t>(std::min<uint64_t>(max, static_cast<uint64_t>(attr_.size - offset)));
  }
  if (touch_atime) {
    FileTimeNs now = vfs::FileNow();
    base::MutexLock l(mu_);
    if (RelatimeNeedsUpdate(attr_, now)) attr_.atime = now;
  }
  while (done < max) {
    uint64_t at = static_cast<uint64_t>(offset) + done;
    Piece piece = Find(at);
    size_t n = static_cast<size_t>(std::min<uint64_t>(max - done, piece.end - at));
    Result<size_t> moved = size_t{0};
    if (piece.present && sb().memory().on_host_file()) {
      // Not through a mapping of ours: what it touches stays resident for our account.
      moved = to.ReadFromHost(sb().memory().fd(), static_cast<int64_t>(piece.memory), n);
    } else if (piece.present) {
      auto span = sb().memory().Map({piece.memory & ~kPageMask, PageRoundUp(piece.memory + n)});
      size_t skip = piece.memory & kPageMask;
      n = std::min(n, span.size() - skip);
      moved = to.CopyOut(span.subspan(skip, n));
    } else {
      moved = to.ZeroOut(n);
    }
    if (!moved.ok()) {
      if (done > 0) return done;
      return moved;
    }
    done += *moved;
    if (*moved < n) break;
  }
  return done;
}

Result<size_t> TmpfsFile::Write(IoBuffer& from, int64_t offset, size_t max) {
  uint32_t sealed = seals();
  if (sealed & (kSealWrite | kSealFutureWrite)) return Errno(EPERM);
  if (sealed & kSealGrow) {
    // shmem_write_begin: the part below the end may still be written.
    int64_t end = size();
    if (offset >= end) return Errno(EPERM);
    max = static_cast<size_t>(std::min<uint64_t>(max, static_cast<uint64_t>(end - offset)));
  }
  size_t done = 0;
  Result<size_t> failure = size_t{0};
  while (done < max) {
    uint64_t at = static_cast<uint64_t>(offset) + done;
    Piece piece = Find(at);
    bool fresh = !piece.present;
    if (fresh) {
      base::FiberMutexLock g(grow_lock_);
      piece = Find(at);  // a fault may have been here meanwhile
      if (!piece.present) {
        uint64_t end = std::min({piece.end, PageRoundUp(at + (max - done)), PageRoundDown(at) + kWriteStep});
        Result<uint64_t> present = MakePresent(PageRoundDown(at), end);
        if (!present.ok()) {
          failure = present.error();
          break;
        }
        piece = Find(at);
      }
    }
    size_t n = static_cast<size_t>(std::min<uint64_t>(max - done, piece.end - at));
    Result<size_t> moved = size_t{0};
    if (fresh || sb().memory().on_host_file()) {
      // One pwrite fills fresh pages at a third of the cost of faulting them into our mapping.
      moved = from.WriteToHost(sb().memory().fd(), static_cast<int64_t>(piece.memory), n);
    } else {
      auto span = sb().memory().Map({piece.memory & ~kPageMask, PageRoundUp(piece.memory + n)});
      size_t skip = piece.memory & kPageMask;
      n = std::min(n, span.size() - skip);
      moved = from.CopyIn(span.subspan(skip, n));
    }
    if (!moved.ok()) {
      failure = moved;
      break;
    }
    done += *moved;
    if (*moved == 0) {
      failure = Errno(EFAULT);
      break;
    }
  }
  if (done == 0) return failure;
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  attr_.size = std::max(attr_.size, offset + static_cast<int64_t>(done));
  attr_.mtime = attr_.ctime = now;
  return done;
}

Result<HostPages> TmpfsFile::Translate(uint64_t offset, uint64_t length, bool for_write) {
  uint64_t limit;
  Piece piece;
  {
    base::MutexLock l(mu_);
    limit = PageRoundUp(static_cast<uint64_t>(attr_.size));
    if (offset >= limit) return Errno(EINVAL);
    piece = FindLocked(offset);
  }
  if (!piece.present) {
    base::FiberMutexLock g(grow_lock_);
    uint64_t step;
    {
      base::MutexLock l(mu_);
      limit = PageRoundUp(static_cast<uint64_t>(attr_.size));
      if (offset >= limit) return Errno(EINVAL);
      piece = FindLocked(offset);
      // Generous to files that have much already.
      step = std::clamp(std::bit_floor(std::max<uint64_t>(static_cast<uint64_t>(attr_.blocks) * 512 / 4, 1)),
                        kFaultStep, kMaxChunk);
    }
    if (!piece.present) {
      uint64_t want = offset + std::max(kPageSize, std::min(PageRoundUp(length), step));
      TRY(MakePresent(offset, std::min({piece.end, limit, want})));
      piece = Find(offset);
    }
  }
  return HostPages{.fd = sb().memory().fd(),
                   .offset = piece.memory,
                   .length = std::min(piece.end, std::max(limit, offset + kPageSize)) - offset,
                   .memory_file = !sb().memory().on_host_file()};
}

Mappable::Identity TmpfsFile::MappedIdentity() const {
  base::MutexLock l(mu_);
  return {mapped_name_, attr_.dev, attr_.ino};
}

bool TmpfsFile::HasMappedName() const {
  base::MutexLock l(mu_);
  return !mapped_name_.empty();
}

void TmpfsFile::SetMappedName(const std::string& name) {
  base::MutexLock l(mu_);
  if (mapped_name_.empty()) mapped_name_ = name;
}

Result<void> TmpfsFile::PunchHole(uint64_t offset, uint64_t length) {
  return Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<int64_t>(offset),
                  static_cast<int64_t>(length));
}

void TmpfsFile::FreePages(uint64_t start, uint64_t end, bool keep_private) {
  if (start >= end) return;
  std::vector<platform::FileRange> freed;
  uint64_t bytes = 0;
  {
    base::FiberMutexLock g(grow_lock_);
    base::MutexLock l(mu_);
    present_.Remove({start, end}, [&](base::Range r, Nothing&&) { bytes += r.length(); });
    uint64_t unreserved = 0;
    extents_.Remove({start, end}, [&](base::Range r, uint64_t&& at) {
      freed.push_back({at, at + r.length()});
      unreserved += r.length();
    });
    reserved_bytes_ -= unreserved;
    attr_.blocks -= static_cast<int64_t>(bytes / 512);
  }
  InvalidateMappings(start, end, keep_private);
  for (const auto& range : freed) sb().memory().DecRef(range);
  sb().UnchargeBytes(bytes);
}

void TmpfsFile::ZeroPart(uint64_t start, uint64_t end) {
  while (start < end) {
    Piece piece = Find(start);
    uint64_t stop = std::min(piece.end, end);
    if (piece.present) {
      auto span = sb().memory().Map({piece.memory & ~kPageMask, PageRoundUp(piece.memory + (stop - start))});
      size_t skip = piece.memory & kPageMask;
      stop = std::min<uint64_t>(stop, start + (span.size() - skip));
      base::SafeZero(span.data() + skip, stop - start);
    }
    start = stop;
  }
}

Result<void> TmpfsFile::Resize(int64_t size) {
  if (size < 0) return Errno(EINVAL);
  FileTimeNs now = vfs::FileNow();
  int64_t old;
  {
    base::MutexLock l(mu_);
    old = attr_.size;
    if (size < old && (seals() & kSealShrink)) return Errno(EPERM);
    if (size > old && (seals() & kSealGrow)) return Errno(EPERM);
    attr_.size = size;
    attr_.mtime = attr_.ctime = now;
  }
  if (size < old) {
    uint64_t first = PageRoundUp(static_cast<uint64_t>(size));
    ZeroPart(static_cast<uint64_t>(size), first);
    FreePages(first, UINT64_MAX - kPageMask, /*keep_private=*/false);
  }
  return {};
}

Result<void> TmpfsFile::SetAttr(const AttrChange& change) {
  if (change.size) TRY(Resize(*change.size));
  if (change.mode && (seals() & kSealExec)) {
    base::MutexLock l(mu_);
    if ((attr_.mode ^ *change.mode) & 0111) return Errno(EPERM);
  }
  AttrChange rest = change;
  rest.size.reset();
  return TmpfsInode::SetAttr(rest);
}

Result<void> TmpfsFile::Allocate(int mode, int64_t offset, int64_t length) {
  // shmem_fallocate.
  if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) return Errno(EOPNOTSUPP);
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  int64_t end;
  if (__builtin_add_overflow(offset, length, &end)) return Errno(EFBIG);
  uint64_t first = static_cast<uint64_t>(offset), last = static_cast<uint64_t>(end);
  base::WriterLock lock(dir_lock);
  if (mode & FALLOC_FL_PUNCH_HOLE) {
    if (!(mode & FALLOC_FL_KEEP_SIZE)) return Errno(EOPNOTSUPP);
    if (seals() & (kSealWrite | kSealFutureWrite)) return Errno(EPERM);
    uint64_t inner_first = PageRoundUp(first), inner_last = PageRoundDown(last);
    if (inner_first > inner_last) {
      ZeroPart(first, last);
    } else {
      ZeroPart(first, inner_first);
      ZeroPart(inner_last, last);
      FreePages(inner_first, inner_last, /*keep_private=*/true);
    }
    FileTimeNs now = vfs::FileNow();
    base::MutexLock l(mu_);
    attr_.mtime = attr_.ctime = now;
    return {};
  }
  if (end > size() && !(mode & FALLOC_FL_KEEP_SIZE) && (seals() & kSealGrow)) return Errno(EPERM);
  if (PageRoundUp(last) - PageRoundDown(first) > sb().capacity()) return Errno(ENOSPC);
  // All or nothing, as Linux: what is made here is taken back if the rest does not fit.
  std::vector<base::Range> made;
  uint64_t page_end = PageRoundUp(last);
  Result<void> failure;
  for (uint64_t at = PageRoundDown(first); at < page_end;) {
    base::FiberMutexLock g(grow_lock_);
    Piece piece = Find(at);
    if (piece.present) {
      at = piece.end;
      continue;
    }
    // In steps, so that faults of others get a turn.
    Result<uint64_t> present = MakePresent(at, std::min({piece.end, page_end, at + (uint64_t{1} << 30)}));
    if (!present.ok()) {
      failure = present.error();
      break;
    }
    made.push_back({at, *present});
    at = *present;
  }
  if (!failure.ok()) {
    for (const base::Range& r : made) FreePages(r.start, r.end, /*keep_private=*/true);
    return failure;
  }
  FileTimeNs now = vfs::FileNow();
  base::MutexLock l(mu_);
  if (!(mode & FALLOC_FL_KEEP_SIZE)) attr_.size = std::max(attr_.size, end);
  attr_.ctime = now;
  return {};
}

Result<int64_t> TmpfsFile::SeekData(int64_t offset, bool hole) {
  base::MutexLock l(mu_);
  if (offset < 0 || offset >= attr_.size) return Errno(ENXIO);
  uint64_t at = static_cast<uint64_t>(offset), end = static_cast<uint64_t>(attr_.size);
  if (hole) {
    // Two adjacent present ranges merge, so the end of one is a hole; pieces end at extents.
    auto it = present_.Find(at);
    if (it != present_.end()) at = it->second.end;
    return static_cast<int64_t>(std::min(at, end));
  }
  auto it = present_.LowerBound(at);
  if (it == present_.end() || it->first >= end) return Errno(ENXIO);
  return static_cast<int64_t>(std::max(at, it->first));
}

Result<void> TmpfsFile::AddSeals(uint32_t seals) {
  // Under dir_lock no write is under way.
  base::WriterLock lock(dir_lock);
  uint32_t old = this->seals();
  if (old & kSealSeal) return Errno(EPERM);
  if ((seals & kSealWrite) && !(old & kSealWrite) && HasSharedWritableMappings()) return Errno(EBUSY);
  if (seals & kSealExec) {
    base::MutexLock l(mu_);
    // memfd_add_seals: an executable file that is sealed so cannot be written either.
    if (attr_.mode & 0111) seals |= kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite;
  }
  seals_.store(old | seals, std::memory_order_release);
  return {};
}

Result<RefPtr<FileDescription>> TmpfsFile::Open(const VfsPath& path, uint32_t flags, VfsContext& ctx) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<TmpfsFileDescription>(path, flags, ctx)));
}

}  // namespace sentry::tmpfs
