// Where the bytes of a file come from: memory in tests, pread of the file in a sandbox.
#ifndef PLATFORM_SYSTRAP_PATCH_BYTE_SOURCE_H_
#define PLATFORM_SYSTRAP_PATCH_BYTE_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace platform::patch {

// The file may change at any time, so that two reads of the same bytes may differ: whoever reads copies once and judges
// the copy.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Fills `to` from `offset` on; returns how many bytes there were: fewer at the end of the file and after a failure.
  virtual size_t Read(uint64_t offset, std::span<uint8_t> to) = 0;

  bool ReadAll(uint64_t offset, std::span<uint8_t> to) { return Read(offset, to) == to.size(); }
};

class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const uint8_t> bytes) : bytes_(bytes) {}  // must outlive this
  size_t Read(uint64_t offset, std::span<uint8_t> to) override {
    if (offset >= bytes_.size()) return 0;
    const auto from = bytes_.subspan(offset, std::min<uint64_t>(to.size(), bytes_.size() - offset));
    std::copy(from.begin(), from.end(), to.begin());
    return from.size();
  }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_BYTE_SOURCE_H_
