// A strict length decoder for the instructions of 64-bit mode.
//
// It exists to prove where instructions begin, so it errs on one side only: what is not certainly one instruction of a
// known length on every x86-64 processor is refused (Intel SDM volume 2, appendix A; AMD APM volume 3, appendix A).
// Refused are unknown opcodes, XOP and 3DNow!, prefixes in an order that changes their meaning, and encodings whose
// length Intel and AMD disagree about (a branch with an operand-size prefix). Privileged instructions have a length
// like any other.
#ifndef PLATFORM_SYSTRAP_PATCH_INSTRUCTION_H_
#define PLATFORM_SYSTRAP_PATCH_INSTRUCTION_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace platform::patch {

inline constexpr size_t kMaxInstruction = 15;

// Where control goes after an instruction.
enum class Flow : uint8_t {
  kNext,          // the following instruction (a trap may come in between)
  kBranch,        // the following one, or the direct target: jcc, loop, jrcxz, xbegin
  kCall,          // the direct target, and perhaps some time the following one
  kIndirectCall,  // the same with a target from a register or memory
  kJump,          // the direct target
  kIndirectJump,  // a target from a register or memory
  kNever,         // return, ud1, ud2, hlt in user mode: never the following one
};

enum class OpcodeMap : uint8_t { kOneByte, k0F, k0F38, k0F3A, kVex, kEvex };

struct Instruction {
  uint8_t length = 0;
  Flow flow = Flow::kNext;
  OpcodeMap map = OpcodeMap::kOneByte;
  uint8_t opcode = 0;
  uint8_t rex = 0;  // 0 without one
  bool lock = false;
  bool repeat = false;        // f2 or f3
  bool operand_size = false;  // 66
  bool address_size = false;  // 67
  bool segment = false;       // 26, 2e, 36, 3e, 64 or 65
  bool has_modrm = false;
  uint8_t modrm = 0;
  uint8_t displacement_offset = 0;  // of the 32-bit displacement, if rip_relative
  bool rip_relative = false;
  int32_t target = 0;  // kBranch, kCall, kJump: relative to the end of the instruction

  bool is(OpcodeMap m, uint8_t op) const { return map == m && opcode == op; }
  uint8_t modrm_reg() const { return (modrm >> 3) & 7; }
  bool modrm_is_register() const { return modrm >= 0xc0; }
  bool direct() const { return flow == Flow::kBranch || flow == Flow::kCall || flow == Flow::kJump; }
  bool falls_through() const { return flow != Flow::kJump && flow != Flow::kIndirectJump && flow != Flow::kNever; }
  // Changes nothing but rip: nop, xchg %ax,%ax, nopw with any operand. No endbr64, no pause.
  bool is_nop() const;
  bool is_syscall() const { return is(OpcodeMap::k0F, 0x05) && length == 2; }
};

// Decodes the instruction at the start of `code`; false if it is refused or longer than `code`. Never reads past
// `code`.
bool Decode(std::span<const uint8_t> code, Instruction& out);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_INSTRUCTION_H_
