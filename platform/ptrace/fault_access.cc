#include "platform/ptrace/fault_access.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "platform/memory_file.h"
#include "platform/ptrace/ptrace_calls.h"

namespace platform::ptrace {
namespace {

// Opcode maps as VEX and EVEX number them; 0 is the one-byte map.
enum Map : int { kOneByte = 0, k0F = 1, k0F38 = 2, k0F3A = 3, kFp16 = 5 };

struct Instruction {
  // What it stores to, of memory.
  bool writes_operand = false;      // the ModRM operand, or the moffs
  bool writes_stack = false;        // below rsp
  bool writes_destination = false;  // at rdi
  size_t length = 0;                // 0: the bytes ended before the instruction did, or it is not known
};

bool IsOneOf(int opcode, std::initializer_list<int> list) {
  return std::find(list.begin(), list.end(), opcode) != list.end();
}

class Decoder {
 public:
  explicit Decoder(std::span<const uint8_t> code) : code_(code) {}

  Instruction Decode() {
    Instruction i;
    Prefixes();
    if (has_modrm()) {
      modrm_ = Next();
      ModRmTail();
    }
    const bool memory = has_modrm() && modrm_ >> 6 != 3;
    i.writes_operand = (memory && (lock_ || WritesOperand())) || (map_ == kOneByte && (op_ == 0xa2 || op_ == 0xa3));
    i.writes_stack = WritesStack();
    i.writes_destination = WritesDestination();
    at_ += ImmediateBytes();
    if (at_ > code_.size()) return {};
    i.length = at_;
    return i;
  }

 private:
  enum class Encoding { kLegacy, kVex, kEvex };

  uint8_t Next() { return at_ < code_.size() ? code_[at_++] : (++at_, 0); }
  int reg() const { return modrm_ >> 3 & 7; }
  bool vector_encoding() const { return encoding_ != Encoding::kLegacy; }

  void Prefixes() {
    uint8_t b = Next();
    for (;; b = Next()) {
      if (b == 0x66) {
        size16_ = true;
      } else if (b == 0x67) {
        address32_ = true;
      } else if (b == 0xf2 || b == 0xf3) {
        repeat_ = b;
      } else if (b == 0xf0) {
        lock_ = true;
      } else if (!IsOneOf(b, {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}) || at_ > code_.size()) {
        break;
      }
    }
    if ((b & 0xf0) == 0x40) {
      wide_ = b & 8;
      b = Next();
    }
    if (b == 0xc5) {
      Simd(Next() & 3);
      map_ = k0F;
      encoding_ = Encoding::kVex;
      op_ = Next();
    } else if (b == 0xc4) {
      map_ = Next() & 0x1f;
      Simd(Next() & 3);
      encoding_ = Encoding::kVex;
      op_ = Next();
    } else if (b == 0x62) {
      map_ = Next() & 7;
      Simd(Next() & 3);
      Next();
      encoding_ = Encoding::kEvex;
      op_ = Next();
    } else if (b == 0x0f) {
      op_ = Next();
      map_ = k0F;
      if (op_ == 0x38 || op_ == 0x3a) {
        map_ = op_ == 0x38 ? k0F38 : k0F3A;
        op_ = Next();
      }
    } else {
      op_ = b;
    }
  }
  // The prefix that is part of a VEX or EVEX opcode.
  void Simd(int pp) {
    size16_ = pp == 1;
    repeat_ = pp == 2 ? 0xf3 : pp == 3 ? 0xf2 : 0;
  }

  bool has_modrm() const {
    if (map_ == kOneByte) {
      if (op_ < 0x40) return (op_ & 7) < 4;
      if (op_ >= 0x80 && op_ <= 0x8f) return true;
      return IsOneOf(op_, {0x63, 0x69, 0x6b, 0xc0, 0xc1, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff}) ||
             (op_ >= 0xd0 && op_ <= 0xd3) || (op_ >= 0xd8 && op_ <= 0xdf);
    }
    if (map_ != k0F) return true;
    if (op_ == 0x77) return false;
    if (vector_encoding()) return true;
    if (op_ >= 0x80 && op_ <= 0x8f) return false;
    if (op_ >= 0xc8 && op_ <= 0xcf) return false;
    if (op_ >= 0x30 && op_ <= 0x37) return false;
    return !IsOneOf(op_, {0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0xa0, 0xa1, 0xa2, 0xa8, 0xa9, 0xaa});
  }

  void ModRmTail() {
    const int mod = modrm_ >> 6, rm = modrm_ & 7;
    if (mod == 3) return;
    int base = rm;
    if (rm == 4) base = Next() & 7;
    if (mod == 1) at_ += 1;
    if (mod == 2 || (mod == 0 && base == 5)) at_ += 4;
  }

  // Given that the ModRM operand is memory.
  bool WritesOperand() const {
    switch (map_) {
      case kOneByte:
        return OneByteWrites();
      case k0F:
        return vector_encoding()
                   ? SseStore() || (encoding_ == Encoding::kVex && op_ == 0x91) || (op_ == 0xae && reg() == 3)
                   : TwoByteWrites();
      case k0F38:
        return ThreeByteWrites();
      case k0F3A:
        // pextr*, extractps; vextract*, vcvtps2ph
        return (op_ >= 0x14 && op_ <= 0x17) || (vector_encoding() && IsOneOf(op_, {0x19, 0x1b, 0x1d, 0x39, 0x3b}));
      case kFp16:
        return op_ == 0x11 || (op_ == 0x7e && size16_);
      default:
        return false;
    }
  }

  bool OneByteWrites() const {
    if (op_ < 0x38) return (op_ & 7) < 2;  // add or adc sbb and sub xor; cmp only reads
    if (op_ >= 0xd8 && op_ <= 0xdf) {      // x87 stores, by opcode and extension
      static constexpr uint8_t kStores[8] = {0, 0b11001100, 0, 0b10001110, 0, 0b11001110, 0, 0b11001110};
      return kStores[op_ - 0xd8] >> reg() & 1;
    }
    switch (op_) {
      case 0x80:
      case 0x81:
      case 0x83:
        return reg() != 7;
      case 0x8f:
        return reg() == 0;
      case 0xf6:
      case 0xf7:
        return reg() == 2 || reg() == 3;
      case 0xfe:
      case 0xff:
        return reg() < 2;
      default:
        return IsOneOf(op_, {0x86, 0x87, 0x88, 0x89, 0x8c, 0xc0, 0xc1, 0xc6, 0xc7, 0xd0, 0xd1, 0xd2, 0xd3});
    }
  }

  // The stores that SSE, AVX and AVX-512 share.
  bool SseStore() const {
    if (op_ == 0x7e) return repeat_ != 0xf3;  // F3 0F 7E is a load
    return IsOneOf(op_, {0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xe7}) || (op_ == 0xd6 && size16_);
  }

  bool TwoByteWrites() const {
    if (SseStore() || (op_ >= 0x90 && op_ <= 0x9f)) return true;
    switch (op_) {
      case 0x00:
        return reg() < 2;
      case 0x01:
        return reg() < 2 || reg() == 4;
      case 0xae:  // fxsave stmxcsr xsave xsaveopt (66: clwb)
        return reg() == 0 || reg() == 3 || reg() == 4 || (reg() == 6 && !size16_ && repeat_ == 0);
      case 0xba:
        return reg() > 4;
      case 0xc7:  // cmpxchg8b/16b, xsavec
        return reg() == 1 || reg() == 4;
      default:
        return IsOneOf(op_, {0xa4, 0xa5, 0xab, 0xac, 0xad, 0xb0, 0xb1, 0xb3, 0xbb, 0xc0, 0xc1, 0xc3});
    }
  }

  bool ThreeByteWrites() const {
    if (encoding_ == Encoding::kLegacy) {
      return (op_ == 0xf1 && repeat_ != 0xf2) || op_ == 0xf9 || (op_ == 0xf6 && repeat_ == 0 && !size16_);
    }
    if (encoding_ == Encoding::kVex) return IsOneOf(op_, {0x2e, 0x2f, 0x8e});
    // vpmov* with truncation, compress, scatter
    if (repeat_ == 0xf3) return (op_ & 0xf) < 6 && IsOneOf(op_ >> 4, {1, 2, 3});
    return size16_ && IsOneOf(op_, {0x63, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3});
  }

  bool WritesStack() const {
    if (map_ == k0F) return encoding_ == Encoding::kLegacy && (op_ == 0xa0 || op_ == 0xa8);
    if (map_ != kOneByte) return false;
    if (op_ == 0xff) return reg() == 2 || reg() == 3 || reg() == 6;
    return (op_ >= 0x50 && op_ <= 0x57) || IsOneOf(op_, {0x68, 0x6a, 0x9c, 0xc8, 0xe8});
  }

  // movs, stos, ins; maskmovq and maskmovdqu
  bool WritesDestination() const {
    if (map_ == k0F) return op_ == 0xf7;
    return map_ == kOneByte && IsOneOf(op_, {0xa4, 0xa5, 0xaa, 0xab, 0x6c, 0x6d});
  }

  size_t ImmediateBytes() const {
    const size_t word = size16_ ? 2 : 4;
    if (map_ == k0F3A) return 1;
    if (map_ == k0F) {
      if (!vector_encoding() && op_ >= 0x80 && op_ <= 0x8f) return 4;
      if (!vector_encoding() && IsOneOf(op_, {0xa4, 0xac, 0xba})) return 1;
      return (op_ >= 0x70 && op_ <= 0x73) || IsOneOf(op_, {0xc2, 0xc4, 0xc5, 0xc6}) ? 1 : 0;
    }
    if (map_ != kOneByte) return 0;
    if (op_ < 0x40) return (op_ & 7) == 4 ? 1 : (op_ & 7) == 5 ? word : 0;
    if (op_ >= 0x70 && op_ <= 0x7f) return 1;
    if (op_ >= 0xa0 && op_ <= 0xa3) return address32_ ? 4 : 8;
    if (op_ >= 0xb0 && op_ <= 0xb7) return 1;
    if (op_ >= 0xb8 && op_ <= 0xbf) return wide_ ? 8 : word;
    if (op_ == 0xf6) return reg() < 2 ? 1 : 0;
    if (op_ == 0xf7) return reg() < 2 ? word : 0;
    if (IsOneOf(op_, {0x6a, 0x6b, 0x80, 0x83, 0xa8, 0xc0, 0xc1, 0xc6, 0xcd, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6,
                      0xe7, 0xeb}))
      return 1;
    if (IsOneOf(op_, {0x68, 0x69, 0x81, 0xa9, 0xc7})) return word;
    if (IsOneOf(op_, {0xe8, 0xe9})) return 4;
    if (IsOneOf(op_, {0xc2, 0xca})) return 2;
    return op_ == 0xc8 ? 3 : 0;
  }

  std::span<const uint8_t> code_;
  size_t at_ = 0;
  bool size16_ = false, address32_ = false, lock_ = false, wide_ = false;
  uint8_t repeat_ = 0;
  Encoding encoding_ = Encoding::kLegacy;
  int map_ = kOneByte;
  int op_ = 0;
  uint8_t modrm_ = 0;
};

constexpr size_t kLongestInstruction = 15;
// `enter` with the deepest nesting and the largest frame touches this much below rsp.
constexpr uint64_t kDeepestFrame = 65536 + 32 * 8;

}  // namespace

AccessType GuessAccess(pid_t tid, const Registers& regs, uint64_t address) {
  if (address == regs.rip) return AccessType::kExecute;
  uint8_t code[kLongestInstruction];
  size_t have = 0;
  while (have < sizeof(code)) {
    // A word at a time, none across a page: what follows may not be there.
    const uint64_t at = regs.rip + have;
    const uint64_t in_page = std::min<uint64_t>(8, kPageSize - at % kPageSize);
    uint64_t word;
    if (PeekWord(tid, at - (8 - in_page), word) < 0) break;
    word >>= 8 * (8 - in_page);
    const size_t take = std::min<size_t>(in_page, sizeof(code) - have);
    memcpy(code + have, &word, take);
    have += take;
  }
  return DecodeAccess({code, have}, regs, address);
}

AccessType DecodeAccess(std::span<const uint8_t> code, const Registers& regs, uint64_t address) {
  if (address == regs.rip) return AccessType::kExecute;
  const Instruction i = Decoder(code).Decode();
  // An instruction that continues on a page that cannot be executed faults at the beginning of that page.
  const size_t length = i.length != 0 ? i.length : kLongestInstruction;
  if (address % kPageSize == 0 && address > regs.rip && address - regs.rip < length) return AccessType::kExecute;
  if (i.writes_stack) {
    return address < regs.rsp && regs.rsp - address <= kDeepestFrame ? AccessType::kWrite : AccessType::kRead;
  }
  if (i.writes_destination) {
    // movs reads at rsi: what lies at rdi is the store. Wider than one element, for fast strings run ahead.
    return address - regs.rdi < 64 ? AccessType::kWrite : AccessType::kRead;
  }
  return i.writes_operand ? AccessType::kWrite : AccessType::kRead;
}

}  // namespace platform::ptrace
