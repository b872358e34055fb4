// PatchedFile: one file's images and trampolines (patched_files.h).
#ifndef PLATFORM_SYSTRAP_PATCHED_FILE_H_
#define PLATFORM_SYSTRAP_PATCHED_FILE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/mutex.h"
#include "platform/systrap/patch/elf_text.h"
#include "platform/systrap/patch/patched_page.h"
#include "platform/text_patcher.h"

namespace platform::systrap {

// Addresses are the file's own (patch/code_range.h). Read by any thread; changed by PatchedFiles, one fiber at a time.
class PatchedFile final : public PatchedText {
 public:
  // A file of which nothing can be patched, if `elf` is none or its text is too far apart. `store`: where in the memfd
  // its trampolines are, and behind them its images.
  PatchedFile(std::optional<patch::ElfText> elf, uint64_t store);

  std::optional<int64_t> TrampolineDistance(uint64_t offset) const override;
  uint32_t Images(base::Range range, uint32_t known, std::vector<Image>& out) const override EXCLUDES(mu_);
  uint64_t trampoline_bytes() const override EXCLUDES(mu_);
  uint64_t trampoline_offset() const override { return store_; }
  std::optional<int64_t> FindOriginal(int64_t position) const override EXCLUDES(mu_);

  // Null if nothing can be patched.
  const patch::ElfText* elf() const { return elf_ ? &*elf_ : nullptr; }
  // How much of the memfd it needs from `store` on.
  uint64_t store_bytes() const { return kTrampolineSpace + text_.length(); }
  uint64_t trampolines() const { return trampolines_; }
  uint64_t used() const EXCLUDES(mu_);
  // Of the page of the file at `offset`, in the memfd.
  uint64_t ImageOffset(uint64_t offset) const { return store_ + kTrampolineSpace + (offset - text_.start); }

  enum class PageState : uint8_t { kUnknown, kNothing, kImage };
  PageState StateOf(uint64_t offset) const EXCLUDES(mu_);
  void AddNothing(uint64_t offset) EXCLUDES(mu_);
  // Its bytes are in the memfd, and so are the trampolines, which end `trampoline_bytes` behind used().
  void AddImage(uint64_t offset, patch::PatchedPage page, uint64_t trampoline_bytes) EXCLUDES(mu_);
  bool HasImages() const EXCLUDES(mu_);
  // The next image before and behind, if they are within `distance` bytes.
  std::optional<uint64_t> ImageBefore(uint64_t offset, uint64_t distance) const EXCLUDES(mu_);
  std::optional<uint64_t> ImageBehind(uint64_t offset, uint64_t distance) const EXCLUDES(mu_);
  struct Counts {
    size_t pages = 0, images = 0, sites = 0;
  };
  Counts counts() const EXCLUDES(mu_);

 private:
  std::optional<patch::ElfText> elf_;
  const uint64_t store_;
  base::Range text_;          // offsets in the file: all of its executable segments
  uint64_t trampolines_ = 0;  // address

  struct PageImage {
    uint32_t number = 0;  // in the order of their making, from 1 on
    patch::PatchedPage page;
  };
  mutable base::Mutex mu_;
  std::map<uint64_t, PageImage> images_ GUARDED_BY(mu_);          // by offset
  std::map<uint64_t, const PageImage*> by_page_ GUARDED_BY(mu_);  // by address
  // By the address of their trampolines, in order.
  std::vector<const PageImage*> by_trampolines_ GUARDED_BY(mu_);
  std::set<uint64_t> nothing_ GUARDED_BY(mu_);
  uint64_t used_ GUARDED_BY(mu_) = 0;
  size_t sites_ GUARDED_BY(mu_) = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_PATCHED_FILE_H_
