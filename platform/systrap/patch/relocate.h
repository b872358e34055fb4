// Which instructions can be executed at another address with the same effect, and how they are moved there.
//
// A list of what is known to be harmless rather than of what is not: an instruction qualifies if it neither transfers
// control nor reads rip other than through a rip-relative operand, and if a fault in it leaves no trace (so that the
// fault can be reported at the original address). LOCK, port I/O, string and stack-frame instructions, x87, VEX and
// EVEX are not on it: none of them was ever seen before a `syscall`.
#ifndef PLATFORM_SYSTRAP_PATCH_RELOCATE_H_
#define PLATFORM_SYSTRAP_PATCH_RELOCATE_H_

#include <cstdint>
#include <optional>
#include <span>

#include "platform/systrap/patch/instruction.h"

namespace platform::patch {

bool IsRelocatable(const Instruction& instruction);

// Copies the instruction at `from` (whose bytes are the first `instruction.length` of `code`) to `to`, which is as
// long: its rip-relative operand, if any, then names the same address. False if that is out of reach.
bool Relocate(const Instruction& instruction, std::span<const uint8_t> code, uint64_t from, uint64_t to_address,
              std::span<uint8_t> to);

// The value that the instruction leaves in eax whatever the registers were: mov $n,%eax in its encodings, xor
// %eax,%eax.
std::optional<uint32_t> ConstantEax(const Instruction& instruction, std::span<const uint8_t> code);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_RELOCATE_H_
