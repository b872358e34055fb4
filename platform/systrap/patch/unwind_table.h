// Which functions a file has, by its unwind table (.eh_frame), read where it is and as little of it as needed.
//
// Every function of a C or C++ program for x86-64 has an entry (FDE) with its first address and its size, because the
// ABI wants it, exceptions or not; and linkers add an index sorted by address, .eh_frame_hdr (LSB core specification,
// chapter "Exception Frames"; DWARF 5, section 6.4). With the index some twenty entries around a page are read; without
// it (static programs of some toolchains) the table is walked once from end to end.
//
// Only the encodings that linkers write are understood; anything else, a table that is out of order, and ranges that
// overlap give no functions.
#ifndef PLATFORM_SYSTRAP_PATCH_UNWIND_TABLE_H_
#define PLATFORM_SYSTRAP_PATCH_UNWIND_TABLE_H_

#include <cstdint>
#include <vector>

#include "base/errno.h"
#include "platform/systrap/patch/byte_source.h"
#include "platform/systrap/patch/code_range.h"
#include "platform/systrap/patch/elf_text.h"

namespace platform::patch {

// A table that is walked may have this many bytes (that of Debian's busybox-static has 0.2 MiB).
inline constexpr uint64_t kMaxWalkedTable = 16 * 1024 * 1024;

// The functions that touch [first, last), the last two that start before them and the first that starts behind,
// ascending and disjoint. At most last - first + 4. ENOEXEC if the file has no table that can be used.
base::Result<std::vector<CodeRange>> FunctionsAround(ByteSource& file, const ElfText& elf, uint64_t first,
                                                     uint64_t last);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_UNWIND_TABLE_H_
