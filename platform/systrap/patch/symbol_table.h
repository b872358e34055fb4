// Where functions begin, by a file's symbols: for code that has no unwind table, such as musl's.
//
// A symbol says where a function begins, but between two symbols there may be functions without one (static ones, in a
// stripped file). So what is returned are stretches from one symbol to the next, to be decoded as if they were one
// function: from a known start, over padding and whatever else is there, until the known start of another, or the end
// of the section, which has to be met exactly.
#ifndef PLATFORM_SYSTRAP_PATCH_SYMBOL_TABLE_H_
#define PLATFORM_SYSTRAP_PATCH_SYMBOL_TABLE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "platform/systrap/patch/byte_source.h"
#include "platform/systrap/patch/code_range.h"
#include "platform/systrap/patch/elf_text.h"

namespace platform::patch {

// Longer tables are not read: asking costs one pass over all of it.
inline constexpr uint64_t kMaxSymbols = 256 * 1024;

// Adds to `functions`, which the unwind table knows (ascending, disjoint), the stretches between symbols, or functions
// of Go's table, that touch [first, last) and lie outside of them. Ascending and disjoint again. Leaves `functions`
// alone if there are no symbols.
void AddStretches(ByteSource& file, const ElfText& elf, uint64_t first, uint64_t last,
                  std::vector<CodeRange>& functions);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_SYMBOL_TABLE_H_
