// Reading ELF headers (man 5 elf). The parsers take bytes and trust nothing; offsets and sizes in what they return are
// still the file's.
#ifndef SENTRY_LOADER_ELF_H_
#define SENTRY_LOADER_ELF_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/errno.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/file_description.h"

namespace sentry::loader {

inline constexpr size_t kElfHeaderBytes = 64;
inline constexpr size_t kProgramHeaderBytes = 56;

struct ElfHeader {
  bool position_independent = false;  // ET_DYN
  uint64_t entry = 0;
  uint64_t program_headers_offset = 0;
  uint16_t program_headers = 0;
};
// ENOEXEC for anything but a little-endian x86-64 ELF executable or shared object with a sane program header table.
base::Result<ElfHeader> ParseElfHeader(std::span<const std::byte> bytes);

struct ElfSegment {
  uint32_t type = 0, flags = 0;  // PT_*, PF_*
  uint64_t offset = 0, vaddr = 0, file_bytes = 0, memory_bytes = 0, alignment = 0;
};
// As many as `bytes` holds whole.
std::vector<ElfSegment> ParseProgramHeaders(std::span<const std::byte> bytes);

// Bytes at `offset`, fewer at the file's end.
base::Result<size_t> ReadFile(FileDescription& file, uint64_t offset, std::span<std::byte> out);

struct ElfFile {
  ElfHeader header;
  std::vector<ElfSegment> segments;
};
// `first`: the first bytes of the file. ENOEXEC; EIO for a table beyond the end.
base::Result<ElfFile> ReadElf(FileDescription& file, std::span<const std::byte> first);
// The path in PT_INTERP; empty without one. ENOEXEC, EIO.
base::Result<std::string> ReadInterpreter(FileDescription& file, const ElfFile& elf);

struct MappedElf {
  uint64_t bias = 0;  // added to the addresses in the file
  Addr entry = 0;
  Addr program_headers = 0;                                                  // 0: not in any segment
  Addr start_code = 0, end_code = 0, start_data = 0, end_data = 0, end = 0;  // end: of all segments, not rounded
};
enum class Placement {
  kProgram,      // ET_DYN at the usual place for position-independent programs
  kInterpreter,  // ET_DYN where mmap puts things: interpreters, and programs without one
};
struct MapElfOptions {
  Placement placement = Placement::kProgram;
  Addr dyn_base = 0;         // kProgram: where, before alignment
  bool interpreter = false;  // it is a program's, which will map libraries
  MmLimits limits;
};
// Maps every PT_LOAD. EINVAL, ENOMEM, ENOEXEC (no PT_LOAD), ENODEV, errors of the file.
base::Result<MappedElf> MapElf(MemoryManager& mm, FileDescription& file, const ElfFile& elf,
                               const MapElfOptions& options);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_ELF_H_
