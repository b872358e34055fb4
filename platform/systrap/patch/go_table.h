// Where functions begin in a Go program, by the table that Go's run time needs itself (.gopclntab; Go's
// src/runtime/symtab.go, pcHeader and functab; the layout is that of Go 1.18 and later). It survives stripping.
#ifndef PLATFORM_SYSTRAP_PATCH_GO_TABLE_H_
#define PLATFORM_SYSTRAP_PATCH_GO_TABLE_H_

#include <cstdint>
#include <vector>

#include "platform/systrap/patch/byte_source.h"
#include "platform/systrap/patch/elf_text.h"

namespace platform::patch {

// The starts in [first, last), and the nearest ones on both sides. Empty if there is no such table or it contradicts
// itself.
std::vector<uint64_t> GoFunctionStarts(ByteSource& file, const ElfText& elf, uint64_t first, uint64_t last);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_GO_TABLE_H_
