// From a file to a patched page: what the platform calls after the first trap from a page of a mapped file.
#ifndef PLATFORM_SYSTRAP_PATCH_PATCH_FILE_H_
#define PLATFORM_SYSTRAP_PATCH_PATCH_FILE_H_

#include <cstdint>
#include <span>

#include "base/errno.h"
#include "platform/systrap/patch/byte_source.h"
#include "platform/systrap/patch/elf_text.h"
#include "platform/systrap/patch/patch_page.h"

namespace platform::patch {

struct FilePatchRequest {
  uint64_t page = 0;         // address in the file's terms (ElfText::AddressOfText), page-aligned
  uint64_t trampolines = 0;  // as in PatchRequest, and in the same terms
  uint64_t trampoline_space = 0;
  uint64_t entry = 0;
  std::span<const Trap> traps;  // rip in the file's terms too
  Scope scope = Scope::kWholePage;
};

// ENOEXEC if the file has neither an unwind table nor symbols: nothing of it can be patched, and asking again for
// another page may be spared. An answer without sites: nothing in this page.
base::Result<PatchedPage> PatchFilePage(ByteSource& file, const ElfText& elf, const FilePatchRequest& request);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_PATCH_FILE_H_
