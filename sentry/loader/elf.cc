#include "sentry/loader/elf.h"

#include <elf.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace sentry::loader {

using base::Errno;
using base::Result;

namespace {

// fs/binfmt_elf.c, load_elf_phdrs: the table fits into a page of 64 KiB.
constexpr size_t kMaxTableBytes = 65536;
constexpr size_t kMaxPath = 4096;

uint8_t ProtOf(uint32_t flags) {
  return ((flags & PF_R) ? PROT_READ : 0) | ((flags & PF_W) ? PROT_WRITE : 0) | ((flags & PF_X) ? PROT_EXEC : 0);
}

}  // namespace

Result<ElfHeader> ParseElfHeader(std::span<const std::byte> bytes) {
  static_assert(sizeof(Elf64_Ehdr) == kElfHeaderBytes && sizeof(Elf64_Phdr) == kProgramHeaderBytes);
  Elf64_Ehdr h;
  if (bytes.size() < sizeof h) return Errno(ENOEXEC);
  memcpy(&h, bytes.data(), sizeof h);
  if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0) return Errno(ENOEXEC);
  // Linux does not look at the class and the byte order, only at the machine; a 32-bit file fails there on its sizes.
  if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB) return Errno(ENOEXEC);
  if (h.e_type != ET_EXEC && h.e_type != ET_DYN) return Errno(ENOEXEC);
  if (h.e_machine != EM_X86_64) return Errno(ENOEXEC);
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum == 0 || h.e_phnum * sizeof(Elf64_Phdr) > kMaxTableBytes) {
    return Errno(ENOEXEC);
  }
  return ElfHeader{.position_independent = h.e_type == ET_DYN,
                   .entry = h.e_entry,
                   .program_headers_offset = h.e_phoff,
                   .program_headers = h.e_phnum};
}

std::vector<ElfSegment> ParseProgramHeaders(std::span<const std::byte> bytes) {
  std::vector<ElfSegment> out;
  for (; bytes.size() >= sizeof(Elf64_Phdr); bytes = bytes.subspan(sizeof(Elf64_Phdr))) {
    Elf64_Phdr p;
    memcpy(&p, bytes.data(), sizeof p);
    out.push_back({.type = p.p_type,
                   .flags = p.p_flags,
                   .offset = p.p_offset,
                   .vaddr = p.p_vaddr,
                   .file_bytes = p.p_filesz,
                   .memory_bytes = p.p_memsz,
                   .alignment = p.p_align});
  }
  return out;
}

Result<size_t> ReadFile(FileDescription& file, uint64_t offset, std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    if (offset + done > static_cast<uint64_t>(INT64_MAX)) break;
    KernelIo io(out.subspan(done));
    size_t n = TRY(file.PRead(io, static_cast<int64_t>(offset + done), {}));
    if (n == 0) break;
    done += n;
  }
  return done;
}

Result<ElfFile> ReadElf(FileDescription& file, std::span<const std::byte> first) {
  ElfFile elf;
  elf.header = TRY(ParseElfHeader(first));
  size_t bytes = elf.header.program_headers * kProgramHeaderBytes;
  uint64_t offset = elf.header.program_headers_offset;
  if (offset <= first.size() && bytes <= first.size() - offset) {
    elf.segments = ParseProgramHeaders(first.subspan(offset, bytes));
    return elf;
  }
  std::vector<std::byte> table(bytes);
  if (TRY(ReadFile(file, offset, table)) != bytes) return Errno(EIO);
  elf.segments = ParseProgramHeaders(table);
  return elf;
}

Result<std::string> ReadInterpreter(FileDescription& file, const ElfFile& elf) {
  for (const ElfSegment& s : elf.segments) {
    if (s.type != PT_INTERP) continue;
    if (s.file_bytes < 2 || s.file_bytes > kMaxPath) return Errno(ENOEXEC);
    std::string path(s.file_bytes, '\0');
    if (TRY(ReadFile(file, s.offset, std::as_writable_bytes(std::span(path)))) != path.size()) return Errno(EIO);
    if (path.back() != '\0') return Errno(ENOEXEC);
    path.resize(strlen(path.c_str()));
    return path;
  }
  return std::string();
}

namespace {

// Where a position-independent file goes: its bias.
Result<uint64_t> PlaceDynamic(MemoryManager& mm, const MapElfOptions& o, uint64_t first, uint64_t total,
                              uint64_t alignment) {
  if (o.placement == Placement::kProgram) return (o.dyn_base & ~(alignment - 1)) - first;
  // A reservation finds room; it goes again before the segments are mapped there, and nobody else is in this address
  // space.
  MMapOptions reserve;
  reserve.length = total + (alignment > kPageSize ? alignment : 0);
  reserve.noreserve = true;
  Addr at = TRY(mm.MMap(reserve, o.limits));
  if (auto unmapped = mm.Munmap(at, reserve.length); !unmapped.ok()) return unmapped.error();
  return ((at + alignment - 1) & ~(alignment - 1)) - first;
}

Result<void> MapSegment(MemoryManager& mm, const base::RefPtr<Mappable>& mappable, const ElfSegment& s, Addr vaddr,
                        const MapElfOptions& options) {
  const uint8_t prot = ProtOf(s.flags);
  const uint64_t in_page = vaddr & kPageMask;
  Addr file_end = vaddr + s.file_bytes, end = vaddr + s.memory_bytes;
  if (s.file_bytes > 0) {
    if ((s.offset & kPageMask) != in_page) return Errno(EINVAL);
    MMapOptions o;
    o.addr = vaddr - in_page;
    o.fixed_noreplace = true;
    o.length = s.file_bytes + in_page;
    o.prot = prot;
    o.mappable = mappable;
    o.offset = s.offset - in_page;
    o.interpreter = options.interpreter;
    auto mapped = mm.MMap(o, options.limits);
    // Segments that share a page: the later one wins, as with MAP_FIXED.
    if (mapped.failed_with(EEXIST)) {
      o.fixed_noreplace = false;
      o.fixed = true;
      mapped = mm.MMap(o, options.limits);
    }
    if (!mapped.ok()) return mapped.error();
    // The rest of the last page belongs to .bss.
    if (s.memory_bytes > s.file_bytes && (prot & PROT_WRITE)) {
      uint64_t rest = PageRoundUp(file_end) - file_end;
      if (rest > 0 && TRY(mm.ZeroOut(file_end, rest)) != rest) return Errno(EFAULT);
    }
  }
  Addr zero_start = s.file_bytes > 0 ? PageRoundUp(file_end) : PageRoundDown(vaddr);
  Addr zero_end = PageRoundUp(end);
  if (zero_end > zero_start) {
    MMapOptions o;
    o.addr = zero_start;
    o.fixed = true;
    o.length = zero_end - zero_start;
    o.prot = PROT_READ | PROT_WRITE | (prot & PROT_EXEC);  // vm_brk_flags
    auto mapped = mm.MMap(o, options.limits);
    if (!mapped.ok()) return mapped.error();
  }
  return {};
}

}  // namespace

Result<MappedElf> MapElf(MemoryManager& mm, FileDescription& file, const ElfFile& elf, const MapElfOptions& options) {
  const uint64_t limit = mm.env().platform->GuestRange().end;
  uint64_t first = UINT64_MAX, last = 0, alignment = kPageSize;
  for (const ElfSegment& s : elf.segments) {
    if (s.type != PT_LOAD) continue;
    if (s.file_bytes > s.memory_bytes || s.memory_bytes > limit || s.vaddr > limit - s.memory_bytes)
      return Errno(EINVAL);
    if (s.offset + s.file_bytes < s.offset) return Errno(EINVAL);
    if (s.memory_bytes == 0) continue;
    first = std::min(first, PageRoundDown(s.vaddr));
    last = std::max(last, s.vaddr + s.memory_bytes);
    // maximum_alignment: powers of two only, others are ignored.
    if (std::has_single_bit(s.alignment) && s.alignment <= (uint64_t{1} << 30))
      alignment = std::max(alignment, s.alignment);
  }
  if (first >= last) return Errno(ENOEXEC);

  auto mappable = file.GetMappable(PROT_READ | PROT_EXEC, false);
  if (!mappable.ok()) return mappable.error();

  MappedElf out;
  if (elf.header.position_independent) {
    out.bias = TRY(PlaceDynamic(mm, options, first, PageRoundUp(last) - first, alignment));
    if (first + out.bias > limit || last - first > limit - (first + out.bias)) return Errno(ENOMEM);
  }
  out.start_code = UINT64_MAX;
  for (const ElfSegment& s : elf.segments) {
    if (s.type != PT_LOAD || s.memory_bytes == 0) continue;
    Addr vaddr = s.vaddr + out.bias;
    if (Result<void> mapped = MapSegment(mm, *mappable, s, vaddr, options); !mapped.ok()) return mapped.error();
    if (elf.header.program_headers_offset >= s.offset && elf.header.program_headers_offset - s.offset < s.file_bytes) {
      out.program_headers = vaddr + (elf.header.program_headers_offset - s.offset);
    }
    // load_elf_binary's bookkeeping for /proc/pid/stat.
    if (s.flags & PF_X) out.start_code = std::min(out.start_code, vaddr);
    out.start_data = std::max(out.start_data, vaddr);
    if (s.flags & PF_X) out.end_code = std::max(out.end_code, vaddr + s.file_bytes);
    out.end_data = std::max(out.end_data, vaddr + s.file_bytes);
    out.end = std::max(out.end, vaddr + s.memory_bytes);
  }
  if (out.start_code == UINT64_MAX) out.start_code = 0;
  out.entry = elf.header.entry + out.bias;
  return out;
}

}  // namespace sentry::loader
