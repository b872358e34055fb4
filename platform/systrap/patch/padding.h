// Bytes that can be overwritten without anybody noticing, and ways through them.
//
// A short jump reaches 127 bytes, and padding is rare: where no place for a long jump is in reach, the way leads over
// further short jumps in padding that is too small for a long one.
#ifndef PLATFORM_SYSTRAP_PATCH_PADDING_H_
#define PLATFORM_SYSTRAP_PATCH_PADDING_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "platform/systrap/patch/function_proof.h"
#include "platform/systrap/patch/patched_page.h"
#include "platform/systrap/patch/trampoline.h"

namespace platform::patch {

struct Padding {
  uint64_t start = 0;
  uint64_t end = 0;
  // One no-op that may be executed: it becomes a jump over itself, and what it jumps over is free. Otherwise nothing
  // reaches it.
  bool executed = false;

  uint64_t jump() const { return executed ? start + kShortJumpSize : start; }
  uint64_t room() const { return end <= jump() ? 0 : end - jump(); }
};

// Appends the padding between two functions: `code` at `start`, all of it. Nothing if it is anything else but no-ops
// and int3, which is code without an entry in the unwind table. `reached`: the function before it may run on into it.
void AddPaddingBetween(uint64_t start, std::span<const uint8_t> code, bool reached, std::vector<Padding>& out);

// Appends what is in a function between `first` and `last`: the no-ops in front of loops, and int3 behind a jump or
// return. `code` is that of the whole function.
void AddPaddingInside(const FunctionProof& proof, std::span<const uint8_t> code, uint64_t first, uint64_t last,
                      std::vector<Padding>& out);

// A way from a short jump to a place for a long one.
struct Route {
  std::array<size_t, kMaxHops + 1> padding{};  // indices; the last one takes the long jump, the others short ones
  size_t size = 0;
};

class PaddingPool {
 public:
  explicit PaddingPool(std::vector<Padding> padding);

  // The shortest way from a short jump at `from`.
  std::optional<Route> Find(uint64_t from) const;
  const Padding& operator[](size_t i) const { return padding_[i]; }
  // Takes `size` bytes from jump() on. An executed no-op can be used once, the rest of other padding again.
  void Take(size_t i, size_t size);

 private:
  std::vector<Padding> padding_;  // by address; what has no room is used up
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_PADDING_H_
