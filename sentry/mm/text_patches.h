// TextPatches: where in an address space the host executes patched images of program text (platform/text_patcher.h).
//
// Nothing else knows of them: a page of text is what `pages` says, the file's own, for every read, copy and fork. Only
// the host's mapping differs, as long as the page may be executed and not be written.
//
// A file that is patched here is one Placement: all its images where its text is, and its trampolines at their
// distance. A placement is whole or gone. When a page that has an image becomes something else (is unmapped, made
// writable, written by a debugger), or the guest wants the place of its trampolines, all of its text goes back to the
// file's pages, and then the trampolines go. A thread may be in them, or in padding that the file has for something
// else, at that moment: HostBatch::RestoresText makes Commit wait until every thread has left the guest and been put
// where it is in the original.
//
// A program that loads from text, to translate it (valgrind, emulators) or to compare it, would see jumps. So images
// are mapped only where text runs: the program's ELF interpreter, what it maps, and where calls have trapped. Not at
// once in a program that execve(2) maps or in the child of a fork: many make few calls, and each piece of text with
// images costs a process some 10 us.
//
// Locking: as the rest of MemoryManager::State.
#ifndef SENTRY_MM_TEXT_PATCHES_H_
#define SENTRY_MM_TEXT_PATCHES_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/interval_map.h"
#include "base/ref_ptr.h"
#include "platform/text_patcher.h"
#include "sentry/mm/mappable.h"
#include "sentry/mm/user_memory.h"

namespace sentry {

// A piece of text whose images the host has.
struct PatchedPart {
  base::Range range;
  uint64_t offset = 0;  // in the file, of the range's start
  uint32_t known = 0;   // so many of the file's images were looked at
};

struct Placement {
  static constexpr size_t kMaxParts = 8;
  base::RefPtr<Mappable> file;
  base::RefPtr<platform::PatchedText> text;
  Addr trampolines = 0;
  uint64_t mapped = 0;  // bytes of them that the host has
  std::vector<PatchedPart> parts;

  base::Range Reserved() const { return {trampolines, trampolines + platform::PatchedText::kTrampolineSpace}; }
  // Takes r out of the parts, if no images are there. False, and nothing done, if there are, or nothing else is left.
  bool CutOut(base::Range r);
  bool Meets(base::Range r) const {
    for (const PatchedPart& part : parts) {
      if (part.range.Overlaps(r)) return true;
    }
    return false;
  }
};

struct TextPatches {
  static constexpr size_t kMaxPlacements = 32, kMaxParts = Placement::kMaxParts, kMaxRefused = 16;

  bool enabled = false;
  base::RefPtr<Mappable> interpreter;  // of the program, as execve(2) mapped it; null: it has none
  std::vector<Placement> placements;
  // Changed since they were last made known to threads that leave the guest.
  bool changed = false;
  // Not to be patched here again.
  std::vector<base::RefPtr<platform::PatchedText>> refused;

  // Trampolines in r: the allocator of addresses keeps out of their way.
  std::optional<base::Range> ReservedIn(base::Range r) const {
    for (const Placement& placement : placements) {
      if (placement.Reserved().Overlaps(r)) return placement.Reserved();
    }
    return std::nullopt;
  }
};

// How often calls trapped from which page, as far as there is room: what decides when to patch. Any thread; a count
// that is lost in a race only delays.
class TrapCounts {
 public:
  // What is known of a page is mapped after so many traps (a change of the address space costs as much as four save);
  // an analysis costs some 50 us and a trap 3 more than a jump.
  static constexpr uint32_t kInstallTraps = 4, kPatchTraps = 16;

  // The count, if something should be done about the page now: at kInstallTraps, and again and again from kPatchTraps
  // on. Else 0.
  uint32_t Count(uint64_t page) {
    std::atomic<uint64_t>& entry = Entry(page);
    const uint64_t seen = entry.load(std::memory_order_relaxed);
    if (seen >> kCountBits != page / kPageSize) {
      entry.store(page / kPageSize << kCountBits | 1, std::memory_order_relaxed);
      return 0;
    }
    if ((seen & kSettled) == kSettled) return 0;
    const uint32_t count = static_cast<uint32_t>(seen & kSettled) + 1;
    // It does not end: what was not possible may become so.
    entry.store(count < kMost ? seen + 1 : seen + 1 - kMost / 2, std::memory_order_relaxed);
    if (count == kInstallTraps) return count;
    if (count < kPatchTraps) return 0;
    return count % kEvery == 0 || (count < kEvery && (count & (count - 1)) == 0) ? count : 0;
  }
  // Nothing more is to be done about it.
  void Settle(uint64_t page) {
    Entry(page).store(page / kPageSize << kCountBits | kSettled, std::memory_order_relaxed);
  }

 private:
  static constexpr int kCountBits = 16;
  static constexpr uint64_t kSettled = (1 << kCountBits) - 1;
  static constexpr uint32_t kMost = 1 << (kCountBits - 1), kEvery = 256;
  std::atomic<uint64_t>& Entry(uint64_t page) { return entries_[(page / kPageSize * 0x9e3779b97f4a7c15u) >> (64 - 6)]; }
  std::array<std::atomic<uint64_t>, 64> entries_{};
};

}  // namespace sentry

#endif  // SENTRY_MM_TEXT_PATCHES_H_
