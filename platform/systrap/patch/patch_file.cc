#include "platform/systrap/patch/patch_file.h"

#include <algorithm>
#include <vector>

#include "platform/systrap/patch/block_cache.h"
#include "platform/systrap/patch/symbol_table.h"
#include "platform/systrap/patch/unwind_table.h"

namespace platform::patch {
namespace {

// A `syscall` may be the first instruction of the next page.
constexpr uint64_t kBehindPage = 2;

// The bytes from `first` to `last` as the kernel maps them around an executable segment; zeroes behind the end of the
// file.
std::vector<uint8_t> ReadText(ByteSource& file, const ElfText::Segment& segment, uint64_t first, uint64_t last) {
  std::vector<uint8_t> bytes(last - first);
  // The segment starts within its first page.
  file.Read(segment.offset + (first - segment.address), bytes);
  return bytes;
}

// True if nothing but padding is left between the functions.
bool Covers(std::span<const CodeRange> functions, uint64_t first, uint64_t last) {
  uint64_t covered = first;
  for (const CodeRange& f : functions) {
    if (f.start > covered + kMaxPadding) return false;
    covered = std::max(covered, f.end);
  }
  return last <= covered + kMaxPadding;
}

}  // namespace

base::Result<PatchedPage> PatchFilePage(ByteSource& source, const ElfText& elf, const FilePatchRequest& request) {
  BlockCache file(source);
  const ElfText::Segment* segment = nullptr;
  for (const auto& s : elf.segments()) {
    const uint64_t first = s.address / kPageSize * kPageSize;
    if (s.executable && request.page >= first && request.page - first < s.address - first + s.size) segment = &s;
  }
  if (segment == nullptr || request.page % kPageSize != 0) return base::Errno(ENOEXEC);
  const uint64_t segment_end = segment->address + segment->size;

  PatchRequest patch;
  patch.page = request.page;
  patch.trampolines = request.trampolines;
  patch.trampoline_space = request.trampoline_space;
  patch.entry = request.entry;
  patch.traps = request.traps;
  patch.scope = request.scope;

  const uint64_t page_end = request.page + kPageSize;
  auto known = FunctionsAround(file, elf, request.page, page_end + kBehindPage);
  if (!known.ok() && !elf.symbols() && !elf.go_table()) return known.error();
  std::vector<CodeRange> functions = known.value_or({});
  // A file whose unwind table knows some of its code alone is not uncommon: that of the compiler's run-time library,
  // say.
  if (!Covers(functions, request.page, page_end)) {
    AddStretches(file, elf, request.page, page_end + kBehindPage, functions);
  }
  // Functions outside of the segment, and what the patcher would not decode, need not be read.
  std::erase_if(functions, [&](const CodeRange& f) { return f.start < segment->address || f.end > segment_end; });
  uint64_t first = request.page, last = page_end + kBehindPage;
  for (const CodeRange& f : functions) {
    if (f.size() > kMaxFunctionSize || f.start >= page_end + kBehindPage) continue;
    // One that ends before the page matters for the padding behind it; and all want the padding before them.
    if (f.end + kMaxPadding >= request.page) first = std::min(first, f.start - std::min(f.start, kMaxPadding));
    last = std::max(last, f.end);
  }
  first = std::max(first, segment->address / kPageSize * kPageSize);
  const std::vector<uint8_t> text = ReadText(file, *segment, first, last);
  patch.text = text;
  patch.text_address = first;
  patch.functions = functions;
  return PatchPage(patch);
}

}  // namespace platform::patch
