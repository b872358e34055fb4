// Proves where the instructions of one function begin, by decoding it from its first byte to its last.
//
// The claim is proven if every byte belongs to an instruction that the strict decoder knows, the last one ends where
// the function ends, and every direct branch that stays in the function lands on a proven start (or behind a LOCK
// prefix: C libraries of old skip the prefix with a jump). Data in the middle of code fails one of the three sooner or
// later, and by the last it fails where it would matter: code that is reached is reached by a branch or from above.
#ifndef PLATFORM_SYSTRAP_PATCH_FUNCTION_PROOF_H_
#define PLATFORM_SYSTRAP_PATCH_FUNCTION_PROOF_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "platform/systrap/patch/code_range.h"
#include "platform/systrap/patch/instruction.h"

namespace platform::patch {

class FunctionProof {
 public:
  // `code` is the bytes of `range`. Nothing if the proof fails, or for an empty or overlong range. Time and memory are
  // linear in the size.
  static std::optional<FunctionProof> Prove(CodeRange range, std::span<const uint8_t> code);

  const CodeRange& range() const { return range_; }
  bool IsStart(uint64_t address) const;
  // The start of the instruction that ends at `address`, itself a start or the end of the range.
  std::optional<uint64_t> InstructionBefore(uint64_t address) const;
  // Where its direct branches land, in it and outside. Ascending, not unique.
  std::span<const uint64_t> targets() const { return targets_; }
  // False if the last instruction is one after which execution never goes on behind the range. (It may after a call,
  // though the callee, abort() say, does not return.)
  bool falls_through() const { return falls_through_; }

 private:
  CodeRange range_;
  std::vector<uint64_t> starts_;  // a bit for each byte
  std::vector<uint64_t> targets_;
  bool falls_through_ = true;
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_FUNCTION_PROOF_H_
