#include "platform/systrap/patch/padding.h"

#include <algorithm>

#include "platform/systrap/patch/instruction.h"

namespace platform::patch {
namespace {

constexpr uint64_t kReach = 127;  // backwards one more, which is not worth a second constant

bool IsInt3(const Instruction& instruction) { return instruction.is(OpcodeMap::kOneByte, 0xcc); }

bool Reaches(uint64_t from, uint64_t to) {
  const uint64_t end = from + kShortJumpSize;
  return to >= end ? to - end <= kReach : end - to <= kReach;
}

}  // namespace

void AddPaddingBetween(uint64_t start, std::span<const uint8_t> code, bool reached, std::vector<Padding>& out) {
  const size_t before = out.size();
  Instruction instruction;
  for (size_t at = 0; at < code.size(); at += instruction.length) {
    const bool known = Decode(code.subspan(at), instruction);
    if (!known || (!instruction.is_nop() && !IsInt3(instruction))) {
      out.resize(before);
      return;
    }
    if (reached && instruction.is_nop()) out.push_back({start + at, start + at + instruction.length, true});
  }
  if (!reached && !code.empty()) out.push_back({start, start + code.size(), false});
}

void AddPaddingInside(const FunctionProof& proof, std::span<const uint8_t> code, uint64_t first, uint64_t last,
                      std::vector<Padding>& out) {
  const uint64_t start = proof.range().start;
  first = std::max(first, start);
  last = std::min(last, proof.range().end);
  while (first < last && !proof.IsStart(first)) ++first;
  bool reached = true;
  Instruction instruction;
  for (uint64_t at = first; at < last; at += instruction.length) {
    if (!Decode(code.subspan(at - start), instruction)) return;
    const uint64_t end = at + instruction.length;
    if (IsInt3(instruction)) {
      // A run of them after a jump or return. Alone, after anything else, it is a breakpoint.
      if (!reached && !out.empty() && !out.back().executed && out.back().end == at) {
        out.back().end = end;
      } else if (!reached) {
        out.push_back({at, end, false});
      }
      continue;
    }
    if (instruction.is_nop() && instruction.length > kShortJumpSize) out.push_back({at, end, true});
    reached = instruction.falls_through();
  }
}

PaddingPool::PaddingPool(std::vector<Padding> padding) : padding_(std::move(padding)) {
  std::sort(padding_.begin(), padding_.end(), [](const Padding& a, const Padding& b) { return a.start < b.start; });
}

std::optional<Route> PaddingPool::Find(uint64_t from) const {
  struct Visit {
    size_t padding;
    size_t came_from;  // index of a visit; its own for the first ones
    size_t depth;
  };
  std::vector<Visit> visits;
  std::vector<bool> visited(padding_.size());
  // Breadth first; visit number `at - 1` is left for its neighbours.
  for (size_t at = 0; at <= visits.size(); ++at) {
    const bool first = at == 0;
    const size_t depth = first ? 0 : visits[at - 1].depth + 1;
    if (depth > kMaxHops) break;
    const uint64_t here = first ? from : padding_[visits[at - 1].padding].jump();
    const uint64_t lowest = here > 2 * kReach ? here - 2 * kReach : 0;
    auto it = std::lower_bound(padding_.begin(), padding_.end(), lowest,
                               [](const Padding& p, uint64_t address) { return p.start < address; });
    for (; it != padding_.end() && it->start <= here + 2 * kReach; ++it) {
      const size_t i = static_cast<size_t>(it - padding_.begin());
      if (visited[i] || it->room() < kShortJumpSize || !Reaches(here, it->jump())) continue;
      visited[i] = true;
      visits.push_back({i, first ? visits.size() : at - 1, depth});
      if (it->room() < kLongJumpSize) continue;
      Route route;
      route.size = depth + 1;
      size_t visit = visits.size() - 1;
      for (size_t n = route.size; n-- > 0; visit = visits[visit].came_from) route.padding[n] = visits[visit].padding;
      return route;
    }
  }
  return {};
}

void PaddingPool::Take(size_t i, size_t size) {
  Padding& p = padding_[i];
  p.start = p.executed ? p.end : p.start + size;
}

}  // namespace platform::patch
