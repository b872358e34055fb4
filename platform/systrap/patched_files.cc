#include "platform/systrap/patched_files.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/syscall_unsafe.h"
#include "platform/systrap/patch/code_range.h"
#include "platform/systrap/patch/fd_source.h"
#include "platform/systrap/patch/patch_file.h"
#include "platform/systrap/patch/trampoline.h"
#include "platform/systrap/patched_file.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

namespace platform::systrap {
namespace {

using patch::kPageSize;

constexpr int64_t kTimeShare = 16;

int64_t Nanoseconds(const timespec& t) { return t.tv_sec * 1'000'000'000 + t.tv_nsec; }

base::Result<void> WriteAll(int fd, uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t n = static_cast<size_t>(TRY(base::HostRetry(SYS_pwrite64, fd, bytes.data(), bytes.size(), offset)));
    if (n == 0) return base::Errno(ENOMEM);
    offset += n;
    bytes = bytes.subspan(n);
  }
  return {};
}

}  // namespace

base::Result<std::unique_ptr<PatchedFiles>> PatchedFiles::Create(uint64_t entry, Options options) {
  // MFD_EXEC as for the memory file.
  auto fd = base::Host(SYS_memfd_create, "runsc-text", MFD_CLOEXEC | MFD_EXEC);
  if (fd.failed_with(EINVAL)) fd = base::Host(SYS_memfd_create, "runsc-text", MFD_CLOEXEC);
  if (!fd.ok()) return fd.error();
  return std::unique_ptr<PatchedFiles>(new PatchedFiles(entry, options, base::UniqueFd(static_cast<int>(*fd))));
}

PatchedFiles::PatchedFiles(uint64_t entry, Options options, base::UniqueFd fd)
    : entry_(entry), options_(options), fd_(std::move(fd)) {}

PatchedFiles::~PatchedFiles() = default;

base::Result<PatchedFiles::Key> PatchedFiles::KeyOf(int fd) {
  struct stat st;
  TRY(base::Host(SYS_fstat, fd, &st));
  if (!S_ISREG(st.st_mode)) return base::Errno(ENOEXEC);
  return Key{st.st_dev, st.st_ino, static_cast<uint64_t>(st.st_size), Nanoseconds(st.st_mtim), Nanoseconds(st.st_ctim)};
}

base::RefPtr<PatchedText> PatchedFiles::Find(int fd) {
  auto key = KeyOf(fd);
  if (!key.ok()) return nullptr;
  base::RefPtr<PatchedFile> file;
  {
    base::MutexLock lock(mu_);
    auto it = files_.find(*key);
    if (it == files_.end()) return nullptr;
    file = it->second;
  }
  if (!file->HasImages()) return nullptr;
  return file;
}

void PatchedFiles::DropUnused() {
  std::vector<base::RefPtr<PatchedFile>> dropped;
  {
    base::MutexLock lock(mu_);
    for (auto it = files_.begin(); it != files_.end();) {
      // New references come from files_ alone.
      if (it->second->ref_count() == 1) {
        dropped.push_back(std::move(it->second));
        it = files_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const auto& file : dropped) {
    const PatchedFile::Counts counts = file->counts();
    pages_ -= counts.pages;
    images_ -= counts.images;
    sites_ -= counts.sites;
    if (file->elf() == nullptr) continue;
    (void)base::Host(SYS_fallocate, fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file->trampoline_offset(),
                     file->store_bytes());
  }
}

base::Result<base::RefPtr<PatchedFile>> PatchedFiles::FindOrAdd(const Key& key, int fd) {
  bool full;
  {
    base::MutexLock lock(mu_);
    auto it = files_.find(key);
    if (it != files_.end()) return it->second;
    full = files_.size() >= kMaxFiles;
  }
  if (full) DropUnused();
  patch::FdSource source(fd);
  auto elf = patch::ElfText::Parse(source);
  auto file = base::MakeRef<PatchedFile>(elf.ok() ? std::optional(std::move(*elf)) : std::nullopt, end_);
  base::MutexLock lock(mu_);
  if (files_.size() >= kMaxFiles) return base::Errno(EAGAIN);
  if (file->elf() != nullptr) end_ += file->store_bytes();
  files_.emplace(key, file);
  return file;
}

base::Result<base::RefPtr<PatchedText>> PatchedFiles::Patch(int fd, uint64_t offset, uint64_t number) {
  const Key key = TRY(KeyOf(fd));
  constexpr int64_t kSecond = 1'000'000'000;
  const bool coarse = key.mtime_ns % kSecond == 0 && key.ctime_ns % kSecond == 0;
  const int64_t settled = coarse ? options_.coarse_settled_ns : options_.settled_ns;
  if (std::max(key.mtime_ns, key.ctime_ns) > base::HostClockNs(CLOCK_REALTIME) - settled) return base::Errno(EAGAIN);

  base::FiberMutexLock build(build_);
  const base::MonotonicNs start = base::MonotonicNow();
  if (spent_ns_ > options_.burst_ns + (start - created_) / kTimeShare) return base::Errno(EAGAIN);
  auto result = PatchPage(key, fd, offset, number);
  spent_ns_ += base::MonotonicNow() - start;
  return result;
}

base::Result<base::RefPtr<PatchedText>> PatchedFiles::PatchPage(const Key& key, int fd, uint64_t offset,
                                                                uint64_t number) {
  if (pages_ >= kMaxPages || images_ >= kMaxImages || sites_ >= kMaxSites) DropUnused();
  base::RefPtr<PatchedFile> file = TRY(FindOrAdd(key, fd));
  const uint64_t page = PageOfCall(offset);
  if (offset < 3 || !file->TrampolineDistance(page)) return base::Errno(ENOEXEC);
  TRY(Look(*file, fd, key, page, offset, number));
  // Small gaps to the neighbours are closed, if what is in them can be looked at.
  constexpr uint64_t kReach = (kGapPages + 1) * kPageSize;
  if (auto before = file->ImageBefore(page, kReach)) {
    for (uint64_t at = *before + kPageSize; at < page; at += kPageSize) {
      if (!Look(*file, fd, key, at, 0, 0).ok()) break;
    }
  }
  if (auto behind = file->ImageBehind(page, kReach)) {
    for (uint64_t at = *behind - kPageSize; at > page; at -= kPageSize) {
      if (!Look(*file, fd, key, at, 0, 0).ok()) break;
    }
  }
  return base::RefPtr<PatchedText>(file);
}

base::Result<void> PatchedFiles::Look(PatchedFile& file, int fd, const Key& key, uint64_t page_offset, uint64_t offset,
                                      uint64_t number) {
  const bool wanted = offset != 0;
  const PatchedFile::PageState state = file.StateOf(page_offset);
  if (state == PatchedFile::PageState::kImage) return {};
  if (state == PatchedFile::PageState::kNothing && wanted) return base::Errno(ENOEXEC);
  const auto address = file.elf()->AddressOfText(page_offset);
  if (!address) return base::Errno(ENOEXEC);
  if (state == PatchedFile::PageState::kUnknown && pages_ >= kMaxPages) return base::Errno(EAGAIN);
  if (images_ >= kMaxImages || sites_ >= kMaxSites) return base::Errno(EAGAIN);

  patch::FdSource source(fd);
  patch::PatchedPage page;
  page.page = *address;
  if (state == PatchedFile::PageState::kUnknown) {
    const patch::Trap trap = {*address + (offset - page_offset), number};
    patch::FilePatchRequest request;
    request.page = *address;
    request.trampolines = file.trampolines() + file.used();
    request.trampoline_space = PatchedText::kTrampolineSpace - file.used();
    request.entry = entry_;
    if (wanted) request.traps = {&trap, 1};
    auto patched = patch::PatchFilePage(source, *file.elf(), request);
    if (patched.ok()) page = std::move(*patched);
  }
  // What was analysed is one state of the file, or nobody's.
  if (auto now = KeyOf(fd); !now.ok() || *now != key) return base::Errno(EAGAIN);
  if (page.sites.empty()) {
    if (wanted) {
      file.AddNothing(page_offset);
      ++pages_;
      return base::Errno(ENOEXEC);
    }
    // What lies between two images is copied as it is; a page that was never asked for can still be patched later
    // where it is not copied.
    page.bytes.assign(kPageSize, 0);
    (void)source.Read(page_offset, page.bytes);
    page.trampolines.clear();
  }
  const uint64_t trampolines = page.trampolines.size();
  if (!page.trampolines.empty()) TRY(WriteAll(fd_.get(), file.trampoline_offset() + file.used(), page.trampolines));
  TRY(WriteAll(fd_.get(), file.ImageOffset(page_offset), page.bytes));
  if (state == PatchedFile::PageState::kUnknown) ++pages_;
  ++images_;
  sites_ += page.sites.size();
  file.AddImage(page_offset, std::move(page), trampolines);
  return {};
}

}  // namespace platform::systrap
