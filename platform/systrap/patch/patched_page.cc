#include "platform/systrap/patch/patched_page.h"

#include <algorithm>

#include "platform/systrap/patch/trampoline.h"

namespace platform::patch {

const char* RefusalName(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNotProven:
      return "not proven";
    case Refusal::kFirst:
      return "first in its function";
    case Refusal::kNotRelocatable:
      return "not relocatable";
    case Refusal::kTargetInside:
      return "a branch lands inside";
    case Refusal::kCrossesPage:
      return "crosses a page";
    case Refusal::kNoPadding:
      return "no padding in reach";
    case Refusal::kOutOfReach:
      return "out of reach";
    case Refusal::kNoSpace:
      return "no space";
    case Refusal::kSignalReturn:
      return "signal return";
    case Refusal::kNumberDiffers:
      return "number differs";
  }
  return "unknown";
}

std::optional<OriginalPosition> FindOriginal(const PatchedPage& page, uint64_t rip) {
  auto above = std::upper_bound(page.sites.begin(), page.sites.end(), rip,
                                [](uint64_t address, const Site& site) { return address < site.trampoline; });
  if (above != page.sites.begin()) {
    const Site& site = *(above - 1);
    if (rip == site.trampoline) return OriginalPosition{site.address, &site, false};
    if (rip == site.trampoline + site.length) return OriginalPosition{site.syscall(), &site, false};
    if (rip == site.trampoline + site.length + kLoadReturnSize) return OriginalPosition{site.syscall(), &site, true};
  }
  for (const Site& site : page.sites) {
    if (site.padding == 0) continue;
    bool on_the_way = rip == site.padding;
    for (size_t i = 0; i < site.hop_count; ++i) on_the_way |= rip == page.page + site.hops[i];
    if (on_the_way) return OriginalPosition{site.address, &site, false};
  }
  return {};
}

void RestoreOriginal(const PatchedPage& page, uint64_t offset, std::span<uint8_t> bytes) {
  if (offset >= kPageSize) return;
  bytes = bytes.first(std::min<uint64_t>(bytes.size(), kPageSize - offset));
  for (const Edit& edit : page.edits) {
    const uint64_t first = std::max<uint64_t>(edit.offset, offset);
    const uint64_t last = std::min<uint64_t>(uint64_t{edit.offset} + edit.length, offset + bytes.size());
    for (uint64_t at = first; at < last; ++at) bytes[at - offset] = edit.original[at - edit.offset];
  }
}

}  // namespace platform::patch
