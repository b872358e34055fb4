// Makes many small reads of a file a few of whole blocks: a table is walked, or searched, some bytes at a time.
#ifndef PLATFORM_SYSTRAP_PATCH_BLOCK_CACHE_H_
#define PLATFORM_SYSTRAP_PATCH_BLOCK_CACHE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "platform/systrap/patch/byte_source.h"

namespace platform::patch {

// For the length of one analysis. What was read once stays as it was then, which does no harm: the file may change
// anyway.
class BlockCache final : public ByteSource {
 public:
  explicit BlockCache(ByteSource& file) : file_(file), bytes_(kBlocks * kBlockSize) {}

  size_t Read(uint64_t offset, std::span<uint8_t> to) override {
    if (to.size() >= kBlockSize) return file_.Read(offset, to);
    size_t done = 0;
    while (done < to.size()) {
      const uint64_t at = offset + done;
      if (at < offset) break;
      const auto block = Block(at / kBlockSize);
      const size_t skip = at % kBlockSize;
      if (skip >= block.size()) break;
      const size_t n = std::min(to.size() - done, block.size() - skip);
      std::memcpy(to.data() + done, block.data() + skip, n);
      done += n;
    }
    return done;
  }

 private:
  static constexpr size_t kBlockSize = 4096;
  static constexpr size_t kBlocks = 8;

  struct Slot {
    uint64_t block = UINT64_MAX;  // is none: it would be behind the last offset
    size_t size = 0;
  };

  std::span<const uint8_t> Block(uint64_t block) {
    const size_t i = block % kBlocks;
    const std::span<uint8_t> bytes(bytes_.data() + i * kBlockSize, kBlockSize);
    if (slots_[i].block != block) {
      slots_[i].size = file_.Read(block * kBlockSize, bytes);
      slots_[i].block = block;
    }
    return bytes.first(slots_[i].size);
  }

  ByteSource& file_;
  std::vector<uint8_t> bytes_;
  std::array<Slot, kBlocks> slots_;
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_BLOCK_CACHE_H_
