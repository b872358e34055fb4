#include "platform/systrap/patch/symbol_table.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "platform/systrap/patch/go_table.h"

namespace platform::patch {
namespace {

// Calls `use` with the address of every function that the file defines.
template <typename F>
void ForEachFunctionSymbol(ByteSource& file, const ElfText::FileRange& table, F use) {
  constexpr size_t kBatch = 128;
  std::vector<uint8_t> bytes(kBatch * sizeof(Elf64_Sym));
  const uint64_t count = table.size / sizeof(Elf64_Sym);
  for (uint64_t i = 0; i < count; i += kBatch) {
    const size_t wanted = std::min<uint64_t>(kBatch, count - i) * sizeof(Elf64_Sym);
    const size_t got = file.Read(table.offset + i * sizeof(Elf64_Sym), std::span(bytes).first(wanted));
    for (size_t at = 0; at + sizeof(Elf64_Sym) <= got; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, bytes.data() + at, sizeof symbol);
      const int type = ELF64_ST_TYPE(symbol.st_info);
      if ((type == STT_FUNC || type == STT_GNU_IFUNC) && symbol.st_shndx != SHN_UNDEF) use(symbol.st_value);
    }
    if (got != wanted) return;
  }
}

}  // namespace

void AddStretches(ByteSource& file, const ElfText& elf, uint64_t first, uint64_t last,
                  std::vector<CodeRange>& functions) {
  if (last <= first) return;
  // The starts in between, a bit each, for there may be any number of symbols for one address.
  std::vector<bool> inside(last - first);
  std::optional<uint64_t> before, behind;
  auto add = [&](uint64_t address) {
    if (address < first) {
      if (!before || address > *before) before = address;
    } else if (address >= last) {
      if (!behind || address < *behind) behind = address;
    } else {
      inside[address - first] = true;
    }
  };
  if (elf.symbols() && elf.symbols()->size / sizeof(Elf64_Sym) <= kMaxSymbols) {
    ForEachFunctionSymbol(file, *elf.symbols(), add);
  }
  for (uint64_t start : GoFunctionStarts(file, elf, first, last)) add(start);
  for (const CodeRange& f : functions) add(f.start);
  for (const ElfText::Range& section : elf.code_sections()) {
    add(section.address);
    add(section.address + section.size);
  }

  std::vector<uint64_t> starts;
  if (before) starts.push_back(*before);
  for (uint64_t i = 0; i < inside.size(); ++i) {
    if (inside[i]) starts.push_back(first + i);
  }
  if (behind) starts.push_back(*behind);
  const size_t known = functions.size();
  for (size_t i = 1; i < starts.size(); ++i) {
    CodeRange stretch{starts[i - 1], starts[i]};
    stretch.stretch = true;
    const bool is_known = std::any_of(functions.begin(), functions.begin() + static_cast<ptrdiff_t>(known),
                                      [&](const CodeRange& f) { return f.contains(stretch.start); });
    if (!is_known) functions.push_back(stretch);
  }
  std::sort(functions.begin(), functions.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.start < b.start; });
}

}  // namespace platform::patch
