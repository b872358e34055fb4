// Turns system calls of a page of text into jumps: a pure function of the file's bytes.
//
// The instruction directly before a `syscall` is replaced by a jump to a trampoline, which executes it, loads the
// return address into rcx and goes to the stub. The `syscall` itself stays. README.md has the argument why this is
// safe; the rules it rests on are checked here, one by one, and a site for which one cannot be proven keeps its trap:
//
//  1. The function around the site is known from the file's unwind table and its instruction starts are proven
//     (function_proof.h). The trap that led here is not a proof: a guest can jump to a `0f 05` in the middle of
//     anything.
//  2. The replaced instruction is in the page, relocatable (relocate.h), and at least two bytes long.
//  3. No direct branch of a function that was decoded lands behind its first byte. A branch to its first byte, or to
//  the
//     `syscall`, is what it was before. Indirect branches (jump tables, returns, landing pads, function pointers) need
//     no look: a compiler makes their targets from labels, a label of an assembler is in front of an instruction, and
//     the instructions between the function's first byte and its last are exactly those that were decoded. The first
//     byte of the replaced instruction and that of the `syscall` are therefore the only addresses in question that can
//     be a label.
//  4. What is overwritten elsewhere is padding: either bytes that nothing can reach (between two functions, of which
//     the first cannot run on past its end), or a single no-op of at least seven bytes, which becomes a jump over
//     the rest of itself and so remains a no-op.
//
// The bytes have to be the file's, never a process's copy of them: the result is shared by everybody who maps the file,
// and a process may have written its copy.
//
// Hostile input is the normal case. The time is bounded by the functions that touch the page, each at most
// kMaxFunctionSize; the memory by as many bytes again. A file that lies in its unwind table gets trampolines that do
// what its own bytes said at some other reading, in processes that run that file: never more than those processes could
// do anyway.
#ifndef PLATFORM_SYSTRAP_PATCH_PATCH_PAGE_H_
#define PLATFORM_SYSTRAP_PATCH_PATCH_PAGE_H_

#include <cstdint>
#include <span>

#include "platform/systrap/patch/code_range.h"
#include "platform/systrap/patch/patched_page.h"

namespace platform::patch {

inline constexpr size_t kMaxSitesPerPage = 128;

// A system call that trapped: rip behind the `syscall`, and rax, the number, at that time. Hostile as everything else.
struct Trap {
  uint64_t rip = 0;
  uint64_t rax = 0;
};

enum class Scope : uint8_t {
  kWholePage,  // every site that can be proven; traps can only forbid
  kTraps,      // only sites that trapped
};

struct PatchRequest {
  std::span<const uint8_t> text;  // the page and the functions that touch it; what is missing is not proven
  uint64_t text_address = 0;
  std::span<const CodeRange> functions;  // ascending, disjoint; others are ignored from the first that is not
  uint64_t page = 0;                     // kPageSize bytes, all of them in `text`
  uint64_t trampolines = 0;              // where they will be, in the file's addresses; kTrampolineAlignment
  uint64_t trampoline_space = 0;
  uint64_t entry = 0;  // absolute address of the stub's entry for patched calls
  std::span<const Trap> traps;
  Scope scope = Scope::kWholePage;
};

// Nothing to patch is an answer without sites. A page outside of `text` is one too.
PatchedPage PatchPage(const PatchRequest& request);

// The page that has to be patched for the `syscall` before `rip`: that of the instruction before it.
inline uint64_t PageOfSite(uint64_t rip) { return (rip - 3) & ~(kPageSize - 1); }

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_PATCH_PAGE_H_
