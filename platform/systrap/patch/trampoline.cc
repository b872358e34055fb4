#include "platform/systrap/patch/trampoline.h"

#include <cstring>
#include <limits>

#include "base/check.h"
#include "platform/systrap/patch/relocate.h"

namespace platform::patch {
namespace {

// The displacement of an instruction that ends at `end` and names `to`.
template <typename T>
bool WriteRelative(uint8_t* out, uint64_t end, uint64_t to) {
  const int64_t distance = static_cast<int64_t>(to - end);
  if (distance < std::numeric_limits<T>::min() || distance > std::numeric_limits<T>::max()) return false;
  const T narrow = static_cast<T>(distance);
  std::memcpy(out, &narrow, sizeof narrow);
  return true;
}

}  // namespace

bool WriteLongJump(std::span<uint8_t> out, uint64_t from, uint64_t to) {
  out[0] = 0xe9;
  return WriteRelative<int32_t>(&out[1], from + kLongJumpSize, to);
}

bool WriteShortJump(std::span<uint8_t> out, uint64_t from, uint64_t to) {
  out[0] = 0xeb;
  return WriteRelative<int8_t>(&out[1], from + kShortJumpSize, to);
}

TrampolineBlock::TrampolineBlock(uint64_t address, uint64_t space, uint64_t entry) : address_(address), space_(space) {
  CHECK(address % kTrampolineAlignment == 0);
  if (space < kLiteralSize) return;
  bytes_.resize(kLiteralSize);
  std::memcpy(bytes_.data(), &entry, sizeof entry);
}

bool TrampolineBlock::full() const {
  constexpr uint64_t kLargest = (kMaxInstruction + kLoadReturnSize + kJumpEntrySize + kTrampolineAlignment - 1) /
                                kTrampolineAlignment * kTrampolineAlignment;
  return bytes_.empty() || space_ - bytes_.size() < kLargest;
}

bool TrampolineBlock::Add(const Instruction& instruction, std::span<const uint8_t> code, uint64_t from) {
  CHECK(!full());
  uint8_t out[kMaxInstruction + kLoadReturnSize + kJumpEntrySize];
  const uint64_t at = next();
  size_t size = instruction.length;
  if (!Relocate(instruction, code, from, at, out)) return false;

  const uint8_t lea[] = {0x48, 0x8d, 0x0d};
  std::memcpy(out + size, lea, sizeof lea);
  const uint64_t after = from + instruction.length + 2;
  if (!WriteRelative<int32_t>(out + size + sizeof lea, at + size + kLoadReturnSize, after)) return false;
  size += kLoadReturnSize;

  const uint8_t jmp[] = {0xff, 0x25};
  std::memcpy(out + size, jmp, sizeof jmp);
  if (!WriteRelative<int32_t>(out + size + sizeof jmp, at + size + kJumpEntrySize, address_)) return false;
  size += kJumpEntrySize;

  bytes_.insert(bytes_.end(), out, out + size);
  while (bytes_.size() % kTrampolineAlignment != 0) bytes_.push_back(kFiller);
  return true;
}

}  // namespace platform::patch
