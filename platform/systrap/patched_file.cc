#include "platform/systrap/patched_file.h"

#include <algorithm>
#include <utility>

#include "platform/systrap/patch/code_range.h"

namespace platform::systrap {
namespace {

using patch::kPageSize;

constexpr uint64_t RoundDown(uint64_t x) { return x / kPageSize * kPageSize; }
constexpr uint64_t RoundUp(uint64_t x) { return RoundDown(x + kPageSize - 1); }

// Trampolines lie so far behind the end of the file's image: for a library, in the gap between the mappings and the
// stack; for a program, behind most heaps.
constexpr uint64_t kDistance = uint64_t{1} << 30;
// So that jumps of ±2 GiB reach from any of its text to the trampolines, and from them to its data.
constexpr uint64_t kMaxSpan = uint64_t{1} << 29;

}  // namespace

PatchedFile::PatchedFile(std::optional<patch::ElfText> elf, uint64_t store) : elf_(std::move(elf)), store_(store) {
  if (!elf_) return;
  base::Range addresses{UINT64_MAX, 0}, text{UINT64_MAX, 0};
  for (const auto& s : elf_->segments()) {
    addresses = {std::min(addresses.start, s.address), std::max(addresses.end, s.address + s.size)};
    if (s.executable)
      text = {std::min(text.start, RoundDown(s.offset)), std::max(text.end, RoundUp(s.offset + s.size))};
  }
  if (text.empty() || text.length() > kMaxSpan || addresses.length() > kMaxSpan) {
    elf_.reset();
    return;
  }
  text_ = text;
  trampolines_ = RoundUp(addresses.end) + kDistance;
}

std::optional<int64_t> PatchedFile::TrampolineDistance(uint64_t offset) const {
  if (!elf_) return {};
  const auto address = elf_->AddressOfText(offset);
  if (!address) return {};
  return static_cast<int64_t>(trampolines_ - *address);
}

uint32_t PatchedFile::Images(base::Range range, uint32_t known, std::vector<Image>& out) const {
  base::MutexLock lock(mu_);
  for (auto it = images_.lower_bound(range.start); it != images_.end() && it->first < range.end; ++it) {
    if (it->second.number <= known) continue;
    if (!out.empty() && out.back().offset + out.back().length == it->first) {
      out.back().length += kPageSize;
    } else {
      out.push_back({it->first, kPageSize, ImageOffset(it->first)});
    }
  }
  return static_cast<uint32_t>(images_.size());
}

uint64_t PatchedFile::used() const {
  base::MutexLock lock(mu_);
  return used_;
}

uint64_t PatchedFile::trampoline_bytes() const { return RoundUp(used()); }

std::optional<int64_t> PatchedFile::FindOriginal(int64_t position) const {
  const uint64_t address = trampolines_ + static_cast<uint64_t>(position);
  base::MutexLock lock(mu_);
  const PageImage* image = nullptr;
  if (position >= 0 && static_cast<uint64_t>(position) < kTrampolineSpace) {
    auto above =
        std::upper_bound(by_trampolines_.begin(), by_trampolines_.end(), address,
                         [](uint64_t a, const PageImage* candidate) { return a < candidate->page.trampoline_address; });
    if (above != by_trampolines_.begin()) image = *(above - 1);
  } else if (auto it = by_page_.find(RoundDown(address)); it != by_page_.end()) {
    image = it->second;
  }
  if (image == nullptr) return {};
  const auto original = patch::FindOriginal(image->page, address);
  if (!original) return {};
  return static_cast<int64_t>(original->rip - trampolines_);
}

PatchedFile::PageState PatchedFile::StateOf(uint64_t offset) const {
  base::MutexLock lock(mu_);
  if (images_.contains(offset)) return PageState::kImage;
  return nothing_.contains(offset) ? PageState::kNothing : PageState::kUnknown;
}

void PatchedFile::AddNothing(uint64_t offset) {
  base::MutexLock lock(mu_);
  nothing_.insert(offset);
}

void PatchedFile::AddImage(uint64_t offset, patch::PatchedPage page, uint64_t trampoline_bytes) {
  // What is in the memfd need not be here.
  page.bytes = {};
  page.trampolines = {};
  page.refused = {};
  page.edits = {};
  page.sites.shrink_to_fit();
  base::MutexLock lock(mu_);
  nothing_.erase(offset);
  PageImage& image = images_[offset];
  image.number = static_cast<uint32_t>(images_.size());
  image.page = std::move(page);
  by_page_[image.page.page] = &image;
  if (!image.page.sites.empty()) by_trampolines_.push_back(&image);
  used_ += trampoline_bytes;
  sites_ += image.page.sites.size();
}

bool PatchedFile::HasImages() const {
  base::MutexLock lock(mu_);
  return !images_.empty();
}

std::optional<uint64_t> PatchedFile::ImageBefore(uint64_t offset, uint64_t distance) const {
  base::MutexLock lock(mu_);
  auto it = images_.lower_bound(offset);
  if (it == images_.begin()) return {};
  --it;
  if (offset - it->first > distance) return {};
  return it->first;
}

std::optional<uint64_t> PatchedFile::ImageBehind(uint64_t offset, uint64_t distance) const {
  base::MutexLock lock(mu_);
  auto it = images_.upper_bound(offset);
  if (it == images_.end() || it->first - offset > distance) return {};
  return it->first;
}

PatchedFile::Counts PatchedFile::counts() const {
  base::MutexLock lock(mu_);
  return {images_.size() + nothing_.size(), images_.size(), sites_};
}

}  // namespace platform::systrap
