// Copies between the sentry and guest memory, through the sentry's own mappings of what is behind it.
#include <sys/uio.h>

#include <algorithm>
#include <limits>

#include "base/safe_copy_unsafe.h"
#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using base::ReaderLock;
using base::WriterLock;

namespace {
// A copy faults in at most this much at once, so that a guest that passes a giant buffer does not hold the lock for
// long.
constexpr uint64_t kFaultAhead = 2 << 20;
// Faults without progress at one address (another thread keeps changing the mapping) before the copy gives up with
// EFAULT.
constexpr int kMaxAttempts = 16;
// UIO_MAXIOV.
constexpr size_t kMaxIov = 1024;
}  // namespace

bool MemoryManager::State::Accessible(const Vma& v, CopyKind kind, bool force) const {
  if (kind == CopyKind::kRead) return force ? v.max_prot != 0 : v.prot != 0;
  // mm/gup.c, check_vma_flags: force writes where copy-on-write makes a private page of it, never into a shared
  // read-only one.
  return (v.prot & kWrite) || (force && v.IsPrivate() && (v.max_prot & kWrite));
}

MemoryManager::State::ViewResult MemoryManager::State::FindView(Addr addr, uint64_t max, CopyKind kind, bool force,
                                                                View& out) const {
  auto vit = vmas.Find(addr);
  if (vit == vmas.end()) return ViewResult::kAbsent;  // a stack may grow there
  const Vma& v = vit->second.value;
  if (!Accessible(v, kind, force)) return ViewResult::kDenied;
  auto pit = pages.Find(addr);
  if (pit == pages.end()) return ViewResult::kAbsent;
  const Page& p = pit->second.value;
  if (kind == CopyKind::kWrite && !(p.owned ? !p.cow : v.shared && p.writable)) return ViewResult::kAbsent;
  uint64_t length = std::min({max, pit->second.end - addr, vit->second.end - addr});
  uint64_t offset = p.offset + (addr - pit->first);
  if (p.memory_file) {
    out.bytes = memory_file.Map({offset, offset + length});
    return ViewResult::kOk;
  }
  auto pin = v.file->windows().Acquire(p.fd, offset, length, kind == CopyKind::kWrite);
  if (!pin.ok()) return ViewResult::kDenied;
  out.pin = std::move(*pin);
  out.bytes = out.pin.bytes();
  return ViewResult::kOk;
}

bool MemoryManager::FaultInForCopy(Addr addr, uint64_t length, bool write, bool force) {
  WriterLock lock(lock_);
  State& s = *state_;
  HostBatch batch;
  if (addr >= s.task_size) return false;
  auto it = s.vmas.Find(addr);
  if (it == s.vmas.end()) {
    if (!s.GrowStack(addr, batch)) return false;
    it = s.vmas.Find(addr);
  }
  if (!s.Accessible(it->second.value, write ? CopyKind::kWrite : CopyKind::kRead, force)) return false;
  uint64_t ahead = std::min({length, kFaultAhead, it->second.end - addr});
  Range r{PageRoundDown(addr), PageRoundUp(addr + ahead)};
  bool backed = s.BackRange(r, write, State::Effort::kFault, batch).ok();
  if (!s.Commit(batch).ok()) return false;
  if (backed) return true;
  // What lies ahead may be beyond a file's end while the first page is not.
  State::View view;
  return s.FindView(addr, 1, write ? CopyKind::kWrite : CopyKind::kRead, force, view) == State::ViewResult::kOk;
}

// Calls f(bytes in the sentry, how much is done) for each piece of [addr, addr+n); f returns how many bytes it managed.
// Bytes done, or EFAULT if none.
template <typename F>
Result<size_t> MemoryManager::ForEachView(Addr addr, size_t n, bool write, bool force, F&& f) {
  if (n == 0) return size_t{0};
  if (addr + n < addr) n = std::numeric_limits<uint64_t>::max() - addr;
  const CopyKind kind = write ? CopyKind::kWrite : CopyKind::kRead;
  size_t done = 0;
  int attempts = 0;
  while (done < n) {
    auto result = State::ViewResult::kOk;
    bool faulted = false;
    size_t before = done;
    {
      ReaderLock lock(lock_);
      State::View view;
      while (done < n) {
        result = state_->FindView(addr + done, n - done, kind, force, view);
        if (result != State::ViewResult::kOk) break;
        size_t moved = f(view.bytes, done);
        done += moved;
        if (moved < view.bytes.size()) {
          faulted = true;  // a truncated file, or a memory cgroup at its limit
          break;
        }
      }
    }
    if (done == n || faulted || result == State::ViewResult::kDenied) break;
    if (done > before) attempts = 0;
    if (++attempts > kMaxAttempts || !FaultInForCopy(addr + done, n - done, write, force)) break;
  }
  if (done == 0) return Errno(EFAULT);
  return done;
}

Result<size_t> MemoryManager::CopyInImpl(std::span<std::byte> dst, Addr src, bool force) {
  return ForEachView(src, dst.size(), false, force, [&](std::span<std::byte> from, size_t done) {
    return base::SafeCopy(dst.data() + done, from.data(), from.size()).copied;
  });
}

Result<size_t> MemoryManager::CopyOutImpl(Addr dst, std::span<const std::byte> src, bool force) {
  return ForEachView(dst, src.size(), true, force, [&](std::span<std::byte> to, size_t done) {
    return base::SafeCopy(to.data(), src.data() + done, to.size()).copied;
  });
}

Result<size_t> MemoryManager::CopyIn(std::span<std::byte> dst, Addr src) { return CopyInImpl(dst, src, false); }
Result<size_t> MemoryManager::CopyOut(Addr dst, std::span<const std::byte> src) { return CopyOutImpl(dst, src, false); }
Result<size_t> MemoryManager::ForceCopyIn(std::span<std::byte> dst, Addr src) { return CopyInImpl(dst, src, true); }
Result<size_t> MemoryManager::ForceCopyOut(Addr dst, std::span<const std::byte> src) {
  return CopyOutImpl(dst, src, true);
}

Result<size_t> MemoryManager::ZeroOut(Addr dst, size_t bytes) {
  return ForEachView(dst, bytes, true, false,
                     [](std::span<std::byte> to, size_t) { return base::SafeZero(to.data(), to.size()).copied; });
}

Result<size_t> MemoryManager::HostIo(long nr, int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> segments,
                                     bool write_guest) {
  const CopyKind kind = write_guest ? CopyKind::kWrite : CopyKind::kRead;
  Addr stuck_at = 0;
  int attempts = 0;
  for (;;) {
    // Where the first absent byte is, when there is one.
    Addr absent = 0;
    uint64_t absent_length = 0;
    {
      ReaderLock lock(lock_);
      std::vector<iovec> iov;
      std::vector<FileWindows::Pin> pins;
      bool denied = false, full = false;
      for (const auto& [addr, length] : segments) {
        for (uint64_t done = 0; done < length;) {
          if (iov.size() == kMaxIov) {
            full = true;
            break;
          }
          State::View view;
          uint64_t max = addr + length < addr ? 0 : length - done;
          auto result = max == 0 ? State::ViewResult::kDenied : state_->FindView(addr + done, max, kind, false, view);
          if (result == State::ViewResult::kAbsent && attempts < kMaxAttempts) {
            absent = addr + done;
            absent_length = length - done;
            break;
          }
          if (result != State::ViewResult::kOk) {
            denied = true;
            break;
          }
          done += view.bytes.size();
          auto* base = view.bytes.data();
          if (!iov.empty() && static_cast<std::byte*>(iov.back().iov_base) + iov.back().iov_len == base) {
            iov.back().iov_len += view.bytes.size();
          } else {
            iov.push_back({base, view.bytes.size()});
          }
          if (view.pin.bytes().data() != nullptr) pins.push_back(std::move(view.pin));
        }
        if (absent_length != 0 || denied || full) break;
      }
      if (absent_length == 0) {
        if (iov.empty() && denied) return Errno(EFAULT);
        // The host reports EFAULT for a page it cannot give, or a short count.
        return static_cast<size_t>(TRY(base::HostRetry(nr, fd, iov.data(), iov.size(), offset, 0, 0)));
      }
    }
    attempts = absent == stuck_at ? attempts + 1 : 0;
    stuck_at = absent;
    // A failure leaves the rest out: the next round stops there.
    if (!FaultInForCopy(absent, absent_length, write_guest, false)) attempts = kMaxAttempts;
  }
}

Result<size_t> MemoryManager::ReadFromHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> to) {
  return HostIo(SYS_preadv2, fd, offset, to, true);
}

Result<size_t> MemoryManager::WriteToHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> from) {
  return HostIo(SYS_pwritev2, fd, offset, from, false);
}

Result<FutexKey> MemoryManager::GetFutexKey(Addr addr, bool private_futex) {
  if (addr & 3) return Errno(EINVAL);
  if (private_futex) {
    // kernel/futex/core.c: the address is only checked for its range.
    if (addr > env_.platform->GuestRange().end - 4) return Errno(EFAULT);
    return FutexKey{.object = this, .offset = addr};
  }
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    {
      ReaderLock lock(lock_);
      auto it = state_->vmas.Find(addr);
      if (it != state_->vmas.end()) {
        const Vma& v = it->second.value;
        if (v.prot == 0) return Errno(EFAULT);
        if (v.shared) {
          RefPtr<Mappable> file(&v.file->FutexIdentity());
          return FutexKey{.object = file.get(), .offset = v.offset + (addr - it->first), .hold = file};
        }
        // Private memory, but not a private futex: waiters of the two kinds do not meet (FUT_OFF_MMSHARED).
        return FutexKey{.object = this, .offset = addr | 1};
      }
    }
    if (!FaultInForCopy(addr, 4, false, false)) break;
  }
  return Errno(EFAULT);
}

Result<uint32_t> MemoryManager::Load32(Addr addr) {
  if (addr & 3) return Errno(EINVAL);
  Result<uint32_t> value = Errno(EFAULT);
  TRY(ForEachView(addr, 4, false, false, [&](std::span<std::byte> at, size_t) -> size_t {
    value = base::SafeLoad32(reinterpret_cast<const uint32_t*>(at.data()));
    return value.ok() ? 4 : 0;
  }));
  return value;
}

Result<uint32_t> MemoryManager::CompareExchange32(Addr addr, uint32_t expected, uint32_t desired) {
  if (addr & 3) return Errno(EINVAL);
  Result<uint32_t> value = Errno(EFAULT);
  TRY(ForEachView(addr, 4, true, false, [&](std::span<std::byte> at, size_t) -> size_t {
    value = base::SafeCompareExchange32(reinterpret_cast<uint32_t*>(at.data()), expected, desired);
    return value.ok() ? 4 : 0;
  }));
  return value;
}

}  // namespace sentry
