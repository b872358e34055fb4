// Reads a file through a descriptor.
#ifndef PLATFORM_SYSTRAP_PATCH_FD_SOURCE_H_
#define PLATFORM_SYSTRAP_PATCH_FD_SOURCE_H_

#include "base/syscall_unsafe.h"
#include "platform/systrap/patch/byte_source.h"

namespace platform::patch {

// Host I/O: it may wait for a disk, so not on an executor when the file is on a slow mount.
class FdSource final : public ByteSource {
 public:
  explicit FdSource(int fd) : fd_(fd) {}  // must stay open
  size_t Read(uint64_t offset, std::span<uint8_t> to) override {
    size_t done = 0;
    while (done < to.size()) {
      const auto n = base::HostRetry(SYS_pread64, fd_, to.data() + done, to.size() - done, offset + done);
      if (!n.ok() || n.value() == 0) break;
      done += static_cast<size_t>(n.value());
    }
    return done;
  }

 private:
  int fd_;
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_FD_SOURCE_H_
