#include "platform/systrap/patch/elf_text.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "platform/systrap/patch/block_cache.h"
#include "platform/systrap/patch/code_range.h"

namespace platform::patch {
namespace {

constexpr size_t kMaxProgramHeaders = 64;
constexpr size_t kMaxSectionHeaders = 256;
constexpr uint64_t kUserEnd = uint64_t{1} << 47;

template <typename T>
bool ReadObject(ByteSource& file, uint64_t offset, T& object) {
  uint8_t bytes[sizeof(T)];
  if (!file.ReadAll(offset, bytes)) return false;
  std::memcpy(&object, bytes, sizeof object);
  return true;
}

bool Overflows(uint64_t a, uint64_t b) { return a + b < a; }

}  // namespace

base::Result<ElfText> ElfText::Parse(ByteSource& source) {
  BlockCache file(source);
  Elf64_Ehdr header;
  if (!ReadObject(file, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phnum > kMaxProgramHeaders || Overflows(header.e_phoff, kMaxProgramHeaders * sizeof(Elf64_Phdr))) {
    return base::Errno(ENOEXEC);
  }
  ElfText elf;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr p;
    if (!ReadObject(file, header.e_phoff + i * sizeof p, p)) return base::Errno(ENOEXEC);
    if (Overflows(p.p_vaddr, p.p_filesz) || Overflows(p.p_offset, p.p_filesz)) return base::Errno(ENOEXEC);
    if (p.p_vaddr + p.p_filesz > kUserEnd) return base::Errno(ENOEXEC);
    if (p.p_type == PT_LOAD && p.p_filesz != 0) {
      // The kernel maps pages: the parts that a segment shares with its neighbours in the file are seen through it too.
      if ((p.p_vaddr - p.p_offset) % kPageSize != 0) return base::Errno(ENOEXEC);
      elf.segments_.push_back({p.p_vaddr, p.p_offset, p.p_filesz, (p.p_flags & PF_X) != 0});
    } else if (p.p_type == PT_GNU_EH_FRAME) {
      elf.unwind_index_ = Range{p.p_vaddr, p.p_filesz};
    }
  }
  if (header.e_shentsize == sizeof(Elf64_Shdr) && header.e_shstrndx < header.e_shnum &&
      header.e_shnum <= kMaxSectionHeaders && !Overflows(header.e_shoff, kMaxSectionHeaders * sizeof(Elf64_Shdr))) {
    elf.FindSections(file, header.e_shoff, header.e_shnum, header.e_shstrndx);
  }
  return elf;
}

void ElfText::FindSections(ByteSource& file, uint64_t headers, uint64_t count, uint64_t names) {
  std::vector<uint8_t> table(count * sizeof(Elf64_Shdr));
  if (!file.ReadAll(headers, table)) return;
  auto get = [&](uint64_t i) {
    Elf64_Shdr section;
    std::memcpy(&section, table.data() + i * sizeof section, sizeof section);
    return section;
  };
  const Elf64_Shdr strings = get(names);
  for (uint64_t i = 0; i < count; ++i) {
    const Elf64_Shdr s = get(i);
    if (Overflows(s.sh_offset, s.sh_size) || Overflows(s.sh_addr, s.sh_size)) continue;
    if (s.sh_type == SHT_SYMTAB || (s.sh_type == SHT_DYNSYM && !symbols_)) symbols_ = FileRange{s.sh_offset, s.sh_size};
    if ((s.sh_flags & SHF_EXECINSTR) != 0 && code_sections_.size() < kMaxCodeSections) {
      code_sections_.push_back({s.sh_addr, s.sh_size});
    }
    if ((s.sh_flags & SHF_ALLOC) == 0 || Overflows(strings.sh_offset, s.sh_name)) continue;
    std::array<uint8_t, 32> name{};
    file.Read(strings.sh_offset + s.sh_name, std::span(name).first(name.size() - 1));
    const std::string_view view(reinterpret_cast<const char*>(name.data()));
    if (view == ".eh_frame" && !unwind_index_) unwind_section_ = Range{s.sh_addr, s.sh_size};
    if (view == ".gopclntab" || view == ".data.rel.ro.gopclntab") go_table_ = FileRange{s.sh_offset, s.sh_size};
  }
}

std::optional<uint64_t> ElfText::AddressOfText(uint64_t file_offset) const {
  for (const Segment& s : segments_) {
    const uint64_t first = s.offset / kPageSize * kPageSize;
    const uint64_t size = s.offset - first + s.size;
    if (!s.executable || file_offset < first || file_offset - first >= (size + kPageSize - 1) / kPageSize * kPageSize)
      continue;
    return s.address - (s.offset - first) + (file_offset - first);
  }
  return {};
}

size_t ElfText::Read(ByteSource& file, uint64_t address, std::span<uint8_t> to) const {
  for (const Segment& s : segments_) {
    if (address < s.address || address - s.address >= s.size) continue;
    const uint64_t at = address - s.address;
    return file.Read(s.offset + at, to.first(std::min<uint64_t>(to.size(), s.size - at)));
  }
  return 0;
}

}  // namespace platform::patch
