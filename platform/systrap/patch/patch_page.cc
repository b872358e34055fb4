#include "platform/systrap/patch/patch_page.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <map>
#include <utility>

#include "platform/systrap/patch/function_proof.h"
#include "platform/systrap/patch/instruction.h"
#include "platform/systrap/patch/relocate.h"
#include "platform/systrap/patch/trampoline.h"

namespace platform::patch {
namespace {

// A jump over the rest of the no-op, and the long jump.
constexpr uint64_t kMinSkippedNop = kShortJumpSize + kLongJumpSize;

// Padding that can hold a long jump.
struct Padding {
  uint64_t start = 0;
  uint64_t end = 0;
  bool skipped = false;  // a no-op that is executed: it has to become a jump over itself
};

class PagePatcher {
 public:
  explicit PagePatcher(const PatchRequest& request)
      : request_(request), block_(request.trampolines, request.trampoline_space, request.entry) {}

  PatchedPage Run();

 private:
  struct Candidate {
    uint64_t syscall = 0;
    uint64_t address = 0;  // of the instruction before it
    Instruction instruction;
    std::span<const uint8_t> code;
  };

  // `size` bytes at `address`; empty if they are not all there.
  std::span<const uint8_t> Text(uint64_t address, uint64_t size) const;
  void TakeFunctions();
  // The function of `address`, or of the last one that starts before it, by index; functions_.size() if there is none.
  size_t FunctionBefore(uint64_t address) const;
  const FunctionProof* Proof(size_t function);
  // False if the function begins in the middle of the padding before it. That of a signal trampoline is corrected.
  bool CheckStart(size_t function);
  // Takes what lies between the function and the next one for a part of the function, if that can be proven.
  bool ExtendOverGap(size_t function);
  void Consider(uint64_t syscall);
  bool Forbidden(const Candidate& c) const;
  bool Trapped(uint64_t syscall) const;
  void Refuse(uint64_t syscall, Refusal reason) { out_.refused.push_back({syscall, reason}); }
  bool InPage(uint64_t address, uint64_t size) const {
    return address >= request_.page && size <= kPageSize && address - request_.page <= kPageSize - size;
  }
  bool HasTargetIn(uint64_t first, uint64_t last) const;
  bool Unused(uint64_t address, uint64_t size) const;
  void Write(uint64_t address, std::span<const uint8_t> bytes);
  void PatchLong(const Candidate& c);
  void PatchShort(const Candidate& c);
  Site MakeSite(const Candidate& c) const;
  bool TryPadding(const Candidate& c, const Padding& padding);
  bool TryGapBehind(const Candidate& c, size_t function);
  bool TryNopsOf(const Candidate& c, const FunctionProof& proof);

  const PatchRequest& request_;
  std::vector<CodeRange> functions_;
  std::map<size_t, std::optional<FunctionProof>> proofs_;
  std::vector<Candidate> long_, short_;
  TrampolineBlock block_;
  std::bitset<kPageSize> used_;
  PatchedPage out_;
};

std::span<const uint8_t> PagePatcher::Text(uint64_t address, uint64_t size) const {
  if (address < request_.text_address) return {};
  const uint64_t offset = address - request_.text_address;
  if (offset > request_.text.size() || request_.text.size() - offset < size) return {};
  return request_.text.subspan(offset, size);
}

void PagePatcher::TakeFunctions() {
  for (const CodeRange& range : request_.functions) {
    if (range.end <= range.start || (!functions_.empty() && range.start < functions_.back().end)) break;
    functions_.push_back(range);
  }
}

size_t PagePatcher::FunctionBefore(uint64_t address) const {
  auto above = std::upper_bound(functions_.begin(), functions_.end(), address,
                                [](uint64_t a, const CodeRange& range) { return a < range.start; });
  return above == functions_.begin() ? functions_.size() : static_cast<size_t>(above - functions_.begin()) - 1;
}

bool PagePatcher::CheckStart(size_t function) {
  CodeRange& range = functions_[function];
  const uint64_t start = function == 0 ? range.start : functions_[function - 1].end;
  // Padding that was cut off goes on into the function.
  const auto code = Text(start, std::min<uint64_t>(range.start - start + kMaxInstruction, range.end - start));
  if (function == 0 || range.start - start > kMaxPadding || code.empty()) return !range.signal_frame;
  uint64_t at = 0;
  Instruction instruction;
  while (start + at < range.start) {
    // Something without an entry of its own lies before it: then there is nothing to compare with.
    if (!Decode(code.subspan(at), instruction)) return !range.signal_frame;
    if (!instruction.is_nop() && !instruction.is(OpcodeMap::kOneByte, 0xcc)) return !range.signal_frame;
    at += instruction.length;
  }
  if (start + at == range.start) return true;
  if (!range.signal_frame || start + at != range.start + 1) return false;
  ++range.start;
  return true;
}

const FunctionProof* PagePatcher::Proof(size_t function) {
  auto [it, fresh] = proofs_.try_emplace(function);
  if (fresh && CheckStart(function)) {
    const CodeRange& range = functions_[function];
    it->second = FunctionProof::Prove(range, Text(range.start, range.size()));
  }
  return it->second ? &*it->second : nullptr;
}

bool PagePatcher::Trapped(uint64_t syscall) const {
  return std::any_of(request_.traps.begin(), request_.traps.end(),
                     [&](const Trap& trap) { return trap.rip == syscall + 2; });
}

// clone() ends its unwind entry at the `syscall`, so that nobody unwinds past the start of a thread, and the next entry
// begins some instructions on. The first instruction in between is proven to be one by being run into.
bool PagePatcher::ExtendOverGap(size_t function) {
  if (function + 1 >= functions_.size()) return false;
  const FunctionProof* proof = Proof(function);
  if (proof == nullptr || !proof->falls_through()) return false;
  CodeRange& range = functions_[function];
  const CodeRange whole{range.start, functions_[function + 1].start};
  if (whole.end - range.end > kMaxPadding) return false;
  auto extended = FunctionProof::Prove(whole, Text(whole.start, whole.size()));
  if (!extended) return false;
  range = whole;
  proofs_[function] = std::move(extended);
  return true;
}

// A trap with another number than the site would set says either that somebody jumps to the `syscall` itself, which is
// fine but not worth patching for, or that something is not as it was read.
bool PagePatcher::Forbidden(const Candidate& c) const {
  const auto number = ConstantEax(c.instruction, c.code);
  return number && std::any_of(request_.traps.begin(), request_.traps.end(), [&](const Trap& trap) {
           return trap.rip == c.syscall + 2 && static_cast<uint32_t>(trap.rax) != *number;
         });
}

void PagePatcher::Consider(uint64_t syscall) {
  if (request_.scope == Scope::kTraps && !Trapped(syscall)) return;
  const size_t function = FunctionBefore(syscall);
  if (function == functions_.size() ||
      (!functions_[function].contains(syscall) && !(syscall == functions_[function].end && ExtendOverGap(function)))) {
    return Refuse(syscall, Refusal::kNotProven);
  }
  const FunctionProof* proof = Proof(function);
  if (proof == nullptr) return Refuse(syscall, Refusal::kNotProven);
  if (!proof->IsStart(syscall)) return;  // two bytes of something else
  Candidate c;
  c.syscall = syscall;
  const auto before = proof->InstructionBefore(syscall);
  if (!before) return Refuse(syscall, Refusal::kFirst);
  c.address = *before;
  c.code = Text(c.address, syscall - c.address);
  if (!Decode(c.code, c.instruction) || c.instruction.length != c.code.size())
    return Refuse(syscall, Refusal::kNotProven);
  if (!IsRelocatable(c.instruction) || c.instruction.length < kShortJumpSize) {
    return Refuse(syscall, Refusal::kNotRelocatable);
  }
  if (!InPage(c.address, c.instruction.length)) return Refuse(syscall, Refusal::kCrossesPage);
  if (Forbidden(c)) return Refuse(syscall, Refusal::kNumberDiffers);
  if (long_.size() + short_.size() == kMaxSitesPerPage) return Refuse(syscall, Refusal::kNoSpace);
  (c.instruction.length >= kLongJumpSize ? long_ : short_).push_back(c);
}

bool PagePatcher::HasTargetIn(uint64_t first, uint64_t last) const {
  return std::any_of(proofs_.begin(), proofs_.end(),
                     [&](const auto& entry) { return entry.second && entry.second->HasTargetIn(first, last); });
}

bool PagePatcher::Unused(uint64_t address, uint64_t size) const {
  for (uint64_t i = 0; i < size; ++i) {
    if (used_[address - request_.page + i]) return false;
  }
  return true;
}

void PagePatcher::Write(uint64_t address, std::span<const uint8_t> bytes) {
  const uint64_t offset = address - request_.page;
  Edit edit;
  edit.offset = static_cast<uint16_t>(offset);
  edit.length = static_cast<uint8_t>(bytes.size());
  for (size_t i = 0; i < bytes.size(); ++i) {
    edit.original[i] = out_.bytes[offset + i];
    out_.bytes[offset + i] = bytes[i];
    used_.set(offset + i);
  }
  out_.edits.push_back(edit);
}

Site PagePatcher::MakeSite(const Candidate& c) const {
  Site site;
  site.address = c.address;
  site.length = c.instruction.length;
  site.number = ConstantEax(c.instruction, c.code);
  site.kind = c.instruction.length < kLongJumpSize ? SiteKind::kViaPadding
              : site.number                        ? SiteKind::kImmediate
                                                   : SiteKind::kCopied;
  site.trampoline = block_.next();
  return site;
}

void PagePatcher::PatchLong(const Candidate& c) {
  if (HasTargetIn(c.address + 1, c.syscall - 1)) return Refuse(c.syscall, Refusal::kTargetInside);
  if (block_.full()) return Refuse(c.syscall, Refusal::kNoSpace);
  std::array<uint8_t, kMaxInstruction> jump;
  jump.fill(0xcc);
  const Site site = MakeSite(c);
  if (!WriteLongJump(jump, c.address, site.trampoline) || !block_.Add(c.instruction, c.code, c.address)) {
    return Refuse(c.syscall, Refusal::kOutOfReach);
  }
  Write(c.address, std::span(jump).first(c.instruction.length));
  out_.sites.push_back(site);
}

bool PagePatcher::TryPadding(const Candidate& c, const Padding& padding) {
  const uint64_t jump_at = padding.skipped ? padding.start + kShortJumpSize : padding.start;
  std::array<uint8_t, kMaxInstruction> jump;
  jump.fill(0xcc);
  if (!WriteShortJump(jump, c.address, jump_at)) return false;
  // What is skipped is written whole; of what is never executed, only the jump.
  const uint64_t size = padding.skipped ? padding.end - padding.start : kLongJumpSize;
  if (!InPage(padding.start, size) || !Unused(padding.start, size)) return false;
  if (HasTargetIn(padding.skipped ? padding.start + 1 : padding.start, padding.start + size - 1)) return false;
  std::array<uint8_t, kMaxInstruction> pad;
  pad.fill(0xcc);
  Site site = MakeSite(c);
  site.padding = jump_at;
  if (padding.skipped && !WriteShortJump(pad, padding.start, padding.end)) return false;
  if (!WriteLongJump(std::span(pad).subspan(jump_at - padding.start), jump_at, site.trampoline) ||
      !block_.Add(c.instruction, c.code, c.address)) {
    return false;
  }
  Write(padding.start, std::span(pad).first(size));
  Write(c.address, std::span(jump).first(c.instruction.length));
  out_.sites.push_back(site);
  return true;
}

// Between `function` and the next one.
bool PagePatcher::TryGapBehind(const Candidate& c, size_t function) {
  if (function + 1 >= functions_.size()) return false;
  const uint64_t start = functions_[function].end, end = functions_[function + 1].start;
  if (end - start < kLongJumpSize || end - start > kMaxPadding) return false;
  auto code = Text(start, end - start);
  if (code.empty()) return false;
  const FunctionProof* proof = Proof(function);
  if (proof == nullptr) return false;
  // All of it has to be padding: anything else is code without an entry in the unwind table.
  std::vector<Padding> nops;
  Instruction instruction;
  for (uint64_t at = 0; at < code.size(); at += instruction.length) {
    if (!Decode(code.subspan(at), instruction)) return false;
    const bool int3 = instruction.is(OpcodeMap::kOneByte, 0xcc);
    if (!instruction.is_nop() && !int3) return false;
    if (!int3) nops.push_back({start + at, start + at + instruction.length, true});
  }
  if (!proof->falls_through()) {
    for (uint64_t at = start; at + kLongJumpSize <= end; ++at) {
      if (TryPadding(c, {at, at + kLongJumpSize, false})) return true;
    }
    return false;
  }
  return std::any_of(nops.begin(), nops.end(),
                     [&](const Padding& nop) { return nop.end - nop.start >= kMinSkippedNop && TryPadding(c, nop); });
}

// The padding in front of loops.
bool PagePatcher::TryNopsOf(const Candidate& c, const FunctionProof& proof) {
  const uint64_t first = std::max(proof.range().start, c.address > 140 ? c.address - 140 : 0);
  const uint64_t last = std::min(proof.range().end, c.address + 140);
  Instruction instruction;
  for (uint64_t at = first; at < last; ++at) {
    if (!proof.IsStart(at) || !InPage(at, kMinSkippedNop)) continue;
    const auto code = Text(at, std::min<uint64_t>(kMaxInstruction, proof.range().end - at));
    if (!Decode(code, instruction) || !instruction.is_nop() || instruction.length < kMinSkippedNop) continue;
    if (TryPadding(c, {at, at + instruction.length, true})) return true;
  }
  return false;
}

void PagePatcher::PatchShort(const Candidate& c) {
  if (HasTargetIn(c.address + 1, c.syscall - 1)) return Refuse(c.syscall, Refusal::kTargetInside);
  if (!Unused(c.address, c.instruction.length)) return Refuse(c.syscall, Refusal::kNoPadding);
  if (block_.full()) return Refuse(c.syscall, Refusal::kNoSpace);
  // Functions from the last that starts in front of what a short jump reaches.
  const uint64_t lowest = c.address > 140 ? c.address - 140 : 0;
  size_t function = FunctionBefore(lowest);
  if (function == functions_.size()) function = 0;
  for (size_t f = function; f < functions_.size() && functions_[f].start < c.address + 140; ++f) {
    if (TryGapBehind(c, f)) return;
  }
  const FunctionProof* own = Proof(FunctionBefore(c.syscall));
  if (own != nullptr && TryNopsOf(c, *own)) return;
  Refuse(c.syscall, Refusal::kNoPadding);
}

PatchedPage PagePatcher::Run() {
  out_.page = request_.page;
  out_.trampoline_address = request_.trampolines;
  const auto page = Text(request_.page, kPageSize);
  if (page.empty() || request_.page > UINT64_MAX - 2 * kPageSize) return std::move(out_);
  TakeFunctions();
  // A `syscall` belongs to the page of the byte before it: it may be the first of the next page.
  const auto looked_at = request_.text.subspan(static_cast<size_t>(request_.page - request_.text_address));
  for (uint64_t i = 1; i <= kPageSize && i + 1 < looked_at.size(); ++i) {
    if (looked_at[i] == 0x0f && looked_at[i + 1] == 0x05) Consider(request_.page + i);
  }
  if (long_.empty() && short_.empty()) return std::move(out_);
  out_.bytes.assign(page.begin(), page.end());
  for (const Candidate& c : long_) PatchLong(c);
  for (const Candidate& c : short_) PatchShort(c);
  if (out_.sites.empty()) {
    out_.bytes.clear();
  } else {
    out_.trampolines = block_.TakeBytes();
  }
  return std::move(out_);
}

}  // namespace

PatchedPage PatchPage(const PatchRequest& request) { return PagePatcher(request).Run(); }

}  // namespace platform::patch
