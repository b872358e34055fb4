// The code that a patched call jumps to. It changes nothing but rcx, which the call destroys anyway: no flags, no
// stack.
//
//     <the moved instruction>          as long as the original
//     lea   after(%rip), %rcx          the address behind the `syscall`
//     jmp   *entry(%rip)               a literal at the start of the block
//
// Everything is relative to rip, so that one image serves every process wherever it has the file, as long as the
// trampolines lie at the same distance from the text.
#ifndef PLATFORM_SYSTRAP_PATCH_TRAMPOLINE_H_
#define PLATFORM_SYSTRAP_PATCH_TRAMPOLINE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "platform/systrap/patch/instruction.h"

namespace platform::patch {

inline constexpr uint8_t kFiller = 0xcc;  // int3
inline constexpr size_t kLongJumpSize = 5;
inline constexpr size_t kShortJumpSize = 2;
inline constexpr size_t kLoadReturnSize = 7;
inline constexpr size_t kJumpEntrySize = 6;
inline constexpr size_t kLiteralSize = 8;
inline constexpr size_t kTrampolineAlignment = 8;

// `jmp to` at `from`; false if that is out of reach. `out` has kLongJumpSize bytes.
bool WriteLongJump(std::span<uint8_t> out, uint64_t from, uint64_t to);
// The same with kShortJumpSize bytes.
bool WriteShortJump(std::span<uint8_t> out, uint64_t from, uint64_t to);

// The trampolines of one page, as they come into being.
class TrampolineBlock {
 public:
  // At `address` (kTrampolineAlignment), at most `space` bytes.
  TrampolineBlock(uint64_t address, uint64_t space, uint64_t entry);

  // Room for one more, of whatever length.
  bool full() const;
  // Where the next one will be.
  uint64_t next() const { return address_ + bytes_.size(); }
  // Adds one for the instruction at `from`. False, and nothing added, if something is out of reach. Not if full().
  bool Add(const Instruction& instruction, std::span<const uint8_t> code, uint64_t from);
  std::vector<uint8_t> TakeBytes() { return std::move(bytes_); }

 private:
  uint64_t address_;
  uint64_t space_;
  std::vector<uint8_t> bytes_;  // starts with the literal, if there is space for one
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_TRAMPOLINE_H_
