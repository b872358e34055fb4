// Guest pointers, and the only ways to what they point at.
#ifndef SENTRY_MM_USER_MEMORY_H_
#define SENTRY_MM_USER_MEMORY_H_

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/errno.h"
#include "base/syscall_unsafe.h"

namespace sentry {

using base::Errno;
using base::Result;

// A guest address. A number, not a pointer: nothing can dereference it.
using Addr = uint64_t;
inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kPageMask = kPageSize - 1;
constexpr uint64_t PageRoundDown(uint64_t x) { return x & ~kPageMask; }
// Wraps to 0 for the last page; callers check for overflow.
constexpr uint64_t PageRoundUp(uint64_t x) { return (x + kPageMask) & ~kPageMask; }

// A guest pointer to a T.
template <typename T>
struct UserPtr {
  Addr addr = 0;
  explicit operator bool() const { return addr != 0; }
  UserPtr operator+(uint64_t n) const { return {addr + n * sizeof(T)}; }
};

// The memory of a guest process as the handlers see it. MemoryManager is the implementation; tests have others. Parks
// (page faults may read files). No Mutex may be held.
class UserMemory {
 public:
  virtual ~UserMemory() = default;
  // Bytes copied before the first that faults; EFAULT if there is none and bytes were asked for.
  virtual Result<size_t> CopyIn(std::span<std::byte> dst, Addr src) = 0;
  virtual Result<size_t> CopyOut(Addr dst, std::span<const std::byte> src) = 0;
  virtual Result<size_t> ZeroOut(Addr dst, size_t bytes) = 0;
  // preadv/pwritev of a host descriptor straight into, or from, guest memory: no copy through the sentry. `offset` −1:
  // at the descriptor's own position. Bytes moved (0 at end of file), the host's errno, or EFAULT.
  virtual Result<size_t> ReadFromHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> to) = 0;
  virtual Result<size_t> WriteToHost(int fd, int64_t offset, std::span<const std::pair<Addr, size_t>> from) = 0;

  // All or EFAULT.
  template <typename T>
  Result<T> Read(UserPtr<T> p) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    size_t n = TRY(CopyIn(std::as_writable_bytes(std::span(&value, 1)), p.addr));
    if (n != sizeof(T)) return Errno(EFAULT);
    return value;
  }
  template <typename T>
  Result<void> Write(UserPtr<T> p, const std::type_identity_t<T>& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    size_t n = TRY(CopyOut(p.addr, std::as_bytes(std::span(&value, 1))));
    if (n != sizeof(T)) return Errno(EFAULT);
    return {};
  }
  // `count` is the caller's to bound before (a vector of that size is made).
  template <typename T>
  Result<std::vector<T>> ReadArray(UserPtr<T> p, size_t count) {
    std::vector<T> v(count);
    if (count == 0) return v;
    size_t n = TRY(CopyIn(std::as_writable_bytes(std::span(v)), p.addr));
    if (n != count * sizeof(T)) return Errno(EFAULT);
    return v;
  }
  template <typename T>
  Result<void> WriteArray(UserPtr<T> p, std::span<const T> values) {
    if (values.empty()) return {};
    size_t n = TRY(CopyOut(p.addr, std::as_bytes(values)));
    if (n != values.size_bytes()) return Errno(EFAULT);
    return {};
  }
  // A NUL-terminated string of at most `max` bytes with the NUL; `too_long` otherwise (ENAMETOOLONG for paths, E2BIG
  // for exec).
  Result<std::string> ReadString(Addr p, size_t max, int too_long = ENAMETOOLONG);
};

// What a file operation moves bytes to or from, with a position that every call advances. One implementation over guest
// memory (UserIo), one over the sentry's own (KernelIo), so that exec, sendfile and overlay's copy-up use the same file
// code.
class IoBuffer {
 public:
  virtual ~IoBuffer() = default;
  virtual size_t remaining() const = 0;
  // File to buffer / buffer to file. Short counts as in UserMemory; EFAULT only if nothing was moved. At most
  // remaining().
  virtual Result<size_t> CopyOut(std::span<const std::byte> src) = 0;
  virtual Result<size_t> CopyIn(std::span<std::byte> dst) = 0;
  virtual Result<size_t> ZeroOut(size_t bytes) = 0;
  // One host preadv/pwritev of up to `max` bytes.
  virtual Result<size_t> ReadFromHost(int fd, int64_t offset, size_t max) = 0;
  virtual Result<size_t> WriteToHost(int fd, int64_t offset, size_t max) = 0;
  // Takes back the last `bytes` of what was moved: a write that looked at its data and then could not be done (EAGAIN)
  // starts over.
  virtual void Revert(size_t bytes) = 0;
};

class UserIo final : public IoBuffer {
 public:
  UserIo(UserMemory& memory, Addr addr, size_t bytes);
  // At most IOV_MAX segments, total below 2^31: checked by whoever reads the iovec (kernel: import_iovec).
  UserIo(UserMemory& memory, std::vector<std::pair<Addr, size_t>> segments);
  UserIo(const UserIo&) = delete;
  UserIo& operator=(const UserIo&) = delete;
  size_t remaining() const override { return remaining_; }
  Result<size_t> CopyOut(std::span<const std::byte> src) override;
  Result<size_t> CopyIn(std::span<std::byte> dst) override;
  Result<size_t> ZeroOut(size_t bytes) override;
  Result<size_t> ReadFromHost(int fd, int64_t offset, size_t max) override;
  Result<size_t> WriteToHost(int fd, int64_t offset, size_t max) override;
  void Revert(size_t bytes) override;

 private:
  using Segment = std::pair<Addr, size_t>;
  template <typename F>
  Result<size_t> ForEach(size_t bytes, F&& f);
  void Advance(size_t bytes);
  // Calls with the segments of the next `bytes`; without an allocation when one holds them.
  template <typename F>
  Result<size_t> WithFront(size_t bytes, F&& f);
  UserMemory& memory_;
  Segment single_{};  // the common case: nothing is allocated for read(2)
  std::vector<Segment> vector_;
  std::span<const Segment> segments_;  // of single_ or vector_, so a UserIo stays where it is
  size_t index_ = 0;                   // current segment
  size_t offset_ = 0;                  // within it
  size_t remaining_ = 0;
};

class KernelIo final : public IoBuffer {
 public:
  explicit KernelIo(std::span<std::byte> bytes) : bytes_(bytes) {}
  size_t remaining() const override { return bytes_.size(); }
  Result<size_t> CopyOut(std::span<const std::byte> src) override;
  Result<size_t> CopyIn(std::span<std::byte> dst) override;
  Result<size_t> ZeroOut(size_t bytes) override;
  Result<size_t> ReadFromHost(int fd, int64_t offset, size_t max) override;
  Result<size_t> WriteToHost(int fd, int64_t offset, size_t max) override;
  void Revert(size_t bytes) override { bytes_ = {bytes_.data() - bytes, bytes_.size() + bytes}; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace sentry

#endif  // SENTRY_MM_USER_MEMORY_H_
