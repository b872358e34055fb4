#include "sentry/mm/user_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace sentry {

Result<std::string> UserMemory::ReadString(Addr p, size_t max, int too_long) {
  std::string out;
  // The first piece is what a path usually needs; none crosses a page, because the next page need not be there.
  char buffer[512];
  while (out.size() < max) {
    size_t want = std::min<uint64_t>({sizeof buffer, max - out.size(), kPageSize - (p & kPageMask)});
    auto got = CopyIn(std::as_writable_bytes(std::span(buffer, want)), p);
    if (!got.ok()) return got.error();
    size_t n = got.value();
    if (const void* nul = memchr(buffer, 0, n)) {
      out.append(buffer, static_cast<const char*>(nul) - buffer);
      return out;
    }
    if (n < want) return Errno(EFAULT);
    out.append(buffer, n);
    p += n;
  }
  return Errno(too_long);
}

UserIo::UserIo(UserMemory& memory, Addr addr, size_t bytes)
    : memory_(memory), single_(addr, bytes), segments_(&single_, 1), remaining_(bytes) {}

UserIo::UserIo(UserMemory& memory, std::vector<std::pair<Addr, size_t>> segments)
    : memory_(memory), vector_(std::move(segments)), segments_(vector_) {
  for (const auto& [addr, bytes] : segments_) remaining_ += bytes;
}

void UserIo::Advance(size_t bytes) {
  remaining_ -= bytes;
  while (bytes > 0) {
    size_t here = std::min(bytes, segments_[index_].second - offset_);
    offset_ += here;
    bytes -= here;
    if (offset_ == segments_[index_].second) {
      ++index_;
      offset_ = 0;
    }
  }
}

template <typename F>
Result<size_t> UserIo::ForEach(size_t bytes, F&& f) {
  size_t done = 0;
  bytes = std::min(bytes, remaining_);
  while (done < bytes) {
    while (offset_ == segments_[index_].second) {  // an empty segment
      ++index_;
      offset_ = 0;
    }
    const auto& [addr, length] = segments_[index_];
    size_t here = std::min(bytes - done, length - offset_);
    Result<size_t> n = f(addr + offset_, done, here);
    if (!n.ok()) {
      if (done > 0) return done;
      return n.error();
    }
    size_t moved = n.value();
    Advance(moved);
    done += moved;
    if (moved < here) break;
  }
  return done;
}

Result<size_t> UserIo::CopyOut(std::span<const std::byte> src) {
  return ForEach(src.size(), [&](Addr a, size_t at, size_t n) { return memory_.CopyOut(a, src.subspan(at, n)); });
}
Result<size_t> UserIo::CopyIn(std::span<std::byte> dst) {
  return ForEach(dst.size(), [&](Addr a, size_t at, size_t n) { return memory_.CopyIn(dst.subspan(at, n), a); });
}
Result<size_t> UserIo::ZeroOut(size_t bytes) {
  return ForEach(bytes, [&](Addr a, size_t at, size_t n) { return memory_.ZeroOut(a, n); });
}

void UserIo::Revert(size_t bytes) {
  remaining_ += bytes;
  while (bytes > offset_) {
    bytes -= offset_;
    offset_ = segments_[--index_].second;
  }
  offset_ -= bytes;
}

template <typename F>
Result<size_t> UserIo::WithFront(size_t bytes, F&& f) {
  if (bytes == 0) return f(std::span<const Segment>());
  size_t index = index_, offset = offset_;
  while (offset == segments_[index].second) {
    ++index;
    offset = 0;
  }
  if (segments_[index].second - offset >= bytes) {
    Segment one(segments_[index].first + offset, bytes);
    return f(std::span<const Segment>(&one, 1));
  }
  std::vector<Segment> front;
  for (; index < segments_.size() && bytes > 0; ++index, offset = 0) {
    size_t here = std::min(bytes, segments_[index].second - offset);
    if (here > 0) front.emplace_back(segments_[index].first + offset, here);
    bytes -= here;
  }
  return f(std::span<const Segment>(front));
}

Result<size_t> UserIo::ReadFromHost(int fd, int64_t offset, size_t max) {
  max = std::min(max, remaining_);
  size_t n = TRY(WithFront(max, [&](std::span<const Segment> to) { return memory_.ReadFromHost(fd, offset, to); }));
  Advance(std::min(n, max));
  return n;
}
Result<size_t> UserIo::WriteToHost(int fd, int64_t offset, size_t max) {
  max = std::min(max, remaining_);
  size_t n = TRY(WithFront(max, [&](std::span<const Segment> from) { return memory_.WriteToHost(fd, offset, from); }));
  Advance(std::min(n, max));
  return n;
}

Result<size_t> KernelIo::CopyOut(std::span<const std::byte> src) {
  size_t n = std::min(src.size(), bytes_.size());
  if (n > 0) memcpy(bytes_.data(), src.data(), n);
  bytes_ = bytes_.subspan(n);
  return n;
}
Result<size_t> KernelIo::CopyIn(std::span<std::byte> dst) {
  size_t n = std::min(dst.size(), bytes_.size());
  if (n > 0) memcpy(dst.data(), bytes_.data(), n);
  bytes_ = bytes_.subspan(n);
  return n;
}
Result<size_t> KernelIo::ZeroOut(size_t bytes) {
  size_t n = std::min(bytes, bytes_.size());
  if (n > 0) memset(bytes_.data(), 0, n);
  bytes_ = bytes_.subspan(n);
  return n;
}
Result<size_t> KernelIo::ReadFromHost(int fd, int64_t offset, size_t max) {
  iovec iov{bytes_.data(), std::min(max, bytes_.size())};
  size_t n = static_cast<size_t>(TRY(base::HostRetry(SYS_preadv2, fd, &iov, 1, offset, 0, 0)));
  bytes_ = bytes_.subspan(n);
  return n;
}
Result<size_t> KernelIo::WriteToHost(int fd, int64_t offset, size_t max) {
  iovec iov{bytes_.data(), std::min(max, bytes_.size())};
  size_t n = static_cast<size_t>(TRY(base::HostRetry(SYS_pwritev2, fd, &iov, 1, offset, 0, 0)));
  bytes_ = bytes_.subspan(n);
  return n;
}

}  // namespace sentry
