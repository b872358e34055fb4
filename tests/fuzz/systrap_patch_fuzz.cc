// The patcher: the bytes are first a whole file, then a page of code with its functions.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "platform/systrap/patch/instruction.h"
#include "platform/systrap/patch/patch_file.h"

namespace platform::patch {
namespace {

void CheckPage(const PatchedPage& page, std::span<const uint8_t> original, uint64_t space) {
  if (page.sites.empty()) {
    CHECK(page.bytes.empty() && page.trampolines.empty() && page.edits.empty());
    return;
  }
  CHECK(page.bytes.size() == kPageSize && page.trampolines.size() <= space && page.sites.size() <= kMaxSitesPerPage);
  for (const Site& site : page.sites) {
    CHECK(site.trampoline >= page.trampoline_address);
    CHECK(site.trampoline - page.trampoline_address < page.trampolines.size());
    // Jump after jump, all of the way is known to be that of the site.
    uint64_t at = site.address;
    for (size_t n = 0; at != site.trampoline; ++n) {
      Instruction jump;
      CHECK(n < kMaxHops + 2 && at >= page.page && at < page.page + kPageSize);
      CHECK(Decode(std::span(page.bytes).subspan(at - page.page), jump) && jump.flow == Flow::kJump);
      CHECK(n == 0 || FindOriginal(page, at)->rip == site.address);
      at += jump.length + static_cast<uint64_t>(int64_t{jump.target});
    }
    CHECK(FindOriginal(page, site.trampoline)->rip == site.address);
    CHECK(FindOriginal(page, site.resume())->rip == site.syscall());
  }
  if (!original.empty()) {
    std::vector<uint8_t> restored = page.bytes;
    RestoreOriginal(page, 0, restored);
    CHECK(std::equal(restored.begin(), restored.end(), original.begin()));
  }
}

void AsFile(std::span<const uint8_t> data) {
  MemorySource file(data);
  auto elf = ElfText::Parse(file);
  if (!elf.ok()) return;
  int pages = 0;
  for (const auto& segment : elf->segments()) {
    if (!segment.executable) continue;
    for (uint64_t at = 0; at < segment.size && pages < 4; at += kPageSize, ++pages) {
      FilePatchRequest request;
      request.page = (segment.address + at) / kPageSize * kPageSize;
      request.trampolines = request.page + 0x100000;
      request.trampoline_space = 4096;
      auto page = PatchFilePage(file, *elf, request);
      if (page.ok()) CheckPage(*page, {}, request.trampoline_space);
    }
  }
}

// The first bytes say how long the functions and the gaps between them are.
void AsText(std::span<const uint8_t> data) {
  constexpr size_t kLengths = 64;
  if (data.size() < kLengths) return;
  constexpr uint64_t kAddress = 0x10000;
  std::vector<uint8_t> text(2 * kPageSize, 0x90);
  const auto code = data.subspan(kLengths);
  std::copy_n(code.begin(), std::min(code.size(), text.size()), text.begin());
  std::vector<CodeRange> functions;
  uint64_t at = kAddress;
  for (size_t i = 0; i + 1 < kLengths; i += 2) {
    functions.push_back({at, at + data[i]});
    at += uint64_t{data[i]} + data[i + 1] % 32;
  }
  std::vector<Trap> traps;
  if (!code.empty()) traps.push_back({kAddress + code[0], code.size()});
  PatchRequest request;
  request.text = text;
  request.text_address = kAddress;
  request.functions = functions;
  request.page = kAddress;
  request.trampolines = data[0] & 1 ? 0x20000 : 0x8000f000;
  request.trampoline_space = uint64_t{data[1]} * 16;
  request.traps = traps;
  CheckPage(PatchPage(request), std::span(text).first(kPageSize), request.trampoline_space);
}

}  // namespace
}  // namespace platform::patch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  platform::patch::Instruction instruction;
  const std::span<const uint8_t> bytes(data, size);
  if (platform::patch::Decode(bytes, instruction)) CHECK(instruction.length <= size && instruction.length <= 15);
  platform::patch::AsFile(bytes);
  platform::patch::AsText(bytes);
  return 0;
}
