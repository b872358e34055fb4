#include "platform/systrap/patch/unwind_table.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace platform::patch {
namespace {

// Pointer encodings (DW_EH_PE_…).
constexpr uint8_t kAbsolute = 0x00, kUdata4 = 0x03, kUdata8 = 0x04, kSdata4 = 0x0b, kSdata8 = 0x0c;
constexpr uint8_t kPcRelative = 0x10, kDataRelative = 0x30;

// A few bytes of the table, copied once.
class Cursor {
 public:
  Cursor(ByteSource& file, const ElfText& elf, uint64_t address, size_t limit = kBuffer) : address_(address) {
    size_ = elf.Read(file, address, std::span(buffer_).first(std::min(limit, kBuffer)));
  }
  bool failed() const { return failed_; }
  uint64_t position() const { return address_ + at_; }
  template <typename T>
  T Take() {
    T value{};
    if (failed_ || size_ - at_ < sizeof value) {
      failed_ = true;
      return 0;
    }
    std::memcpy(&value, buffer_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  // A LEB128 number whose value nobody wants.
  void SkipLeb() {
    for (int i = 0; i < 10; ++i) {
      if ((Take<uint8_t>() & 0x80) == 0) return;
    }
    failed_ = true;
  }
  // A pointer in one of the encodings that linkers write.
  uint64_t TakePointer(uint8_t encoding, bool is_length) {
    const uint64_t here = position();
    uint64_t value = 0;
    switch (encoding & 0x0f) {
      case kAbsolute:
      case kUdata8:
      case kSdata8:
        value = Take<uint64_t>();
        break;
      case kUdata4:
        value = Take<uint32_t>();
        break;
      case kSdata4:
        value = is_length ? Take<uint32_t>() : static_cast<uint64_t>(int64_t{Take<int32_t>()});
        break;
      default:
        failed_ = true;
    }
    if (is_length || (encoding & 0xf0) == 0) return value;
    if ((encoding & 0xf0) != kPcRelative) failed_ = true;  // text- and data-relative, aligned, indirect: not for code
    return here + value;
  }

 private:
  static constexpr size_t kBuffer = 64;
  std::array<uint8_t, kBuffer> buffer_;
  uint64_t address_;
  size_t size_ = 0;
  size_t at_ = 0;
  bool failed_ = false;
};

// Reads entries of .eh_frame.
class FrameReader {
 public:
  FrameReader(ByteSource& file, const ElfText& elf) : file_(file), elf_(elf) {}

  // The function of the FDE at `address`. Nothing for a CIE and for what is not understood. `next` is where the next
  // entry starts, 0 at the end of the table or if that cannot be told.
  std::optional<CodeRange> Read(uint64_t address, uint64_t& next);

 private:
  struct Cie {
    uint8_t encoding = kAbsolute;  // of the addresses in FDEs that refer to it
    bool signal_frame = false;
  };
  std::optional<Cie> ReadCie(uint64_t address);
  // The last one again, mostly.
  std::optional<Cie> FindCie(uint64_t address);

  ByteSource& file_;
  const ElfText& elf_;
  uint64_t cached_cie_ = 0;
  std::optional<Cie> cached_;
};

std::optional<CodeRange> FrameReader::Read(uint64_t address, uint64_t& next) {
  next = 0;
  Cursor in(file_, elf_, address, 4 + 4 + 8 + 8);
  const uint32_t length = in.Take<uint32_t>();
  if (in.failed() || length < 4 || length >= 0xfffffff0)
    return {};  // the terminator; 64-bit DWARF is not for code models here
  const uint64_t content = in.position();
  if (content + length > content) next = content + length;
  const uint32_t id = in.Take<uint32_t>();
  if (in.failed() || id == 0) return {};
  const auto cie = FindCie(content - id);
  if (!cie) return {};
  const uint64_t start = in.TakePointer(cie->encoding, false);
  const uint64_t size = in.TakePointer(cie->encoding, true);
  if (in.failed() || in.position() > content + length || size == 0 || start + size < start) return {};
  return CodeRange{start, start + size, cie->signal_frame};
}

std::optional<FrameReader::Cie> FrameReader::FindCie(uint64_t address) {
  if (address != cached_cie_ || address == 0) {
    cached_cie_ = address;
    cached_ = ReadCie(address);
  }
  return cached_;
}

std::optional<FrameReader::Cie> FrameReader::ReadCie(uint64_t address) {
  Cursor in(file_, elf_, address);
  const uint32_t length = in.Take<uint32_t>();
  const uint32_t id = in.Take<uint32_t>();
  const uint8_t version = in.Take<uint8_t>();
  if (in.failed() || length < 4 || length >= 0xfffffff0 || id != 0 || (version != 1 && version != 3)) return {};
  std::array<char, 9> augmentation{};
  size_t n = 0;
  while ((augmentation[n] = static_cast<char>(in.Take<uint8_t>())) != 0) {
    if (++n == augmentation.size()) return {};
  }
  if (in.failed() || (n != 0 && augmentation[0] != 'z')) return {};
  Cie cie;
  if (n == 0) return cie;
  in.SkipLeb();  // code alignment
  in.SkipLeb();  // data alignment
  if (version == 1) {
    in.Take<uint8_t>();  // return address register
  } else {
    in.SkipLeb();
  }
  in.SkipLeb();  // length of what follows
  for (size_t i = 1; i < n; ++i) {
    switch (augmentation[i]) {
      case 'R':
        cie.encoding = in.Take<uint8_t>();
        break;
      case 'P': {
        // The personality may be indirect and relative to anything: only its size matters.
        const uint8_t personality = in.Take<uint8_t>();
        in.TakePointer(personality & 0x0f, true);
        break;
      }
      case 'L':
        in.Take<uint8_t>();
        break;
      case 'S':
        cie.signal_frame = true;
        break;
      default:
        return {};
    }
  }
  if (in.failed()) return {};
  return cie;
}

// .eh_frame_hdr.
class UnwindIndex {
 public:
  struct Entry {
    uint64_t start = 0;
    uint64_t fde = 0;
  };

  static std::optional<UnwindIndex> Open(ByteSource& file, const ElfText& elf, const ElfText::Range& range) {
    Cursor in(file, elf, range.address, 16);
    const uint8_t version = in.Take<uint8_t>(), pointer = in.Take<uint8_t>();
    const uint8_t count_encoding = in.Take<uint8_t>(), table_encoding = in.Take<uint8_t>();
    if (version != 1 || count_encoding != kUdata4 || table_encoding != (kDataRelative | kSdata4)) return {};
    in.TakePointer(pointer, false);
    UnwindIndex index(file, elf, range.address);
    index.count_ = in.Take<uint32_t>();
    index.table_ = in.position();
    if (in.failed() || range.size < index.table_ - range.address ||
        (range.size - (index.table_ - range.address)) / kEntrySize < index.count_) {
      return {};
    }
    return index;
  }

  uint32_t count() const { return count_; }
  std::optional<Entry> Get(uint32_t i) {
    if (i >= count_) return {};
    if (i < cached_first_ || i - cached_first_ >= cached_count_) {
      // Neighbours are asked for next, or, while searching, the loss is small.
      cached_first_ = i;
      const size_t wanted = std::min<size_t>(kCached, count_ - i);
      cached_count_ =
          elf_.Read(file_, table_ + uint64_t{i} * kEntrySize, std::span(cache_).first(wanted * kEntrySize)) /
          kEntrySize;
      if (cached_count_ == 0) return {};
    }
    int32_t words[2];
    std::memcpy(words, cache_.data() + (i - cached_first_) * kEntrySize, sizeof words);
    return Entry{base_ + static_cast<uint64_t>(int64_t{words[0]}), base_ + static_cast<uint64_t>(int64_t{words[1]})};
  }

 private:
  static constexpr size_t kEntrySize = 8;
  static constexpr size_t kCached = 32;

  UnwindIndex(ByteSource& file, const ElfText& elf, uint64_t base) : file_(file), elf_(elf), base_(base) {}

  ByteSource& file_;
  const ElfText& elf_;
  uint64_t base_;
  uint64_t table_ = 0;
  uint32_t count_ = 0;
  uint32_t cached_first_ = 0;
  size_t cached_count_ = 0;
  std::array<uint8_t, kCached * kEntrySize> cache_;
};

base::Result<std::vector<CodeRange>> LookUp(ByteSource& file, const ElfText& elf, UnwindIndex index, uint64_t first,
                                            uint64_t last) {
  // The first entry that starts behind `first`.
  uint32_t low = 0, high = index.count();
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const auto entry = index.Get(middle);
    if (!entry) return base::Errno(ENOEXEC);
    if (entry->start <= first) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::vector<CodeRange> functions;
  FrameReader frames(file, elf);
  for (uint32_t i = low < 3 ? 0 : low - 3; i < index.count(); ++i) {
    const auto entry = index.Get(i);
    if (!entry) return base::Errno(ENOEXEC);
    uint64_t next;
    const auto range = frames.Read(entry->fde, next);
    if (!range || range->start != entry->start || (!functions.empty() && range->start < functions.back().end)) {
      return base::Errno(ENOEXEC);
    }
    functions.push_back(*range);
    if (range->start >= last) break;
  }
  return functions;
}

base::Result<std::vector<CodeRange>> Walk(ByteSource& file, const ElfText& elf, const ElfText::Range& table,
                                          uint64_t first, uint64_t last) {
  if (table.size > kMaxWalkedTable) return base::Errno(ENOEXEC);
  std::vector<CodeRange> functions;
  std::optional<CodeRange> before[2], behind;  // the last two before, the later one first
  FrameReader frames(file, elf);
  const uint64_t end = table.address + table.size;
  uint64_t next;
  for (uint64_t at = table.address; at < end; at = next) {
    const auto range = frames.Read(at, next);
    if (range) {
      if (range->start >= last) {
        if (!behind || range->start < behind->start) behind = range;
      } else if (range->start >= first) {
        // Disjoint ranges are no more than the bytes they are in.
        if (functions.size() > last - first) return base::Errno(ENOEXEC);
        functions.push_back(*range);
      } else if (!before[0] || range->start > before[0]->start) {
        before[1] = before[0];
        before[0] = range;
      } else if (!before[1] || range->start > before[1]->start) {
        before[1] = range;
      }
    }
    if (next <= at) break;
  }
  for (const auto& range : before) {
    if (range) functions.push_back(*range);
  }
  if (behind) functions.push_back(*behind);
  std::sort(functions.begin(), functions.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.start < b.start; });
  for (size_t i = 1; i < functions.size(); ++i) {
    if (functions[i].start < functions[i - 1].end) return base::Errno(ENOEXEC);
  }
  return functions;
}

}  // namespace

base::Result<std::vector<CodeRange>> FunctionsAround(ByteSource& file, const ElfText& elf, uint64_t first,
                                                     uint64_t last) {
  if (last < first) return base::Errno(ENOEXEC);
  if (elf.unwind_index()) {
    auto index = UnwindIndex::Open(file, elf, *elf.unwind_index());
    if (!index) return base::Errno(ENOEXEC);
    return LookUp(file, elf, *index, first, last);
  }
  if (elf.unwind_section()) return Walk(file, elf, *elf.unwind_section(), first, last);
  return base::Errno(ENOEXEC);
}

}  // namespace platform::patch
