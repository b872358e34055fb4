#include "platform/ptrace/fault_access.h"

#include <cstring>

#include "platform/ptrace/ptrace_calls.h"

namespace platform::ptrace {

AccessType GuessAccess(pid_t tid, const Registers& regs, uint64_t address) {
  if (address == regs.rip) return AccessType::kExecute;
  uint8_t code[16];
  size_t have = 0;
  for (size_t at = 0; at < sizeof(code); at += 8) {
    uint64_t word;
    if (PeekWord(tid, regs.rip + at, word) < 0) break;
    memcpy(code + at, &word, 8);
    have += 8;
  }
  return DecodeAccess({code, have}, regs, address);
}

AccessType DecodeAccess(std::span<const uint8_t> code, const Registers& regs, uint64_t address) {
  if (address == regs.rip) return AccessType::kExecute;
  return AccessType::kRead;
}

}  // namespace platform::ptrace
