// What has to be known of an ELF file to find functions in it: its loaded segments, and where its unwind table is.
#ifndef PLATFORM_SYSTRAP_PATCH_ELF_TEXT_H_
#define PLATFORM_SYSTRAP_PATCH_ELF_TEXT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "platform/systrap/patch/byte_source.h"

namespace platform::patch {

// Small (some 200 bytes), so that it can be kept per file. The file is asked again for everything else.
class ElfText {
 public:
  static constexpr size_t kMaxCodeSections = 16;

  // A PT_LOAD segment: [address, address + size) is what the file has at [offset, offset + size).
  struct Segment {
    uint64_t address = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    bool executable = false;
  };
  struct Range {
    uint64_t address = 0;
    uint64_t size = 0;
  };
  struct FileRange {
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  // ENOEXEC unless this is a 64-bit little-endian x86-64 file with sane program headers. Reads the headers only.
  static base::Result<ElfText> Parse(ByteSource& file);

  std::span<const Segment> segments() const { return segments_; }
  // PT_GNU_EH_FRAME: .eh_frame_hdr.
  const std::optional<Range>& unwind_index() const { return unwind_index_; }
  // .eh_frame by its section header, for static programs without the index. Loaded, or it is not here.
  const std::optional<Range>& unwind_section() const { return unwind_section_; }

  // Symbols (Elf64_Sym), in the file alone or loaded: the full table if it was not stripped, or the dynamic one.
  const std::optional<FileRange>& symbols() const { return symbols_; }

  // Go's .gopclntab.
  const std::optional<FileRange>& go_table() const { return go_table_; }
  // Sections of code (.text and the like): their ends are ends of instructions. At most kMaxCodeSections.
  std::span<const Range> code_sections() const { return code_sections_; }

  // The address of a byte of the file that belongs to an executable segment, page-rounded as the kernel maps it.
  std::optional<uint64_t> AddressOfText(uint64_t file_offset) const;
  // Reads at an address; fewer bytes at the end of a segment's part of the file.
  size_t Read(ByteSource& file, uint64_t address, std::span<uint8_t> to) const;
  bool ReadAll(ByteSource& file, uint64_t address, std::span<uint8_t> to) const {
    return Read(file, address, to) == to.size();
  }

 private:
  // From the section headers, which nobody has to believe in who only runs the program.
  void FindSections(ByteSource& file, uint64_t headers, uint64_t count, uint64_t names);

  std::vector<Segment> segments_;
  std::optional<Range> unwind_index_;
  std::optional<Range> unwind_section_;
  std::optional<FileRange> symbols_, go_table_;
  std::vector<Range> code_sections_;
};

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_ELF_TEXT_H_
