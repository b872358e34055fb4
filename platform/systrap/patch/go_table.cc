#include "platform/systrap/patch/go_table.h"

#include <cstring>
#include <optional>

namespace platform::patch {
namespace {

constexpr uint32_t kMagic118 = 0xfffffff0, kMagic120 = 0xfffffff1;

struct Header {
  uint32_t magic;
  uint8_t zero[2];
  uint8_t minimum_instruction;
  uint8_t pointer_size;
  uint64_t functions, files, text_start;
  uint64_t names, units, file_table, pc_table, function_table;  // offsets from the header
};
static_assert(sizeof(Header) == 72);

// An offset from the start of the text, and one in the table that is of no interest.
struct Entry {
  uint32_t start;
  uint32_t data;
};

template <typename T>
bool ReadObject(ByteSource& file, uint64_t offset, T& object) {
  uint8_t bytes[sizeof(T)];
  if (!file.ReadAll(offset, bytes)) return false;
  std::memcpy(&object, bytes, sizeof object);
  return true;
}

}  // namespace

std::vector<uint64_t> GoFunctionStarts(ByteSource& file, const ElfText& elf, uint64_t first, uint64_t last) {
  if (!elf.go_table()) return {};
  const auto& range = *elf.go_table();
  Header header;
  if (!ReadObject(file, range.offset, header) || (header.magic != kMagic118 && header.magic != kMagic120) ||
      header.pointer_size != 8 || header.function_table > range.size ||
      header.functions >= (range.size - header.function_table) / sizeof(Entry)) {
    return {};
  }
  // In a position-independent program only the loader fills this in.
  const uint64_t text = header.text_start;
  if (text == 0 || text > last) return {};
  const uint64_t table = range.offset + header.function_table;
  auto start_of = [&](uint64_t i) -> std::optional<uint64_t> {
    Entry entry;
    if (!ReadObject(file, table + i * sizeof entry, entry)) return {};
    return text + entry.start;
  };
  // The first that starts behind `first`. There is one more entry than functions: the end of the last one.
  uint64_t low = 0, high = header.functions + 1;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const auto start = start_of(middle);
    if (!start) return {};
    if (*start <= first) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::vector<uint64_t> starts;
  for (uint64_t i = low == 0 ? 0 : low - 1; i <= header.functions; ++i) {
    const auto start = start_of(i);
    // Strictly ascending, so that there are no more of them than bytes.
    if (!start || (!starts.empty() && *start <= starts.back())) return {};
    starts.push_back(*start);
    if (*start >= last) break;
  }
  return starts;
}

}  // namespace platform::patch
