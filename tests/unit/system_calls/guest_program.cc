#include "tests/unit/system_calls/guest_program.h"

#include <elf.h>

#include <cstring>

namespace sentry::testing {
namespace {

constexpr const char* kNames[] = {
    "/",
    "/tmp",
    "/tmp/a",
    "/tmp/b",
    "/tmp/d/../d/c",
    "/bin/guest",
    "/proc/self/fd/3",
    "/proc/self/maps",
    "/proc/self/mem",
    "/proc/self/status",
    "/proc/1/task/1/stat",
    "/proc/sys/kernel/hostname",
    "/proc/net/unix",
    "/proc/mounts",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/ptmx",
    "/dev/pts/0",
    "/dev/tty",
    "/dev/shm/x",
    "tmpfs",
    "proc",
    "mode=755,size=64k",
    "user.name",
    "trusted.overlay.x",
    ".",
    "..",
    "a",
    "",
    "#!/bin/guest x",
};

}  // namespace

std::span<const char* const> Names() { return kNames; }

std::vector<std::byte> MakeProgram(std::span<const uint8_t> input) {
  std::vector<std::byte> file(kProgramEnd - kProgramBase);
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_entry = kProgramBase;
  header.e_phoff = sizeof(header);
  header.e_ehsize = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 1;
  memcpy(file.data(), &header, sizeof(header));
  Elf64_Phdr segment{};
  segment.p_type = PT_LOAD;
  segment.p_flags = PF_R | PF_W | PF_X;
  segment.p_vaddr = segment.p_paddr = kProgramBase;
  segment.p_filesz = segment.p_memsz = file.size();
  segment.p_align = 0x1000;
  memcpy(file.data() + sizeof(header), &segment, sizeof(segment));

  size_t at = kNamesAt - kProgramBase;
  for (const char* name : kNames) {
    strncpy(reinterpret_cast<char*>(file.data() + at), name, kNameBytes - 1);
    at += kNameBytes;
  }
  for (uint64_t i = 0; i < 64; ++i) {
    // Some short and some long, and a null at the end of an argv.
    const uint64_t pair[2] = {i % 8 == 7 ? 0 : kBytesAt + i * 256, i % 5 == 4 ? 0x9000 : i * 3};
    memcpy(file.data() + (kVectorAt - kProgramBase) + i * sizeof(pair), pair, sizeof(pair));
  }
  for (at = kBytesAt - kProgramBase; !input.empty() && at < file.size(); ++at) {
    file[at] = static_cast<std::byte>(input[(at - (kBytesAt - kProgramBase)) % input.size()]);
  }
  return file;
}

}  // namespace sentry::testing
