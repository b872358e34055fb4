#include "platform/systrap/patch/relocate.h"

#include <algorithm>
#include <cstring>

namespace platform::patch {
namespace {

bool IsRelocatableOneByte(const Instruction& i) {
  const uint8_t op = i.opcode;
  if (op < 0x40) return true;                 // add or adc sbb and sub xor cmp: the decoder refused all else
  if (op >= 0x50 && op <= 0x5f) return true;  // push, pop of a register
  if (op == 0x63) return true;                // movsxd
  if (op == 0x68 || op == 0x6a) return true;  // push of an immediate
  if (op == 0x69 || op == 0x6b) return true;  // imul
  if (op >= 0x80 && op <= 0x85) return true;  // group 1, test
  if (op >= 0x88 && op <= 0x8b) return true;  // mov
  if (op == 0x8d) return true;                // lea
  if (op == 0x86 || op == 0x87) return i.modrm_is_register();               // xchg
  if (op >= 0x90 && op <= 0x99) return !i.repeat;                           // nop, xchg with eax, cwde, cdq
  if (op == 0xa8 || op == 0xa9) return true;                                // test
  if (op >= 0xb0 && op <= 0xbf) return true;                                // mov of an immediate
  if (op == 0xc0 || op == 0xc1 || (op >= 0xd0 && op <= 0xd3)) return true;  // shifts
  if (op == 0xc6 || op == 0xc7) return i.modrm_reg() == 0;                  // mov of an immediate
  if (op == 0xf6 || op == 0xf7) return i.modrm_reg() <= 5;                  // test not neg mul imul; no division
  if (op == 0xfe) return true;                                              // inc dec
  if (op == 0xff) return i.modrm_reg() <= 1;
  return false;
}

bool IsRelocatable0F(const Instruction& i) {
  const uint8_t op = i.opcode;
  if (op == 0x10 || op == 0x11 || op == 0x28 || op == 0x29) return true;  // movups, movss, movaps, …
  if (op == 0x12 || op == 0x13 || op == 0x16 || op == 0x17) return true;  // movlps, movhps
  if (op == 0x14 || op == 0x15) return true;                              // unpcklps, unpckhps
  if (op == 0x1f) return i.modrm_reg() == 0;                              // nop
  if (op >= 0x40 && op <= 0x4f) return true;                              // cmov
  if (op == 0x54 || op == 0x57 || op == 0xef) return true;                // andps, xorps, pxor
  if (op == 0x6c || op == 0x6e || op == 0x6f || op == 0x7e || op == 0x7f || op == 0xd6)
    return true;                                                                        // movd, movq, movdqa
  if (op >= 0x90 && op <= 0x9f) return true;                                            // setcc
  if (op == 0xaf || op == 0xb6 || op == 0xb7 || op == 0xbe || op == 0xbf) return true;  // imul, movzx, movsx
  return op >= 0xc8 && op <= 0xcf;                                                      // bswap
}

}  // namespace

bool IsRelocatable(const Instruction& i) {
  if (i.flow != Flow::kNext || i.lock || i.address_size) return false;
  if (i.map == OpcodeMap::kOneByte) return IsRelocatableOneByte(i) && !i.repeat;
  return i.map == OpcodeMap::k0F && IsRelocatable0F(i);
}

bool Relocate(const Instruction& i, std::span<const uint8_t> code, uint64_t from, uint64_t to_address,
              std::span<uint8_t> to) {
  if (code.size() < i.length || to.size() < i.length) return false;
  std::copy_n(code.begin(), i.length, to.begin());
  if (!i.rip_relative) return true;
  int32_t displacement;
  std::memcpy(&displacement, code.data() + i.displacement_offset, sizeof displacement);
  const int64_t distance = static_cast<int64_t>(from - to_address);
  if (distance > INT32_MAX || distance < INT32_MIN) return false;
  const int64_t moved = int64_t{displacement} + distance;
  if (moved > INT32_MAX || moved < INT32_MIN) return false;
  const int32_t narrow = static_cast<int32_t>(moved);
  std::memcpy(to.data() + i.displacement_offset, &narrow, sizeof narrow);
  return true;
}

std::optional<uint32_t> ConstantEax(const Instruction& i, std::span<const uint8_t> code) {
  if (i.map != OpcodeMap::kOneByte || i.operand_size || i.lock || i.repeat || code.size() < i.length) return {};
  auto word_at = [&](size_t at) {
    uint32_t v;
    std::memcpy(&v, code.data() + at, sizeof v);
    return v;
  };
  if (i.opcode == 0xb8 && (i.rex & 1) == 0) {
    return word_at(i.length - (i.rex & 8 ? 8 : 4));
  }
  if (i.opcode == 0xc7 && i.modrm == 0xc0 && (i.rex & 1) == 0) return word_at(i.length - 4);
  const bool subtracts = i.opcode == 0x31 || i.opcode == 0x33 || i.opcode == 0x29 || i.opcode == 0x2b;  // xor, sub
  if (subtracts && i.modrm == 0xc0 && (i.rex & 5) == 0) return 0;
  return {};
}

}  // namespace platform::patch
