#include "sentry/mm/text_patches.h"

#include <algorithm>

#include "base/logging.h"
#include "sentry/mm/mm_state.h"

namespace sentry {

using base::Range;
using base::ReaderLock;
using base::WriterLock;
using platform::PatchedText;
using platform::TextPatcher;

namespace {

constexpr uint8_t kText = kRead | kExec;
// Pieces of so many bytes are mapped populated. A fault on one page costs less than to populate it, and most children
// of a fork touch few.
constexpr uint64_t kPopulateText = 4 * kPageSize;

// Maps what the trampolines have grown by.
void MapTrampolines(Placement& placement, int fd, HostBatch& batch) {
  const uint64_t wanted = placement.text->trampoline_bytes();
  if (wanted <= placement.mapped) return;
  batch.Map({placement.trampolines + placement.mapped, placement.trampolines + wanted}, fd,
            placement.text->trampoline_offset() + placement.mapped, kText, wanted - placement.mapped >= kPopulateText);
  placement.mapped = wanted;
}

}  // namespace

bool Placement::CutOut(Range r) {
  std::vector<PatchedPart> rest;
  std::vector<PatchedText::Image> images;
  for (const PatchedPart& part : parts) {
    const Range cut = part.range.Intersect(r);
    if (cut.empty()) {
      rest.push_back(part);
      continue;
    }
    const uint64_t offset = part.offset + (cut.start - part.range.start);
    (void)text->Images({offset, offset + cut.length()}, 0, images);
    if (!images.empty()) return false;
    if (part.range.start < cut.start) rest.push_back({{part.range.start, cut.start}, part.offset, part.known});
    if (cut.end < part.range.end) {
      rest.push_back({{cut.end, part.range.end}, part.offset + (cut.end - part.range.start), part.known});
    }
  }
  if (rest.empty() || rest.size() > kMaxParts) return false;
  parts = std::move(rest);
  return true;
}

bool MemoryManager::State::IsText(const Vma& v, const Page& p) const {
  return text.enabled && v.IsPrivate() && !v.special && (v.prot & (kWrite | kExec)) == kExec && !p.owned &&
         !p.memory_file;
}

bool MemoryManager::State::IsInterpreter(Addr behind) const {
  if (!text.interpreter) return false;
  auto it = vmas.Find(behind - 1);
  if (it != vmas.end()) return it->second.value.file == text.interpreter;
  for (const Placement& placement : text.placements) {
    if (placement.Reserved().Contains(behind)) return placement.file == text.interpreter;
  }
  return false;
}

Placement* MemoryManager::State::PlaceText(const Vma& v, const Page& p, Range part) {
  auto place = [&](const PatchedText& file) -> std::optional<Addr> {
    const auto distance = file.TrampolineDistance(p.offset);
    if (!distance) return std::nullopt;
    return part.start + static_cast<uint64_t>(*distance);
  };
  for (Placement& placement : text.placements) {
    if (placement.file == v.file && place(*placement.text) == placement.trampolines) return &placement;
  }
  if (text.placements.size() >= TextPatches::kMaxPlacements) return nullptr;
  Placement fresh;
  fresh.text = env.platform->text_patcher()->Find(p.fd);
  if (!fresh.text || std::find(text.refused.begin(), text.refused.end(), fresh.text) != text.refused.end())
    return nullptr;
  const std::optional<Addr> at = place(*fresh.text);
  if (!at || (*at & kPageMask) || *at < kMinAddr || *at > task_size - PatchedText::kTrampolineSpace) return nullptr;
  fresh.trampolines = *at;
  fresh.file = v.file;
  auto above = vmas.LowerBound(*at);
  if (above != vmas.end() && above->first < fresh.Reserved().end) return nullptr;
  if (text.ReservedIn(fresh.Reserved())) return nullptr;
  text.placements.push_back(std::move(fresh));
  return &text.placements.back();
}

void MemoryManager::State::PatchText(const Vma& v, const Page& p, Range part, HostBatch& batch) {
  if (!v.runs) return;
  Placement* placement = PlaceText(v, p, part);
  if (placement == nullptr) return;
  PatchedPart* known = nullptr;
  for (PatchedPart& other : placement->parts) {
    if (other.range.start <= part.start && part.end <= other.range.end) known = &other;
  }
  std::vector<PatchedText::Image> images;
  const uint32_t newest =
      placement->text->Images({p.offset, p.offset + part.length()}, known != nullptr ? known->known : 0, images);
  if (!images.empty() && (known != nullptr || placement->parts.size() < TextPatches::kMaxParts)) {
    const int fd = env.platform->text_patcher()->fd();
    MapTrampolines(*placement, fd, batch);
    for (const PatchedText::Image& image : images) {
      const Addr start = part.start + (image.offset - p.offset);
      batch.Map({start, start + image.length}, fd, image.image, kText, image.length >= kPopulateText);
    }
    if (known == nullptr) placement->parts.push_back({part, p.offset, newest});
    text.changed = true;
  }
  // Only if all of the part was looked at.
  if (known != nullptr && known->range == part) known->known = newest;
  if (placement->parts.empty()) text.placements.pop_back();
}

void MemoryManager::State::PatchFile(const Mappable& file, Addr page, HostBatch& batch) {
  if (auto trapped = vmas.Find(page); trapped != vmas.end()) trapped->second.value.runs = true;
  for (auto vit = vmas.begin(); vit != vmas.end(); ++vit) {
    const Vma& v = vit->second.value;
    if (v.file.get() != &file || !v.runs) continue;
    Range vr = VmaMap::RangeOf(vit);
    for (auto it = pages.LowerBound(vr.start); it != pages.end() && it->first < vr.end; ++it) {
      Page p = it->second.value;
      if (!p.mapped || !IsText(v, p)) continue;
      const Range part = PageMap::RangeOf(it).Intersect(vr);
      p.offset += part.start - it->first;
      PatchText(v, p, part, batch);
    }
  }
}

void MemoryManager::State::RestoreText(size_t index, Range gone, Refuse refuse, HostBatch& batch) {
  Placement placement = std::move(text.placements[index]);
  text.placements.erase(text.placements.begin() + static_cast<ptrdiff_t>(index));
  text.changed = true;
  bool stays = false;
  for (const PatchedPart& part : placement.parts) {
    for (auto it = pages.LowerBound(part.range.start); it != pages.end() && it->first < part.range.end; ++it) {
      const Page& p = it->second.value;
      if (!p.mapped) continue;
      const Range entry = PageMap::RangeOf(it);
      const Range whole = entry.Intersect(part.range);
      auto restore = [&](Range r) {
        if (r.start >= r.end) return;
        batch.Map(r, p.fd, p.offset + (r.start - entry.start), p.host_prot, false);
        stays = true;
      };
      if (gone.empty()) {
        restore(whole);
      } else {
        restore({whole.start, std::min(whole.end, gone.start)});
        restore({std::max(whole.start, gone.end), whole.end});
      }
    }
  }
  // Nobody can be in text that is unmapped as a whole, or wants to be.
  if (stays) batch.RestoresText();
  if (placement.mapped != 0) batch.Unmap({placement.trampolines, placement.trampolines + placement.mapped});
  if (refuse == Refuse::kForGood) {
    if (text.refused.size() < TextPatches::kMaxRefused) {
      text.refused.push_back(placement.text);
    } else {
      text.enabled = false;
    }
  }
  batch.Hold(std::move(placement.text));
  batch.Hold(std::move(placement.file));
}

void MemoryManager::State::RestoreTextIn(Range r, Range gone, Refuse refuse, HostBatch& batch) {
  for (size_t i = text.placements.size(); i-- > 0;) {
    Placement& placement = text.placements[i];
    if (!placement.Meets(r)) continue;
    if (placement.CutOut(r)) {
      text.changed = true;
    } else {
      RestoreText(i, gone, refuse, batch);
    }
  }
}

void MemoryManager::State::GiveUpTrampolinesIn(Range r, HostBatch& batch) {
  for (size_t i = text.placements.size(); i-- > 0;) {
    if (text.placements[i].Reserved().Overlaps(r)) RestoreText(i, {}, Refuse::kForGood, batch);
  }
}

void MemoryManager::State::ForgetText(std::vector<platform::MapOp>& undo) {
  text.enabled = false;
  for (Placement& placement : text.placements) {
    for (const PatchedPart& part : placement.parts) {
      undo.push_back({.kind = platform::MapOp::Kind::kUnmap, .start = part.range.start, .length = part.range.length()});
    }
    if (placement.mapped == 0) continue;
    undo.push_back({.kind = platform::MapOp::Kind::kUnmap, .start = placement.trampolines, .length = placement.mapped});
  }
  text.changed |= !text.placements.empty();
  text.placements.clear();
}

// --- What threads that leave the guest see of it.

void MemoryManager::PublishText(const TextPatches& text, bool with_former) {
  std::vector<ShownText> shown;
  for (const Placement& placement : text.placements) {
    ShownText one{placement.text, placement.trampolines, {}};
    for (const PatchedPart& part : placement.parts) one.parts.push_back(part.range);
    shown.push_back(std::move(one));
  }
  base::MutexLock lock(shown_mu_);
  if (with_former) shown.insert(shown.end(), shown_text_.begin(), shown_text_.end());
  shown_text_.swap(shown);
  text_patched_.store(!shown_text_.empty(), std::memory_order_relaxed);
}

bool MemoryManager::ShowOriginal(platform::Registers& regs, platform::Exit& exit) {
  base::MutexLock lock(shown_mu_);
  for (const ShownText& shown : shown_text_) {
    bool there = regs.rip - shown.trampolines < PatchedText::kTrampolineSpace;
    for (const Range& part : shown.parts) there |= part.Contains(regs.rip);
    if (!there) continue;
    const auto original = shown.text->FindOriginal(static_cast<int64_t>(regs.rip - shown.trampolines));
    if (!original) continue;
    const uint64_t rip = shown.trampolines + static_cast<uint64_t>(*original);
    if (exit.address == regs.rip) exit.address = rip;
    regs.rip = rip;
    return true;
  }
  return false;
}

void MemoryManager::StopThreads() {
  text_changing_.store(true, std::memory_order_seq_cst);
  if (env_.stop_threads) env_.stop_threads(*this);
}

void MemoryManager::WaitForText() { ReaderLock lock(lock_); }

void MemoryManager::RestoreText() {
  if (!traps_) return;
  WriterLock lock(lock_);
  State& s = *state_;
  s.text.enabled = false;
  HostBatch batch;
  while (!s.text.placements.empty()) s.RestoreText(s.text.placements.size() - 1, {}, State::Refuse::kNo, batch);
  (void)s.Commit(batch).ok();
}

// --- Deciding.

void MemoryManager::ConsiderText(Addr rip, uint64_t number, uint32_t traps) {
  TextPatcher& patcher = *env_.platform->text_patcher();
  const Addr page = TextPatcher::PageOfCall(rip);
  RefPtr<Mappable> file;
  int fd = -1;
  uint64_t offset = 0;  // of the page
  bool known = false;
  {
    ReaderLock lock(lock_);
    State& s = *state_;
    auto vit = s.vmas.Find(page);
    auto pit = s.pages.Find(page);
    if (vit == s.vmas.end() || pit == s.pages.end() || !pit->second.value.mapped ||
        !s.IsText(vit->second.value, pit->second.value)) {
      traps_->Settle(page);
      return;
    }
    // The file is kept, and so is the descriptor (Mappable::Translate).
    file = vit->second.value.file;
    fd = pit->second.value.fd;
    offset = pit->second.value.offset + (page - pit->first);
  }
  // Written through memory it changes without a trace in its times.
  if (file->HasSharedWritableMappings()) return;
  auto has_image = [&](const PatchedText& text) {
    std::vector<PatchedText::Image> images;
    text.Images({offset, offset + kPageSize}, 0, images);
    return !images.empty();
  };
  RefPtr<PatchedText> text = patcher.Find(fd);
  known = text && has_image(*text);
  if (!known) {
    if (traps < TrapCounts::kPatchTraps) return;
    auto patched = patcher.Patch(fd, offset + (rip - page), number);
    if (!patched.ok()) {
      if (patched.failed_with(ENOEXEC)) traps_->Settle(page);
      return;
    }
    if (base::LogEnabled(base::LogLevel::kDebug)) {
      std::vector<PatchedText::Image> images;
      const uint32_t made = (*patched)->Images({0, UINT64_MAX}, 0, images);
      LOG_DEBUG("text: call %ld at %#lx of %s: %u images in %zu pieces", number, offset + (rip - page),
                file->MappedIdentity().path.c_str(), made, images.size());
    }
  }
  traps_->Settle(page);
  WriterLock lock(lock_);
  State& s = *state_;
  if (s.released) return;
  HostBatch batch;
  s.PatchFile(*file, page, batch);
  (void)s.Commit(batch).ok();
}

}  // namespace sentry
