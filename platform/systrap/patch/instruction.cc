#include "platform/systrap/patch/instruction.h"

#include <algorithm>

namespace platform::patch {
namespace {

// What follows an opcode, one character each:
//   .  not an instruction here (also prefixes and escapes, which never get this far)
//   n  nothing            1  imm8              w  imm16             e  imm16 imm8
//   Z  imm32, or imm16 with 66                 v  the same, or imm64 with REX.W
//   o  a 64-bit address (32-bit with 67)       j  rel8              J  rel32
//   m  ModRM              b  ModRM imm8        z  ModRM and as Z
constexpr char kOneByteMap[] =
    "mmmm1Z..mmmm1Z.."   // 00 add or
    "mmmm1Z..mmmm1Z.."   // 10 adc sbb
    "mmmm1Z..mmmm1Z.."   // 20 and sub
    "mmmm1Z..mmmm1Z.."   // 30 xor cmp
    "................"   // 40 REX
    "nnnnnnnnnnnnnnnn"   // 50 push pop
    "...m....Zz1bnnnn"   // 60 movsxd push imul ins outs
    "jjjjjjjjjjjjjjjj"   // 70 jcc
    "bz.bmmmmmmmmmmmm"   // 80 groups 1, test xchg mov lea pop
    "nnnnnnnnnn.nnnnn"   // 90 xchg cwde fwait pushf popf sahf lahf
    "oooonnnn1Znnnnnn"   // a0 mov movs cmps test stos lods scas
    "11111111vvvvvvvv"   // b0 mov
    "bbwn..bzenwnn1.n"   // c0 shifts ret mov enter leave int3 int iret
    "mmmm...nmmmmmmmm"   // d0 shifts xlat x87
    "jjjj1111JJ.jnnnn"   // e0 loop in out call jmp
    ".n..nnmmnnnnnnmm";  // f0 int1 hlt cmc groups 3, 4, 5
constexpr char k0FMap[] =
    "mmmm.nnnnn.n.m.."   // 00 syscall sysret ud2 prefetchw
    "mmmmmmmmmmmmmmmm"   // 10 SSE moves, hints, nop
    "........mmmmmmmm"   // 20 (moves of control registers are refused)
    "nnnnnn.n........"   // 30 wrmsr rdtsc rdmsr rdpmc sysenter sysexit getsec
    "mmmmmmmmmmmmmmmm"   // 40 cmov
    "mmmmmmmmmmmmmmmm"   // 50
    "mmmmmmmmmmmmmmmm"   // 60
    "bbbbmmmnmm..mmmm"   // 70 pshuf, shifts, emms
    "JJJJJJJJJJJJJJJJ"   // 80 jcc
    "mmmmmmmmmmmmmmmm"   // 90 setcc
    "nnnmbm..nnnmbmmm"   // a0 push pop cpuid bt shld, group 15, imul
    "mmmmmmmmmmbmmmmm"   // b0 cmpxchg movzx popcnt ud1, group 8, movsx
    "mmbmbbbmnnnnnnnn"   // c0 xadd cmpps movnti pinsrw shufps, group 9, bswap
    "mmmmmmmmmmmmmmmm"   // d0
    "mmmmmmmmmmmmmmmm"   // e0
    "mmmmmmmmmmmmmmm.";  // f0
static_assert(sizeof(kOneByteMap) == 257 && sizeof(k0FMap) == 257);

// Which opcodes exist, a bit each, whatever their operand size, vector length and mandatory prefix.
struct OpcodeSet {
  uint64_t word[4];
  constexpr bool has(uint8_t op) const { return (word[op >> 6] >> (op & 63)) & 1; }
};
constexpr OpcodeSet k0F38{0xffbf0f3f70b10fff, 0x0000000000000003, 0x0000000000000007, 0x0f630000f900bf00};
constexpr OpcodeSet k0F3A{0x0000000700f0ff00, 0x0000000f00000017, 0x0000000000000000, 0x000000008000d000};
constexpr OpcodeSet kVexMaps[] = {
    {0x0000ff0000ff0000, 0xf0ffffffffff0cf6, 0x00004000030f0000, 0x7fffffffffff0074},
    {0xffffff3f77c8ffff, 0x03000000570f0ae3, 0xffc0ffc0ffcf5000, 0x00ec0000f8008000},
    {0x030f000723f0ff77, 0xff00ff0ff0001f57, 0x0000000000000000, 0x000100008000c000},
};
constexpr OpcodeSet kEvexMaps[] = {
    {0x0000ff0000ff0000, 0xcf7ffffffff20000, 0x0000000000000000, 0x7f7effffff7e0074},
    {0xffff3fffff7f3811, 0xffef017c0f3ff0fd, 0xfff0ffcfffcfaf08, 0x00000000f000bdd0},
    {0xcf0000efeff08f3b, 0x000f00c000f3001c, 0x0000000000000000, 0x000000000000c004},
    {},
    {0x0000f40020030000, 0x7f004000ff020000, 0x0000000000000000, 0x0000000000000000},
    {0x0000300000080000, 0x0000000000c0f00c, 0xffc0ffc0ffc00000, 0x0000000000c00000},
};

// The bytes, from the front, never past the end or the architecture's limit.
class Bytes {
 public:
  explicit Bytes(std::span<const uint8_t> code) : code_(code.first(std::min(code.size(), kMaxInstruction))) {}
  bool Take(uint8_t& byte) {
    if (at_ == code_.size()) return false;
    byte = code_[at_++];
    return true;
  }
  bool Skip(size_t n) {
    if (code_.size() - at_ < n) return false;
    at_ += n;
    return true;
  }
  // Sign-extends.
  bool TakeRelative(size_t n, int32_t& value) {
    if (code_.size() - at_ < n) return false;
    uint32_t v = 0;
    for (size_t i = 0; i < n; ++i) v |= uint32_t{code_[at_ + i]} << (8 * i);
    value = n == 1 ? static_cast<int8_t>(v) : static_cast<int32_t>(v);
    at_ += n;
    return true;
  }
  size_t position() const { return at_; }

 private:
  std::span<const uint8_t> code_;
  size_t at_ = 0;
};

// ModRM, SIB and displacement. The address size does not change their length in 64-bit mode.
bool TakeModRm(Bytes& in, Instruction& out) {
  if (!in.Take(out.modrm)) return false;
  out.has_modrm = true;
  const uint8_t mod = out.modrm >> 6, rm = out.modrm & 7;
  if (mod == 3) return true;
  size_t displacement = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  if (rm == 4) {
    uint8_t sib = 0;
    if (!in.Take(sib)) return false;
    if (mod == 0 && (sib & 7) == 5) displacement = 4;
  } else if (mod == 0 && rm == 5) {
    displacement = 4;
    out.rip_relative = true;
    out.displacement_offset = static_cast<uint8_t>(in.position());
  }
  return in.Skip(displacement);
}

// VEX: c5, c4. The byte after the escape has been looked at by nobody; in 64-bit mode there is no les or lds to
// confuse.
bool DecodeVex(Bytes& in, uint8_t escape, Instruction& out) {
  uint8_t map = 1, byte = 0;
  if (!in.Take(byte)) return false;
  if (escape == 0xc4) {
    map = byte & 0x1f;
    if (!in.Take(byte)) return false;
  }
  if (map < 1 || map > 3 || !in.Take(out.opcode) || !kVexMaps[map - 1].has(out.opcode)) return false;
  out.map = OpcodeMap::kVex;
  if (map == 1 && out.opcode == 0x77) return true;  // vzeroupper, vzeroall
  if (!TakeModRm(in, out)) return false;
  const bool immediate = map == 3 || (map == 1 && ((out.opcode >= 0x70 && out.opcode <= 0x73) || out.opcode == 0xc2 ||
                                                   (out.opcode >= 0xc4 && out.opcode <= 0xc6)));
  return !immediate || in.Skip(1);
}

bool DecodeEvex(Bytes& in, Instruction& out) {
  uint8_t p0 = 0, p1 = 0, p2 = 0;
  if (!in.Take(p0) || !in.Take(p1) || !in.Take(p2)) return false;
  const uint8_t map = p0 & 7;
  // The two fixed bits: without them this is bound, or an extension that is not known here.
  if ((p0 & 0x08) != 0 || (p1 & 0x04) == 0 || map < 1 || map > 6) return false;
  if (!in.Take(out.opcode) || !kEvexMaps[map - 1].has(out.opcode)) return false;
  out.map = OpcodeMap::kEvex;
  if (!TakeModRm(in, out)) return false;
  const bool immediate = map == 3 || (map == 1 && ((out.opcode >= 0x70 && out.opcode <= 0x73) || out.opcode == 0xc2 ||
                                                   (out.opcode >= 0xc4 && out.opcode <= 0xc6)));
  return !immediate || in.Skip(1);
}

// The rest of an instruction whose operands are those of `format`.
bool TakeOperands(Bytes& in, char format, Instruction& out) {
  const size_t full_or_half = out.operand_size && !(out.rex & 8) ? 2 : 4;
  switch (format) {
    case 'n':
      return true;
    case '1':
      return in.Skip(1);
    case 'w':
      return in.Skip(2);
    case 'e':
      return in.Skip(3);
    case 'Z':
      return in.Skip(full_or_half);
    case 'v':
      return in.Skip(out.rex & 8 ? 8 : full_or_half);
    case 'o':
      return in.Skip(out.address_size ? 4 : 8);
    case 'm':
      return TakeModRm(in, out);
    case 'b':
      return TakeModRm(in, out) && in.Skip(1);
    case 'z':
      return TakeModRm(in, out) && in.Skip(full_or_half);
    case 'j':
    case 'J':
      // Intel ignores 66 here; AMD takes it for a 16-bit branch, unless there is REX.W (as in the call of
      // __tls_get_addr).
      if (out.operand_size && !(out.rex & 8)) return false;
      return in.TakeRelative(format == 'j' ? 1 : 4, out.target);
    default:
      return false;
  }
}

bool FinishOneByte(Bytes& in, Instruction& out) {
  const uint8_t op = out.opcode;
  if (!TakeOperands(in, kOneByteMap[op], out)) return false;
  switch (op) {
    case 0x8d:
      return !out.modrm_is_register();
    case 0x8f:  // pop; with another reg field it is the start of XOP
      return out.modrm_reg() == 0;
    case 0xc6:  // mov, or xabort imm8
      return out.modrm_reg() == 0 || out.modrm == 0xf8;
    case 0xc7:  // mov; xbegin is not decoded here
      return out.modrm_reg() == 0;
    case 0xf6:
      return out.modrm_reg() == 1 ? false : out.modrm_reg() != 0 || in.Skip(1);
    case 0xf7:
      if (out.modrm_reg() == 1) return false;
      return out.modrm_reg() != 0 || in.Skip(out.operand_size && !(out.rex & 8) ? 2 : 4);
    case 0xfe:
      return out.modrm_reg() <= 1;
    case 0xff:
      if (out.modrm_reg() == 7) return false;
      if ((out.modrm_reg() == 3 || out.modrm_reg() == 5) && out.modrm_is_register()) return false;
      if (out.modrm_reg() == 2 || out.modrm_reg() == 3) out.flow = Flow::kIndirectCall;
      if (out.modrm_reg() == 4 || out.modrm_reg() == 5) out.flow = Flow::kIndirectJump;
      return true;
    case 0x70 ... 0x7f:
    case 0xe0 ... 0xe3:
      out.flow = Flow::kBranch;
      return true;
    case 0xe8:
      out.flow = Flow::kCall;
      return true;
    case 0xe9:
    case 0xeb:
      out.flow = Flow::kJump;
      return true;
    case 0xc2 ... 0xc3:
    case 0xca ... 0xcb:
    case 0xcf:
    case 0xf4:
      out.flow = Flow::kNever;
      return true;
    default:
      return true;
  }
}

bool Finish0F(Bytes& in, Instruction& out) {
  if (!in.Take(out.opcode)) return false;
  const uint8_t op = out.opcode;
  if (op == 0x38 || op == 0x3a) {
    if (!in.Take(out.opcode)) return false;
    out.map = op == 0x38 ? OpcodeMap::k0F38 : OpcodeMap::k0F3A;
    if (!(op == 0x38 ? k0F38 : k0F3A).has(out.opcode)) return false;
    return TakeModRm(in, out) && (op == 0x38 || in.Skip(1));
  }
  out.map = OpcodeMap::k0F;
  // SSE4a's extrq and insertq have these opcodes too, with two more bytes.
  if ((op == 0x78 || op == 0x79) && (out.operand_size || out.repeat)) return false;
  if (!TakeOperands(in, k0FMap[op], out)) return false;
  if (op >= 0x80 && op <= 0x8f) out.flow = Flow::kBranch;
  if (op == 0x07 || op == 0x0b || op == 0x35 || op == 0xb9) out.flow = Flow::kNever;
  return true;
}

// Opcode c7 with ModRM f8: `in` is behind the ModRM.
bool DecodeXbegin(Bytes& in, Instruction& out) {
  if (out.operand_size) return false;  // a 16-bit target on some processors
  out.has_modrm = true;
  out.modrm = 0xf8;
  out.flow = Flow::kBranch;
  return in.TakeRelative(4, out.target);
}

}  // namespace

bool Instruction::is_nop() const {
  if (lock || length == 0) return false;
  if (is(OpcodeMap::kOneByte, 0x90)) return !repeat && (rex & 1) == 0;  // f3 90 is pause, 41 90 exchanges with r8
  return is(OpcodeMap::k0F, 0x1f) && modrm_reg() == 0 && !repeat;
}

bool Decode(std::span<const uint8_t> code, Instruction& out) {
  out = Instruction{};
  Bytes in(code);
  uint8_t byte = 0;
  for (;;) {
    if (!in.Take(byte)) return false;
    if (byte == 0x66) {
      out.operand_size = true;
    } else if (byte == 0x67) {
      out.address_size = true;
    } else if (byte == 0xf2 || byte == 0xf3) {
      out.repeat = true;
    } else if (byte == 0xf0) {
      out.lock = true;
    } else if (byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x26 || byte == 0x64 || byte == 0x65) {
      out.segment = true;
    } else {
      break;
    }
  }
  // A REX prefix counts only directly before the opcode; one that is followed by another prefix has no effect, and no
  // compiler writes it.
  if ((byte & 0xf0) == 0x40) {
    out.rex = byte;
    if (!in.Take(byte)) return false;
  }
  bool ok;
  if (byte == 0xc4 || byte == 0xc5 || byte == 0x62) {
    if (out.rex || out.lock || out.repeat || out.operand_size) return false;  // #UD
    ok = byte == 0x62 ? DecodeEvex(in, out) : DecodeVex(in, byte, out);
  } else if (byte == 0x0f) {
    ok = Finish0F(in, out);
  } else {
    out.opcode = byte;
    Bytes after = in;
    uint8_t modrm = 0;
    if (byte == 0xc7 && after.Take(modrm) && modrm == 0xf8) {
      in = after;
      ok = DecodeXbegin(in, out);
    } else {
      ok = FinishOneByte(in, out);
    }
  }
  if (!ok) return false;
  if (out.lock && (!out.has_modrm || out.modrm_is_register())) return false;  // #UD
  out.length = static_cast<uint8_t>(in.position());
  return true;
}

}  // namespace platform::patch
