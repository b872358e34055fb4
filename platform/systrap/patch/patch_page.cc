#include "platform/systrap/patch/patch_page.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"
#include "platform/systrap/patch/function_proof.h"
#include "platform/systrap/patch/instruction.h"
#include "platform/systrap/patch/padding.h"
#include "platform/systrap/patch/relocate.h"
#include "platform/systrap/patch/trampoline.h"

namespace platform::patch {
namespace {

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
  void TakeTargets(const FunctionProof& proof);
  // True if a direct branch of a function that was decoded lands in [first, last], a part of the page: both ends count.
  bool HasTargetIn(uint64_t first, uint64_t last);
  bool Unused(uint64_t address, uint64_t size) const;
  void Write(uint64_t address, std::span<const uint8_t> bytes);
  void PatchLong(const Candidate& c);
  void PatchShort(const Candidate& c, PaddingPool& pool);
  Site MakeSite(const Candidate& c) const;
  PaddingPool FindPadding();
  bool WriteRoute(const Candidate& c, PaddingPool& pool, const Route& route);

  const PatchRequest& request_;
  std::vector<CodeRange> functions_;
  std::map<size_t, std::optional<FunctionProof>> proofs_;
  std::vector<uint64_t> targets_;  // in the page, of all proofs
  bool targets_sorted_ = true;
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
    if (it->second) TakeTargets(*it->second);
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
  TakeTargets(*extended);
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
  if (functions_[function].stretch && ConstantEax(c.instruction, c.code) == uint32_t{SYS_rt_sigreturn}) {
    return Refuse(syscall, Refusal::kSignalReturn);
  }
  if (Forbidden(c)) return Refuse(syscall, Refusal::kNumberDiffers);
  if (long_.size() + short_.size() == kMaxSitesPerPage) return Refuse(syscall, Refusal::kNoSpace);
  (c.instruction.length >= kLongJumpSize ? long_ : short_).push_back(c);
}

void PagePatcher::TakeTargets(const FunctionProof& proof) {
  const auto all = proof.targets();
  const auto first = std::lower_bound(all.begin(), all.end(), request_.page);
  const auto last = std::lower_bound(first, all.end(), request_.page + kPageSize);
  targets_.insert(targets_.end(), first, last);
  targets_sorted_ = false;
}

bool PagePatcher::HasTargetIn(uint64_t first, uint64_t last) {
  if (!targets_sorted_) {
    std::sort(targets_.begin(), targets_.end());
    targets_.erase(std::unique(targets_.begin(), targets_.end()), targets_.end());
    targets_sorted_ = true;
  }
  const auto it = std::lower_bound(targets_.begin(), targets_.end(), first);
  return it != targets_.end() && *it <= last;
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
  jump.fill(kFiller);
  const Site site = MakeSite(c);
  if (!WriteLongJump(jump, c.address, site.trampoline) || !block_.Add(c.instruction, c.code, c.address)) {
    return Refuse(c.syscall, Refusal::kOutOfReach);
  }
  Write(c.address, std::span(jump).first(c.instruction.length));
  out_.sites.push_back(site);
}

// All of the page that is nobody's.
PaddingPool PagePatcher::FindPadding() {
  std::vector<Padding> all;
  const uint64_t page_end = request_.page + kPageSize;
  for (size_t f = 0; f < functions_.size() && functions_[f].start < page_end; ++f) {
    if (functions_[f].end + kMaxPadding < request_.page) continue;
    const FunctionProof* proof = Proof(f);
    if (proof == nullptr) continue;
    const CodeRange& range = functions_[f];
    AddPaddingInside(*proof, Text(range.start, range.size()), request_.page, page_end, all);
    if (f + 1 == functions_.size() || functions_[f + 1].start - range.end > kMaxPadding) continue;
    AddPaddingBetween(range.end, Text(range.end, functions_[f + 1].start - range.end), proof->falls_through(), all);
  }
  std::vector<Padding> usable;
  for (Padding p : all) {
    if (!p.executed) {
      p.start = std::max(p.start, request_.page);
      p.end = std::min(p.end, page_end);
    }
    if (p.end <= p.start || !InPage(p.start, p.end - p.start) || !Unused(p.start, p.end - p.start)) continue;
    // A no-op may be what stands before a `syscall`.
    if (std::any_of(short_.begin(), short_.end(), [&](const Candidate& c) { return c.address == p.start; })) continue;
    // Nothing jumps there, or the analysis is wrong about what it is.
    if (!HasTargetIn(p.executed ? p.start + 1 : p.start, p.end - 1)) usable.push_back(p);
  }
  return PaddingPool(std::move(usable));
}

bool PagePatcher::WriteRoute(const Candidate& c, PaddingPool& pool, const Route& route) {
  Site site = MakeSite(c);
  site.padding = pool[route.padding[route.size - 1]].jump();
  std::array<uint8_t, kMaxInstruction> jump;
  jump.fill(kFiller);
  std::array<uint8_t, kLongJumpSize> last;
  if (!WriteShortJump(jump, c.address, pool[route.padding[0]].jump()) ||
      !WriteLongJump(last, site.padding, site.trampoline) || !block_.Add(c.instruction, c.code, c.address)) {
    return false;
  }
  for (size_t i = 0; i < route.size; ++i) {
    const Padding p = pool[route.padding[i]];
    const bool is_last = i + 1 == route.size;
    std::array<uint8_t, kMaxInstruction> bytes;
    bytes.fill(kFiller);
    const size_t skip = p.executed ? kShortJumpSize : 0;
    const size_t size = is_last ? kLongJumpSize : kShortJumpSize;
    if (is_last) {
      std::copy(last.begin(), last.end(), bytes.begin() + skip);
    } else {
      CHECK(WriteShortJump(std::span(bytes).subspan(skip), p.jump(), pool[route.padding[i + 1]].jump()));
      site.hops[site.hop_count++] = static_cast<uint16_t>(p.jump() - request_.page);
    }
    if (p.executed) CHECK(WriteShortJump(bytes, p.start, p.end));
    // A no-op is written whole.
    Write(p.start, std::span(bytes).first(p.executed ? p.end - p.start : size));
    pool.Take(route.padding[i], size);
  }
  Write(c.address, std::span(jump).first(c.instruction.length));
  out_.sites.push_back(site);
  return true;
}

void PagePatcher::PatchShort(const Candidate& c, PaddingPool& pool) {
  if (HasTargetIn(c.address + 1, c.syscall - 1)) return Refuse(c.syscall, Refusal::kTargetInside);
  if (!Unused(c.address, c.instruction.length)) return Refuse(c.syscall, Refusal::kNoPadding);
  if (block_.full()) return Refuse(c.syscall, Refusal::kNoSpace);
  const auto route = pool.Find(c.address);
  if (!route) return Refuse(c.syscall, Refusal::kNoPadding);
  if (!WriteRoute(c, pool, *route)) Refuse(c.syscall, Refusal::kOutOfReach);
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
  if (!short_.empty()) {
    PaddingPool pool = FindPadding();
    for (const Candidate& c : short_) PatchShort(c, pool);
  }
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
