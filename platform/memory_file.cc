#include "platform/memory_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <map>

#include "base/charged_memory.h"
#include "base/safe_copy_unsafe.h"
#include "base/syscall_unsafe.h"

namespace platform {
namespace {

constexpr int kMadvPopulateWrite = 23;  // MADV_POPULATE_WRITE, from Linux 5.14

constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t kTiB = uint64_t{1} << 40;
// Offsets below are in the sentry's one large mapping; beyond it windows are made when they are first touched.
constexpr uint64_t kLowBytes = kTiB;
constexpr uint64_t kWindowBytes = uint64_t{1} << 30;
constexpr size_t kMaxWindows = 16384;
// Reservations above this size come from the far region, so that sparse giants do not use up the mapped one.
constexpr uint64_t kGiantBytes = uint64_t{64} << 30;
// Free ranges looked at for a fit before the end of the used part is taken: offsets are cheap, time under the lock is
// not.
constexpr int kMaxProbes = 128;
// Freed pages that nobody has wanted for so long go back to the host; a look at them costs a wake-up.
constexpr base::MonotonicNs kIdleNs = 1'000'000'000, kTrimNs = 250'000'000;

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

uint64_t PageUp(uint64_t n) { return (n + kPageSize - 1) & ~(kPageSize - 1); }

// The first offset at or after `from` with the same place within 2 MiB as `address`.
uint64_t Congruent(uint64_t from, uint64_t address) {
  uint64_t want = address & (kHugePage - 1) & ~(kPageSize - 1);
  uint64_t have = from & (kHugePage - 1);
  return from + ((want - have) & (kHugePage - 1));
}

struct RefTraits {
  static uint32_t Split(uint32_t& left, base::Range, uint64_t) { return left; }
  static bool Merge(uint32_t& left, base::Range, const uint32_t& right, base::Range) { return left == right; }
};

using RefMap = base::IntervalMap<uint32_t, RefTraits>;

// Merges what has become equal in the range and at its ends, after all of it has changed.
void MergeRefs(RefMap& refs, FileRange range) {
  for (auto it = refs.LowerBound(range.start); it != refs.end() && it->first <= range.end;) {
    it = std::next(refs.MergeAround(it));
  }
}

// Free offsets of one region: disjoint, merged ranges.
class FreeRanges {
 public:
  explicit FreeRanges(FileRange all) { free_[all.start] = all.end; }

  bool Take(FileRange r) {
    auto it = free_.upper_bound(r.start);
    if (it == free_.begin()) return false;
    --it;
    if (it->second < r.end) return false;
    uint64_t end = it->second;
    if (it->first == r.start) {
      free_.erase(it);
    } else {
      it->second = r.start;
    }
    if (r.end < end) free_[r.end] = end;
    return true;
  }

  void Give(FileRange r) {
    auto next = free_.lower_bound(r.start);
    if (next != free_.begin()) {
      auto prev = std::prev(next);
      if (prev->second == r.start) {
        r.start = prev->first;
        free_.erase(prev);
      }
    }
    if (next != free_.end() && next->first == r.end) {
      r.end = next->second;
      free_.erase(next);
    }
    free_[r.start] = r.end;
  }

  // First fit, low offsets first: dense use keeps the page tables of the sentry's mapping small.
  bool FirstFit(uint64_t length, uint64_t congruent_to, FileRange& out) {
    int probes = 0;
    for (auto it = free_.begin(); it != free_.end() && probes < kMaxProbes; ++it, ++probes) {
      if (Fits(it->first, it->second, length, congruent_to, out)) return true;
    }
    if (free_.empty()) return false;
    auto last = std::prev(free_.end());
    return Fits(last->first, last->second, length, congruent_to, out);
  }

 private:
  static bool Fits(uint64_t start, uint64_t end, uint64_t length, uint64_t congruent_to, FileRange& out) {
    if (congruent_to != 0) start = Congruent(start, congruent_to);
    if (start >= end || end - start < length) return false;
    out = {start, start + length};
    return true;
  }
  std::map<uint64_t, uint64_t> free_;
};

}  // namespace

struct MemoryFile::Impl {
  explicit Impl(uint64_t low, uint64_t size) : low_bytes(low), low_free({0, low}), far_free({low, size}) {}

  Options options;
  bool on_host_file = false;
  uint64_t low_bytes;
  std::byte* low = nullptr;           // set once
  std::byte* inaccessible = nullptr;  // a PROT_NONE page, set once

  // All below: guarded by MemoryFile::mu_.
  FreeRanges low_free, far_free;
  RefMap refs;
  struct Pooled {
    FileRange range;
    base::MonotonicNs freed;
  };
  struct Pool {
    std::list<Pooled> ranges;  // oldest first
    uint64_t bytes = 0;
  };
  // Small ranges are cut to size, large ones serve the same size again.
  Pool pool, large_pool;
  std::map<uint64_t, std::byte*> windows;  // by offset / kWindowBytes
  uint64_t allocations = 0;
  std::unique_ptr<base::Timer> trim_timer;
  bool trim_armed = false;

  std::atomic<bool> counts{true};  // the host knows cachestat(2), as far as we know

  // The limit: usage as last seen on the host, and what has been handed out since.
  std::atomic<uint64_t> seen_usage{0};
  std::atomic<uint64_t> since_seen{0};

  FreeRanges& FreeOf(uint64_t offset) { return offset < low_bytes ? low_free : far_free; }
};

MemoryFile::MemoryFile() = default;

base::Result<std::unique_ptr<MemoryFile>> MemoryFile::Create(Options options) {
  // Guests execute from it; MFD_EXEC says so to hosts that ask (vm.memfd_noexec), older ones do not know the flag.
  auto fd = base::Host(SYS_memfd_create, "runsc-memory", MFD_CLOEXEC | MFD_EXEC);
  if (fd.failed_with(EINVAL)) fd = base::Host(SYS_memfd_create, "runsc-memory", MFD_CLOEXEC);
  if (!fd.ok()) return fd.error();
  return Wrap(base::UniqueFd(static_cast<int>(*fd)), options, /*on_host_file=*/false);
}

base::Result<std::unique_ptr<MemoryFile>> MemoryFile::CreateOn(base::UniqueFd fd, Options options) {
  return Wrap(std::move(fd), options, /*on_host_file=*/true);
}

base::Result<std::unique_ptr<MemoryFile>> MemoryFile::Wrap(base::UniqueFd fd, Options options, bool on_host_file) {
  std::unique_ptr<MemoryFile> file(new MemoryFile());
  file->fd_ = std::move(fd);

  uint64_t size = uint64_t{1} << 62;
  while (!base::Host(SYS_ftruncate, file->fd(), size).ok()) {
    size >>= 1;
    if (size < (uint64_t{1} << 31)) return base::Errno(on_host_file ? EFBIG : ENOMEM);
  }
  uint64_t low = std::min(kLowBytes, size / 2);
  base::Result<long> map = base::Errno(ENOMEM);
  for (; low >= (uint64_t{1} << 30); low >>= 1) {  // RLIMIT_AS
    map = base::Host(SYS_mmap, nullptr, low, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd(), 0);
    if (map.ok()) break;
  }
  if (!map.ok()) return map.error();
  file->impl_ = std::make_unique<Impl>(low, size);
  file->impl_->options = options;
  file->impl_->on_host_file = on_host_file;
  file->impl_->low = reinterpret_cast<std::byte*>(*map);
  long none = TRY(base::Host(SYS_mmap, nullptr, kPageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  file->impl_->inaccessible = reinterpret_cast<std::byte*>(none);
  return file;
}

MemoryFile::~MemoryFile() {
  if (!impl_) return;
  StopTrimming();
  (void)base::Host(SYS_munmap, impl_->low, impl_->low_bytes);
  if (impl_->inaccessible) (void)base::Host(SYS_munmap, impl_->inaccessible, kPageSize);
  for (auto& [index, address] : impl_->windows) (void)base::Host(SYS_munmap, address, kWindowBytes);
}

uint64_t MemoryFile::usage() const {
  struct stat st;
  if (!base::Host(SYS_fstat, fd(), &st).ok()) return 0;
  return static_cast<uint64_t>(st.st_blocks) * 512;
}

bool MemoryFile::AtLimit(uint64_t more) {
  const uint64_t limit = impl_->options.limit_bytes;
  if (limit == UINT64_MAX) return false;
  // Guests make pages without our seeing it, at most as many as were reserved: look again after every 1/64 of the
  // limit.
  const uint64_t step = std::clamp<uint64_t>(limit / 64, 64 << 10, 16 << 20);
  uint64_t since = impl_->since_seen.fetch_add(std::min(more, step), std::memory_order_relaxed) + std::min(more, step);
  const uint64_t charged = base::ChargedMemory::used();
  if (since < step && impl_->seen_usage.load(std::memory_order_relaxed) + since + charged < limit) return false;
  uint64_t now = usage();
  if (now + charged >= limit) {
    TrimPool();
    now = usage();
  }
  impl_->seen_usage.store(now, std::memory_order_relaxed);
  impl_->since_seen.store(0, std::memory_order_relaxed);
  return now + charged >= limit;
}

base::Result<FileRange> MemoryFile::Allocate(uint64_t length, uint64_t congruent_to, uint64_t after, bool* resident) {
  bool pooled = false;
  FileRange r = TRY(Reserve(length, congruent_to, after, pooled));
  bool whole = pooled;
  if (pooled && !ZeroData(r, whole)) {
    DecRef(r);
    return base::Errno(ENOMEM);
  }
  if (resident != nullptr) *resident = whole;
  return r;
}

base::Result<FileRange> MemoryFile::AllocateForOverwrite(uint64_t length, uint64_t congruent_to, uint64_t after) {
  bool pooled = false;
  return Reserve(length, congruent_to, after, pooled);
}

base::Result<FileRange> MemoryFile::AllocateCopy(FileRange from, std::span<const FileRange> data, uint64_t congruent_to,
                                                 uint64_t after) {
  bool pooled = false;
  FileRange copy = TRY(Reserve(from.length(), congruent_to, after, pooled));
  const uint64_t shift = copy.start - from.start;  // modulo 2^64
  base::Result<void> done;
  uint64_t zeroed = copy.start;
  auto zero_up_to = [&](uint64_t end) {
    bool whole = true;
    if (pooled && zeroed < end && !ZeroData({zeroed, end}, whole)) done = base::Errno(ENOMEM);
  };
  for (const FileRange& piece : data) {
    CHECK(piece.start >= from.start && piece.end <= from.end && piece.start + shift >= zeroed);
    zero_up_to(piece.start + shift);
    for (uint64_t at = piece.start; at < piece.end && done.ok();) {
      std::span<std::byte> source = Map({at, piece.end});
      done = Fill(at + shift, source);
      at += source.size();
    }
    zeroed = piece.end + shift;
  }
  zero_up_to(copy.end);
  if (!done.ok()) {
    DecRef(copy);
    return done.error();
  }
  return copy;
}

base::Result<FileRange> MemoryFile::Reserve(uint64_t length, uint64_t congruent_to, uint64_t after, bool& pooled) {
  pooled = false;
  if (length == 0 || length > (uint64_t{1} << 61)) return base::Errno(ENOMEM);
  length = PageUp(length);
  if (base::ChargedMemory::FailsForTest() || AtLimit(length)) return base::Errno(ENOMEM);
  if (impl_->options.fail_randomly) {
    base::MutexLock lock(mu_);
    if (++impl_->allocations % 17 == 0) return base::Errno(ENOMEM);
  }
  FileRange r;
  if (length <= kLargePoolRangeBytes && TakeFromPool(length, congruent_to, after, r)) {
    pooled = true;
    base::MutexLock lock(mu_);
    impl_->refs.Insert(r, 1);
    return r;
  }
  base::MutexLock lock(mu_);
  bool found = false;
  if (after != 0 && after % kPageSize == 0 && after + length > after) {
    r = {after, after + length};
    bool one_region = after >= impl_->low_bytes || r.end <= impl_->low_bytes;
    found = one_region && impl_->FreeOf(after).Take(r);
  }
  if (!found && length <= kGiantBytes && impl_->low_free.FirstFit(length, congruent_to, r)) {
    found = impl_->low_free.Take(r);
  }
  if (!found && impl_->far_free.FirstFit(length, congruent_to, r)) found = impl_->far_free.Take(r);
  if (!found) return base::Errno(ENOMEM);
  impl_->refs.Insert(r, 1);
  return r;
}

bool MemoryFile::TakeFromPool(uint64_t length, uint64_t congruent_to, uint64_t after, FileRange& out) {
  const bool large = length > kPoolRangeBytes;
  base::MutexLock lock(mu_);
  Impl::Pool& pool = large ? impl_->large_pool : impl_->pool;
  // The best fit among the youngest, whose pages are warm in the caches: exact for programs that are run again and
  // again. First fit would cut the pool into pieces that nothing fits into.
  int probes = 0;
  auto best = pool.ranges.end();
  for (auto it = pool.ranges.end(); it != pool.ranges.begin() && probes < kMaxProbes; ++probes) {
    --it;
    FileRange have = it->range;
    if (large && have.length() != length) continue;
    uint64_t start = congruent_to != 0 ? Congruent(have.start, congruent_to) : have.start;
    if (after != 0 && have.Contains(after)) start = after;
    if (start >= have.end || have.end - start < length) continue;
    if (best != pool.ranges.end() && have.length() >= best->range.length()) continue;
    best = it;
    out = {start, start + length};
    if (have.length() == length) break;
  }
  if (best == pool.ranges.end()) return false;
  const auto [have, freed] = *best;
  auto next = pool.ranges.erase(best);
  if (have.start < out.start) pool.ranges.insert(next, {{have.start, out.start}, freed});
  if (out.end < have.end) pool.ranges.insert(next, {{out.end, have.end}, freed});
  pool.bytes -= length;
  return true;
}

void MemoryFile::IncRef(FileRange range) {
  base::MutexLock lock(mu_);
  auto& refs = impl_->refs;
  auto it = refs.SplitAt(range.start);
  refs.SplitAt(range.end);
  uint64_t at = range.start;
  while (at < range.end) {
    CHECK(it != refs.end() && it->first == at);  // a reference to pages that nobody owns
    CHECK(it->second.value < UINT32_MAX);
    ++it->second.value;
    at = it->second.end;
    ++it;
  }
  MergeRefs(refs, range);
}

void MemoryFile::DecRef(FileRange range) {
  std::list<FileRange> freed;
  {
    base::MutexLock lock(mu_);
    auto& refs = impl_->refs;
    auto it = refs.SplitAt(range.start);
    refs.SplitAt(range.end);
    uint64_t at = range.start;
    while (at < range.end) {
      CHECK(it != refs.end() && it->first == at);
      FileRange piece = refs.RangeOf(it);
      at = piece.end;
      if (--it->second.value == 0) {
        it = refs.Erase(it);
        if (!freed.empty() && freed.back().end == piece.start) {
          freed.back().end = piece.end;
        } else {
          freed.push_back(piece);
        }
      } else {
        ++it;
      }
    }
    MergeRefs(refs, range);
  }
  for (FileRange r : freed) Recycle(r);
}

bool MemoryFile::IsExclusive(FileRange range) const {
  base::MutexLock lock(mu_);
  uint64_t at = range.start;
  for (auto it = impl_->refs.Find(at); at < range.end; ++it) {
    if (it == impl_->refs.end() || it->first > at || it->second.value != 1) return false;
    at = it->second.end;
  }
  return true;
}

void MemoryFile::Recycle(FileRange range) {
  if (range.length() <= kLargePoolRangeBytes && !impl_->on_host_file) {
    base::MutexLock lock(mu_);
    Impl::Pool& pool = range.length() > kPoolRangeBytes ? impl_->large_pool : impl_->pool;
    if (pool.bytes + range.length() <= kPoolBytes) {
      base::MonotonicNs now = base::MonotonicNow();
      pool.ranges.push_back({range, now});
      pool.bytes += range.length();
      if (impl_->trim_timer && !impl_->trim_armed) {
        impl_->trim_armed = true;
        impl_->trim_timer->Set(now + kIdleNs);
      }
      return;
    }
  }
  PunchAndFree(range);
}

void MemoryFile::TrimPool(base::MonotonicNs freed_before) {
  for (Impl::Pool* pool : {&impl_->large_pool, &impl_->pool}) {
    for (;;) {
      FileRange r;
      {
        base::MutexLock lock(mu_);
        if (pool->ranges.empty() || pool->ranges.front().freed >= freed_before) break;
        r = pool->ranges.front().range;
        pool->ranges.pop_front();
        pool->bytes -= r.length();
      }
      PunchAndFree(r);
    }
  }
}

void MemoryFile::ArmTrimming(base::MonotonicNs earliest) {
  base::MonotonicNs oldest = base::kNever;
  for (const Impl::Pool* pool : {&impl_->large_pool, &impl_->pool}) {
    if (!pool->ranges.empty()) oldest = std::min(oldest, pool->ranges.front().freed);
  }
  impl_->trim_armed = impl_->trim_timer && oldest != base::kNever;
  if (impl_->trim_armed) impl_->trim_timer->Set(std::max(oldest + kIdleNs + 1, earliest));
}

void MemoryFile::StartTrimming(base::Reactor& reactor) {
  auto timer = std::make_unique<base::Timer>(reactor, [this] {
    const base::MonotonicNs now = base::MonotonicNow();
    TrimPool(now - kIdleNs);
    base::MutexLock lock(mu_);
    ArmTrimming(now + kTrimNs);
  });
  base::MutexLock lock(mu_);
  impl_->trim_timer = std::move(timer);
  ArmTrimming(base::MonotonicNow() + kIdleNs);
}

void MemoryFile::StopTrimming() {
  std::unique_ptr<base::Timer> timer;
  {
    base::MutexLock lock(mu_);
    timer = std::move(impl_->trim_timer);
  }
}

bool MemoryFile::on_host_file() const { return impl_->on_host_file; }

bool MemoryFile::Punch(FileRange range) {
  auto r =
      base::HostRetry(SYS_fallocate, fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range.start, range.length());
  CHECK(r.ok() || impl_->on_host_file);  // tmpfs cannot fail to punch
  return r.ok();
}

void MemoryFile::PunchAndFree(FileRange range) {
  // What still holds a guest's bytes is not handed to another: offsets are plenty.
  if (!Punch(range)) return;
  base::MutexLock lock(mu_);
  impl_->FreeOf(range.start).Give(range);
}

void MemoryFile::Populate(FileRange range) {
  while (!range.empty()) {
    const std::span<std::byte> part = Map(range);
    (void)base::Host(SYS_madvise, part.data(), part.size(), kMadvPopulateWrite);
    range.start += part.size();
  }
}

void MemoryFile::Decommit(FileRange range) {
  if (!range.empty()) (void)Punch(range);
}

FileRange MemoryFile::NextData(FileRange range) const { return NextData(range, 0); }

FileRange MemoryFile::NextData(FileRange range, uint64_t bytes) const {
  if (range.empty() || range.length() == bytes) return range;
  auto data = base::Host(SYS_lseek, fd(), range.start, SEEK_DATA);
  if (!data.ok() || static_cast<uint64_t>(*data) >= range.end) return {range.end, range.end};
  uint64_t start = *data;
  if (range.end - start == bytes) return {start, range.end};
  auto hole = base::Host(SYS_lseek, fd(), start, SEEK_HOLE);
  uint64_t end = hole.ok() ? std::min<uint64_t>(*hole, range.end) : range.end;
  return {start, end};
}

std::optional<uint64_t> MemoryFile::CountPages(FileRange range) const {
  if (range.length() > kLargePoolRangeBytes || impl_->on_host_file || !impl_->counts.load(std::memory_order_relaxed)) {
    return {};
  }
  // struct cachestat_range, struct cachestat (uapi/linux/mman.h).
  const uint64_t where[] = {range.start, range.length()};
  struct {
    uint64_t cache, dirty, writeback, evicted, recently_evicted;
  } found = {};
  if (!base::Host(kSysCachestat, fd(), where, &found, 0).ok()) {
    impl_->counts.store(false, std::memory_order_relaxed);
    return {};
  }
  return found.cache + found.evicted;  // the latter are in swap
}

void MemoryFile::ForEachData(FileRange range, const std::function<bool(FileRange)>& piece) const {
  const std::optional<uint64_t> count = CountPages(range);
  uint64_t left = count ? *count * kPageSize : UINT64_MAX;
  while (!range.empty() && left != 0) {
    const FileRange found = NextData(range, left);
    if (found.empty() || !piece(found)) return;
    if (count) left -= std::min(left, found.length());
    range.start = found.end;
  }
}

uint64_t MemoryFile::FindData(FileRange range, uint64_t enough, std::vector<FileRange>& data) const {
  if (range.length() <= kSmallBytes) {
    data.push_back(range);
    return range.length();
  }
  uint64_t bytes = 0;
  ForEachData(range, [&](FileRange found) {
    data.push_back(found);
    bytes += found.length();
    return bytes <= enough;
  });
  return bytes;
}

bool MemoryFile::Zero(FileRange range) {
  while (!range.empty()) {
    std::span<std::byte> m = Map(range);
    if (base::SafeZero(m.data(), m.size()).copied != m.size()) return false;
    range.start += m.size();
  }
  return true;
}

bool MemoryFile::ZeroData(FileRange range, bool& whole) {
  // What was freed was mostly used.
  if (range.length() <= kSmallBytes) return Zero(range);
  bool zeroed = true;
  uint64_t at = range.start;
  ForEachData(range, [&](FileRange data) {
    if (data.start != at) whole = false;
    at = data.end;
    return zeroed = Zero(data);
  });
  if (at != range.end) whole = false;
  return zeroed;
}

std::span<std::byte> MemoryFile::Map(FileRange range) {
  if (range.start < impl_->low_bytes) {
    return {impl_->low + range.start, std::min(range.end, impl_->low_bytes) - range.start};
  }
  const uint64_t index = range.start / kWindowBytes;
  const uint64_t in_window = range.start % kWindowBytes;
  const uint64_t length = std::min(range.length(), kWindowBytes - in_window);
  {
    base::MutexLock lock(mu_);
    if (auto it = impl_->windows.find(index); it != impl_->windows.end()) return {it->second + in_window, length};
    if (impl_->windows.size() >= kMaxWindows) {
      return {impl_->inaccessible, std::min(range.length(), kPageSize)};
    }
  }
  auto map = base::Host(SYS_mmap, nullptr, kWindowBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd(),
                        index * kWindowBytes);
  if (!map.ok()) return {impl_->inaccessible, std::min(range.length(), kPageSize)};
  auto* address = reinterpret_cast<std::byte*>(*map);
  std::byte* winner;
  {
    base::MutexLock lock(mu_);
    winner = impl_->windows.try_emplace(index, address).first->second;
  }
  if (winner != address) (void)base::Host(SYS_munmap, address, kWindowBytes);
  return {winner + in_window, length};
}

base::Result<void> MemoryFile::Read(uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    std::span<std::byte> m = Map({offset, offset + out.size()});
    if (base::SafeCopy(out.data(), m.data(), m.size()).copied != m.size()) return base::Errno(EFAULT);
    offset += m.size();
    out = out.subspan(m.size());
  }
  return {};
}

base::Result<void> MemoryFile::Write(uint64_t offset, std::span<const std::byte> in) {
  while (!in.empty()) {
    std::span<std::byte> m = Map({offset, offset + in.size()});
    if (base::SafeCopy(m.data(), in.data(), m.size()).copied != m.size()) return base::Errno(EFAULT);
    offset += m.size();
    in = in.subspan(m.size());
  }
  return {};
}

base::Result<void> MemoryFile::Fill(uint64_t offset, std::span<const std::byte> in) {
  while (!in.empty()) {
    auto n = base::HostRetry(SYS_pwrite64, fd(), in.data(), in.size(), offset);
    if (!n.ok()) return base::Errno(n.failed_with(EFAULT) ? EFAULT : ENOMEM);
    if (*n == 0) return base::Errno(ENOMEM);
    offset += static_cast<uint64_t>(*n);
    in = in.subspan(static_cast<size_t>(*n));
  }
  return {};
}

}  // namespace platform
