// Addresses of a file's code, as the file itself says them (ELF p_vaddr): nothing here depends on where it is loaded.
#ifndef PLATFORM_SYSTRAP_PATCH_CODE_RANGE_H_
#define PLATFORM_SYSTRAP_PATCH_CODE_RANGE_H_

#include <cstdint>

namespace platform::patch {

inline constexpr uint64_t kPageSize = 4096;

// [start, end): a function, or a part of one that was moved away from it (foo.cold).
struct CodeRange {
  uint64_t start = 0;
  uint64_t end = 0;
  // Of a signal trampoline (augmentation 'S'). These may begin one byte early, in the middle of the padding before
  // them, for unwinders that look up the address before the return address (glibc's __restore_rt does).
  bool signal_frame = false;

  // From one symbol to the next (symbol_table.h), not an entry of the unwind table.
  bool stretch = false;

  uint64_t size() const { return end - start; }
  bool contains(uint64_t address) const { return start <= address && address < end; }
  friend bool operator==(const CodeRange&, const CodeRange&) = default;
};

// Longer functions are taken for code of unknown structure: decoding one page's functions is bounded work. (The longest
// function of Debian's python3 that makes a system call has 3 KiB.)
inline constexpr uint64_t kMaxFunctionSize = 128 * 1024;

// Padding aligns a function to a cache line at most; a longer gap between two functions is something else.
inline constexpr uint64_t kMaxPadding = 64;

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_CODE_RANGE_H_
