// A page of text whose system calls were turned into jumps, and what there is to know about it afterwards.
#ifndef PLATFORM_SYSTRAP_PATCH_PATCHED_PAGE_H_
#define PLATFORM_SYSTRAP_PATCH_PATCHED_PAGE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "platform/systrap/patch/code_range.h"

namespace platform::patch {

enum class SiteKind : uint8_t {
  kImmediate,   // mov $number,%eax, of at least five bytes
  kCopied,      // another instruction of at least five bytes
  kViaPadding,  // one of two to four bytes, replaced by a short jump to padding that holds the long one
};

// Short jumps between the one at a site and the long one.
inline constexpr size_t kMaxHops = 3;

// One patched call. All addresses are the file's own (code_range.h).
struct Site {
  uint64_t address = 0;  // of the replaced instruction
  uint8_t length = 0;    // its length
  SiteKind kind = SiteKind::kImmediate;
  std::optional<uint32_t> number;  // if the replaced instruction sets eax to a constant
  uint64_t trampoline = 0;         // of the moved instruction, which is as long as the original
  uint64_t padding = 0;            // of the long jump in padding; 0 without one
  uint8_t hop_count = 0;
  std::array<uint16_t, kMaxHops> hops{};  // of short jumps in padding on the way there, in order: offsets in the page

  uint64_t syscall() const { return address + length; }
  uint64_t after() const { return address + length + 2; }  // what the stub gets in rcx
  // In the trampoline, behind the moved instruction: executing from here is what executing the `syscall` was, without
  // the trap. Where a restarted call is resumed, with its number in rax.
  uint64_t resume() const { return trampoline + length; }
};

// Why a `syscall` that is certainly one was left alone.
enum class Refusal : uint8_t {
  kNotProven,       // no function is known there, or its instructions are not
  kFirst,           // nothing before it in its function
  kNotRelocatable,  // the instruction before it cannot be executed elsewhere (or is a single byte)
  kTargetInside,    // something jumps into the middle of that instruction
  kCrossesPage,     // that instruction is not within the page
  kNoPadding,       // a short instruction, and no padding within reach
  kOutOfReach,      // the trampoline, or an operand of the moved instruction
  kNoSpace,         // no room left for trampolines, or too many sites
  kSignalReturn,    // rt_sigreturn in code without unwind information: unwinders recognise it by its bytes
  kNumberDiffers,   // rax at the trap was not what the instruction before would have set
};
const char* RefusalName(Refusal refusal);

struct RefusedSite {
  uint64_t syscall = 0;
  Refusal reason = Refusal::kNotProven;
};

// Bytes that differ from the file's.
struct Edit {
  uint16_t offset = 0;  // in the page
  uint8_t length = 0;
  uint8_t original[15] = {};
};

struct PatchedPage {
  uint64_t page = 0;        // the file's own address
  std::vector<Site> sites;  // in order of their trampolines
  std::vector<RefusedSite> refused;
  std::vector<Edit> edits;           // do not overlap
  std::vector<uint8_t> bytes;        // the whole page, if there are sites; can be dropped once it is installed
  std::vector<uint8_t> trampolines;  // belongs at `trampoline_address`; likewise
  uint64_t trampoline_address = 0;
};

// Where a thread would be in the original program.
struct OriginalPosition {
  uint64_t rip = 0;
  const Site* site = nullptr;
  // The trampoline has put site->after() into rcx already, and what rcx was is lost. rip is that of the `syscall`,
  // which would have overwritten it with the same value; only a debugger or a signal handler that looks can tell.
  bool rcx_lost = false;
};

// The position in the original program of a thread that is at `rip`, in the trampolines or in padding, with its
// registers unchanged but for rip (and what rcx_lost says). Nothing for any other address: in the page itself every
// instruction start of the original still means what it meant, and a guest that jumped into the middle of something of
// ours is nowhere.
std::optional<OriginalPosition> FindOriginal(const PatchedPage& page, uint64_t rip);

// Undoes the patching in `bytes`, a copy of a part of the page that starts at `offset`: what read(2), ptrace and
// /proc/pid/mem have to show.
void RestoreOriginal(const PatchedPage& page, uint64_t offset, std::span<uint8_t> bytes);

}  // namespace platform::patch

#endif  // PLATFORM_SYSTRAP_PATCH_PATCHED_PAGE_H_
