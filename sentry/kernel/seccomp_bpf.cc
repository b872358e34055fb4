#include "sentry/kernel/seccomp_bpf.h"

#include <array>
#include <cstring>
#include <vector>

namespace sentry {

namespace {

using base::Errno;
using base::Result;

// One instruction by itself: its code, and the range of its constant.
bool InstructionAllowed(const sock_filter& insn) {
  switch (insn.code) {
    case BPF_LD | BPF_W | BPF_ABS:
      return insn.k < sizeof(seccomp_data) && insn.k % 4 == 0;
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_ALU | BPF_ADD | BPF_K:
    case BPF_ALU | BPF_ADD | BPF_X:
    case BPF_ALU | BPF_SUB | BPF_K:
    case BPF_ALU | BPF_SUB | BPF_X:
    case BPF_ALU | BPF_MUL | BPF_K:
    case BPF_ALU | BPF_MUL | BPF_X:
    case BPF_ALU | BPF_DIV | BPF_X:
    case BPF_ALU | BPF_AND | BPF_K:
    case BPF_ALU | BPF_AND | BPF_X:
    case BPF_ALU | BPF_OR | BPF_K:
    case BPF_ALU | BPF_OR | BPF_X:
    case BPF_ALU | BPF_XOR | BPF_K:
    case BPF_ALU | BPF_XOR | BPF_X:
    case BPF_ALU | BPF_LSH | BPF_X:
    case BPF_ALU | BPF_RSH | BPF_X:
    case BPF_ALU | BPF_NEG:
    case BPF_JMP | BPF_JA:
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X:
      return true;
    case BPF_ALU | BPF_DIV | BPF_K:
      return insn.k != 0;
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K:
      return insn.k < 32;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
      return insn.k < BPF_MEMWORDS;
    default:
      return false;  // packets (byte and half loads, IND, MSH), and MOD
  }
}

bool IsConditionalJump(uint16_t code) { return BPF_CLASS(code) == BPF_JMP && BPF_OP(code) != BPF_JA; }

// No path reads a scratch word that it has not written (net/core/filter.c: check_load_and_stores). Jumps are in range.
bool StoresComeBeforeLoads(std::span<const sock_filter> program) {
  std::vector<uint16_t> written_at(program.size(), 0xffff);  // on every path that jumps there
  uint16_t written = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& insn = program[pc];
    written &= written_at[pc];
    if (insn.code == BPF_ST || insn.code == BPF_STX) {
      written |= static_cast<uint16_t>(1u << insn.k);
    } else if (insn.code == (BPF_LD | BPF_MEM) || insn.code == (BPF_LDX | BPF_MEM)) {
      if ((written & (1u << insn.k)) == 0) return false;
    } else if (insn.code == (BPF_JMP | BPF_JA)) {
      written_at[pc + 1 + insn.k] &= written;
      written = 0xffff;  // the next instruction is reached by jumps alone
    } else if (IsConditionalJump(insn.code)) {
      written_at[pc + 1 + insn.jt] &= written;
      written_at[pc + 1 + insn.jf] &= written;
      written = 0xffff;
    }
  }
  return true;
}

// `kKnown`: of the data only the number and the architecture are known, and a load of anything else gives up.
template <bool kKnown>
std::optional<uint32_t> Run(std::span<const sock_filter> program, const seccomp_data& data) {
  uint32_t a = 0, x = 0;
  std::array<uint32_t, BPF_MEMWORDS> memory{};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& insn = program[pc];
    const uint32_t k = insn.k;
    switch (insn.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (kKnown && k != offsetof(seccomp_data, nr) && k != offsetof(seccomp_data, arch)) return std::nullopt;
        memcpy(&a, reinterpret_cast<const char*>(&data) + k, sizeof(a));
        break;
      case BPF_LD | BPF_W | BPF_LEN:
        a = sizeof(seccomp_data);
        break;
      case BPF_LDX | BPF_W | BPF_LEN:
        x = sizeof(seccomp_data);
        break;
      case BPF_LD | BPF_IMM:
        a = k;
        break;
      case BPF_LDX | BPF_IMM:
        x = k;
        break;
      case BPF_LD | BPF_MEM:
        a = memory[k];
        break;
      case BPF_LDX | BPF_MEM:
        x = memory[k];
        break;
      case BPF_ST:
        memory[k] = a;
        break;
      case BPF_STX:
        memory[k] = x;
        break;
      case BPF_MISC | BPF_TAX:
        x = a;
        break;
      case BPF_MISC | BPF_TXA:
        a = x;
        break;
      case BPF_ALU | BPF_ADD | BPF_K:
        a += k;
        break;
      case BPF_ALU | BPF_ADD | BPF_X:
        a += x;
        break;
      case BPF_ALU | BPF_SUB | BPF_K:
        a -= k;
        break;
      case BPF_ALU | BPF_SUB | BPF_X:
        a -= x;
        break;
      case BPF_ALU | BPF_MUL | BPF_K:
        a *= k;
        break;
      case BPF_ALU | BPF_MUL | BPF_X:
        a *= x;
        break;
      case BPF_ALU | BPF_DIV | BPF_K:
        a /= k;
        break;
      case BPF_ALU | BPF_DIV | BPF_X:
        if (x == 0) return 0;  // ends the program (net/core/filter.c: bpf_convert_filter)
        a /= x;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= k;
        break;
      case BPF_ALU | BPF_AND | BPF_X:
        a &= x;
        break;
      case BPF_ALU | BPF_OR | BPF_K:
        a |= k;
        break;
      case BPF_ALU | BPF_OR | BPF_X:
        a |= x;
        break;
      case BPF_ALU | BPF_XOR | BPF_K:
        a ^= k;
        break;
      case BPF_ALU | BPF_XOR | BPF_X:
        a ^= x;
        break;
      case BPF_ALU | BPF_LSH | BPF_K:
        a <<= k;
        break;
      case BPF_ALU | BPF_LSH | BPF_X:
        a <<= x & 31;  // as the eBPF that Linux makes of it
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        a >>= k;
        break;
      case BPF_ALU | BPF_RSH | BPF_X:
        a >>= x & 31;
        break;
      case BPF_ALU | BPF_NEG:
        a = -a;
        break;
      case BPF_JMP | BPF_JA:
        pc += k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == k ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JEQ | BPF_X:
        pc += a == x ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= k ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_X:
        pc += a >= x ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        pc += a > k ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_X:
        pc += a > x ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        pc += (a & k) != 0 ? insn.jt : insn.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_X:
        pc += (a & x) != 0 ? insn.jt : insn.jf;
        break;
      case BPF_RET | BPF_K:
        return k;
      case BPF_RET | BPF_A:
        return a;
      default:
        return 0;  // a checked program has none of these
    }
  }
  return 0;  // nor does it run off its end
}

}  // namespace

Result<void> CheckSeccompProgram(std::span<const sock_filter> program) {
  const size_t length = program.size();
  if (length == 0 || length > kSeccompMaxInstructions) return Errno(EINVAL);
  for (size_t pc = 0; pc < length; ++pc) {
    const sock_filter& insn = program[pc];
    if (!InstructionAllowed(insn)) return Errno(EINVAL);
    const size_t left = length - pc - 1;
    if (insn.code == (BPF_JMP | BPF_JA) && insn.k >= left) return Errno(EINVAL);
    if (IsConditionalJump(insn.code) && (insn.jt >= left || insn.jf >= left)) return Errno(EINVAL);
  }
  const uint16_t last = program[length - 1].code;
  if (last != (BPF_RET | BPF_K) && last != (BPF_RET | BPF_A)) return Errno(EINVAL);
  if (!StoresComeBeforeLoads(program)) return Errno(EINVAL);
  return {};
}

size_t SeccompProgramCost(std::span<const sock_filter> program) {
  size_t cost = 3;  // A, X and the context
  for (const sock_filter& insn : program) {
    ++cost;
    if (insn.code == (BPF_RET | BPF_K)) ++cost;               // move, exit
    if (insn.code == (BPF_ALU | BPF_DIV | BPF_X)) cost += 4;  // exit if X is zero
    if (!IsConditionalJump(insn.code)) continue;
    if (BPF_SRC(insn.code) == BPF_K && static_cast<int32_t>(insn.k) < 0) ++cost;  // constants are signed there
    const bool has_inverse = BPF_OP(insn.code) != BPF_JSET;
    if (insn.jf != 0 && (insn.jt != 0 || !has_inverse)) ++cost;  // another jump
  }
  return cost;
}

uint32_t RunSeccompProgram(std::span<const sock_filter> program, const seccomp_data& data) {
  return *Run<false>(program, data);
}

std::optional<uint32_t> RunSeccompProgramOnNumber(std::span<const sock_filter> program, int number, uint32_t arch) {
  seccomp_data data{};
  data.nr = number;
  data.arch = arch;
  return Run<true>(program, data);
}

}  // namespace sentry
