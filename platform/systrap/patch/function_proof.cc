#include "platform/systrap/patch/function_proof.h"

#include <algorithm>

namespace platform::patch {

std::optional<FunctionProof> FunctionProof::Prove(CodeRange range, std::span<const uint8_t> code) {
  if (range.end <= range.start || range.size() > kMaxFunctionSize || code.size() != range.size()) return {};
  FunctionProof proof;
  proof.range_ = range;
  proof.starts_.resize((code.size() + 63) / 64);
  Instruction instruction;
  for (size_t at = 0; at < code.size(); at += instruction.length) {
    if (!Decode(code.subspan(at), instruction)) return {};
    proof.starts_[at / 64] |= uint64_t{1} << (at % 64);
    proof.falls_through_ = instruction.falls_through();
    if (instruction.direct()) {
      proof.targets_.push_back(range.start + at + instruction.length +
                               static_cast<uint64_t>(int64_t{instruction.target}));
    }
  }
  // Decode never reads past `code`, so the last instruction ended with it.
  std::sort(proof.targets_.begin(), proof.targets_.end());
  for (uint64_t target : proof.targets_) {
    if (!range.contains(target) || proof.IsStart(target)) continue;
    const bool behind_lock = code[target - range.start - 1] == 0xf0 && proof.IsStart(target - 1);
    if (!behind_lock) return {};
  }
  return proof;
}

bool FunctionProof::IsStart(uint64_t address) const {
  if (!range_.contains(address)) return false;
  const uint64_t at = address - range_.start;
  return (starts_[at / 64] >> (at % 64)) & 1;
}

std::optional<uint64_t> FunctionProof::InstructionBefore(uint64_t address) const {
  if (address != range_.end && !IsStart(address)) return {};
  for (uint64_t n = 1; n <= kMaxInstruction && n <= address - range_.start; ++n) {
    if (IsStart(address - n)) return address - n;
  }
  return {};
}

}  // namespace platform::patch
