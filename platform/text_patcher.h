// TextPatcher: what a platform offers to the owner of guest memory where a call that comes by a jump costs less than
// one that comes by the `syscall` instruction: copies of pages of program text in which call sites are jumps to the
// stub.
//
// The owner of guest memory maps such a copy (an image) over the file's own page in the host's address space, wherever
// a guest has the file mapped privately, to be executed and not to be written. Nothing else changes: what the guest's
// memory is remains the file's. The jumps of all images of a file lead to its trampolines, which have to be mapped
// before any image is, at the distance from the text that TrampolineDistance says; the same in every process, so that
// one image serves all of them.
//
// Images and trampolines never change once they are there, and stay as long as there is a reference to their file.
#ifndef PLATFORM_TEXT_PATCHER_H_
#define PLATFORM_TEXT_PATCHER_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "base/errno.h"
#include "base/interval_map.h"
#include "base/ref_ptr.h"

namespace platform {

// A file of the host, in the state that it had when it was looked at. Any thread.
class PatchedText : public base::RefCounted {
 public:
  // The address space to keep for its trampolines, however few there are.
  static constexpr uint64_t kTrampolineSpace = 64 << 10;

  // Neighbouring pages.
  struct Image {
    uint64_t offset = 0;  // of the pages in the file
    uint64_t length = 0;
    uint64_t image = 0;  // offset of their image in TextPatcher::fd()
  };

  // What to add to the address of the byte of text that the file has at `offset` to get where the trampolines begin.
  // None: no text is there.
  virtual std::optional<int64_t> TrampolineDistance(uint64_t offset) const = 0;
  // Appends the images of pages in `range` of the file that were made after the first `known`, in order; returns how
  // many were made up to now. They need no more trampolines than trampoline_bytes() says when asked after this.
  virtual uint32_t Images(base::Range range, uint32_t known, std::vector<Image>& out) const = 0;
  // How much of the trampolines is in use (pages), and where it is in TextPatcher::fd().
  virtual uint64_t trampoline_bytes() const = 0;
  virtual uint64_t trampoline_offset() const = 0;
  // Where a thread is in the original program that is at `position` in trampolines or in an image, both counted from
  // where the trampolines begin (and so may be negative). None: where it is already.
  virtual std::optional<int64_t> FindOriginal(int64_t position) const = 0;
};

class TextPatcher {
 public:
  virtual ~TextPatcher() = default;
  // Holds images and trampolines; to be mapped shared, to be read and executed.
  virtual int fd() const = 0;
  // What is known of the file behind the descriptor; null if it has no images. One host call, no lock that is held
  // across another.
  virtual base::RefPtr<PatchedText> Find(int fd) = 0;
  // A system call trapped: `offset` in the file is behind the instruction. Looks at its page and makes an image, if
  // that is possible. Parks; host I/O and up to some milliseconds of work. The file then has an image of the page.
  // ENOEXEC: there is nothing to be had in this page, ever. EAGAIN: not now.
  virtual base::Result<base::RefPtr<PatchedText>> Patch(int fd, uint64_t offset, uint64_t number) = 0;
  // The page of a file to which the call before `offset` belongs, by the offset of its first byte. The same for
  // addresses.
  static uint64_t PageOfCall(uint64_t offset) { return (offset - 3) & ~uint64_t{4095}; }
};

}  // namespace platform

#endif  // PLATFORM_TEXT_PATCHER_H_
