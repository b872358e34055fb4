// FileWindows: the sentry's own mappings of a file that the gofer donated, so that guest memory which is mapped from it
// can be read (paths and formats in .rodata) and, for shared writable mappings, written without a system call per
// access.
#ifndef SENTRY_MM_FILE_WINDOWS_H_
#define SENTRY_MM_FILE_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"

namespace sentry {

// Owned by the Mappable whose descriptors it maps: a descriptor number cannot be reused for another file while windows
// of it exist. At most kMaxWindows stay; a process-wide cap on host mappings makes further ones live for one access
// only. Any thread.
class FileWindows {
 public:
  static constexpr uint64_t kWindowBytes = 1 << 20;
  static constexpr size_t kMaxWindows = 16;

  // A pinned part of a window. The memory may fault (the host truncated the file): touch it only through base::SafeCopy
  // or let the host's kernel do so.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept;
    Pin& operator=(Pin&& other) noexcept;
    ~Pin() { Reset(); }
    std::span<std::byte> bytes() const { return bytes_; }
    void Reset();

   private:
    friend class FileWindows;
    FileWindows* owner_ = nullptr;
    std::byte* base_ = nullptr;  // of the window
    std::span<std::byte> bytes_;
  };

  FileWindows() = default;
  FileWindows(const FileWindows&) = delete;
  ~FileWindows();

  // Maps [offset, offset+length) of fd, or as much of it from offset on as lies within one window (at least a byte).
  // ENOMEM, EACCES.
  base::Result<Pin> Acquire(int fd, uint64_t offset, uint64_t length, bool writable) EXCLUDES(mu_);

 private:
  struct Window {
    int fd;
    bool writable;
    uint64_t index;  // offset / kWindowBytes
    std::byte* base;
    uint32_t pins;
    uint64_t last_use;
    bool keep;  // false: unmapped when the last pin goes
  };
  void Release(std::byte* base) EXCLUDES(mu_);
  base::Mutex mu_;
  std::vector<Window> windows_ GUARDED_BY(mu_);
  uint64_t clock_ GUARDED_BY(mu_) = 0;
};

}  // namespace sentry

#endif  // SENTRY_MM_FILE_WINDOWS_H_
