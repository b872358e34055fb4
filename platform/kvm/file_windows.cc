#include "platform/kvm/file_windows.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <utility>

#include "base/check.h"
#include "base/syscall_unsafe.h"

namespace platform::kvm {

MappedFile::~MappedFile() = default;

uint64_t MappedFile::Size() const {
  struct stat s = {};
  int fd;
  {
    base::MutexLock lock(owner_.mu_);
    fd = fd_.get();
  }
  if (!base::Host(SYS_fstat, fd, &s).ok() || s.st_size < 0) return 0;
  return static_cast<uint64_t>(s.st_size);
}

void MappedFile::OnLastUnref() const { owner_.OnUnused(*this); }

FileWindows::~FileWindows() {
  base::MutexLock lock(mu_);
  for (auto& [id, file] : files_) delete file;
}

base::Result<base::RefPtr<MappedFile>> FileWindows::Open(int fd) {
  struct stat s = {};
  TRY(base::Host(SYS_fstat, fd, &s));
  const long flags = TRY(base::Host(SYS_fcntl, fd, F_GETFL));
  const bool writable = (flags & O_ACCMODE) == O_RDWR;
  const std::pair<uint64_t, uint64_t> id = {s.st_dev, s.st_ino};
  base::MutexLock lock(mu_);
  auto it = files_.find(id);
  if (it == files_.end()) {
    // Born with a count of zero, as one that nobody has mapped any more.
    auto* file = new MappedFile(*this);
    it = files_.emplace(id, file).first;
  }
  MappedFile& file = *it->second;
  if (!file.fd_.valid() || (writable && !file.writable_)) {
    auto own = base::Host(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
    if (!own.ok()) {
      return own.error();  // an object without a descriptor stays behind, for the next attempt
    }
    file.fd_.reset(static_cast<int>(*own));
    file.writable_ = writable;
  }
  // The count may have reached zero: a file stays in the list for a while.
  if (file.ref_count() == 0) {
    if (std::exchange(file.listed_, false)) idle_files_.remove(&file);
    file.Ref();
    return base::RefPtr<MappedFile>::Adopt(&file);
  }
  return base::RefPtr<MappedFile>(&file);
}

void FileWindows::OnUnused(const MappedFile& unused) {
  auto& file = const_cast<MappedFile&>(unused);
  base::MutexLock lock(mu_);
  if (file.ref_count() != 0 || file.listed_) return;  // somebody came back for it
  file.listed_ = true;
  idle_files_.push_back(&file);
  if (idle_files_.size() <= kMaxIdleFiles) return;
  // The one that has been unused for longest, unless entries of an address space that is ending still point to it.
  MappedFile* oldest = idle_files_.front();
  for (auto& [part, index] : oldest->windows_) {
    if (windows_[index].references != 0) return;
  }
  idle_files_.pop_front();
  while (!oldest->windows_.empty()) {
    Window& window = windows_[oldest->windows_.begin()->second];
    Detach(window);
    CHECK(base::Host(SYS_mmap, window.host, kWindowBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
              .ok());
    idle_.erase(window.idle);
    fresh_.push_back(static_cast<uint32_t>(&window - windows_.data()));
  }
  oldest->listed_ = false;
  oldest->fd_.reset();
}

void FileWindows::Detach(Window& window) {
  window.file->windows_.erase(window.part);
  window.file = nullptr;
}

base::Result<uint32_t> FileWindows::NewWindow() {
  if (fresh_.empty() && idle_.size() < kMaxIdleWindows) {
    auto slot = machine_.AddSlot();
    if (slot.ok()) {
      if (windows_.empty()) first_ = slot->physical;
      for (uint64_t at = 0; at < Machine::kSlotBytes; at += kWindowBytes) {
        Window window;
        window.host = slot->host + at;
        window.physical = slot->physical + at;
        windows_.push_back(window);
      }
      // In order of their addresses, so that neighbouring parts become one mapping of the host.
      for (uint64_t i = 1; i <= Machine::kSlotBytes / kWindowBytes; ++i) {
        fresh_.push_back(static_cast<uint32_t>(windows_.size() - i));
      }
    } else if (idle_.empty()) {
      return slot.error();
    }
  }
  if (!fresh_.empty()) {
    const uint32_t index = fresh_.back();
    fresh_.pop_back();
    return index;
  }
  const uint32_t index = idle_.front();
  idle_.pop_front();
  Detach(windows_[index]);
  return index;
}

base::Result<void> FileWindows::MapWindow(Window& window, bool write) {
  MappedFile& file = *window.file;
  if (write && !file.writable_) return base::Errno(EACCES);
  const int prot = PROT_READ | (file.writable_ ? PROT_WRITE : 0);
  TRY(base::Host(SYS_mmap, window.host, kWindowBytes, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, file.fd_.get(),
                 window.part * kWindowBytes));
  window.writable = file.writable_;
  return {};
}

base::Result<Physical> FileWindows::Take(MappedFile& file, uint64_t offset, bool write, uint32_t references) {
  const uint64_t part = offset / kWindowBytes;
  base::MutexLock lock(mu_);
  uint32_t index;
  auto it = file.windows_.find(part);
  if (it != file.windows_.end()) {
    index = it->second;
    Window& window = windows_[index];
    if (write && !window.writable) TRY(MapWindow(window, true));
    if (window.references == 0) idle_.erase(window.idle);
  } else {
    index = TRY(NewWindow());
    Window& window = windows_[index];
    window.file = &file;
    window.part = part;
    auto mapped = MapWindow(window, write);
    if (!mapped.ok()) {
      window.file = nullptr;
      fresh_.push_back(index);
      return mapped.error();
    }
    file.windows_.emplace(part, index);
  }
  Window& window = windows_[index];
  window.references += references;
  return window.physical + (offset & kWindowMask);
}

uint32_t FileWindows::IndexOf(Physical physical) const {
  CHECK(physical >= first_);
  const uint64_t index = (physical - first_) / kWindowBytes;
  CHECK(index < windows_.size());
  return static_cast<uint32_t>(index);
}

void FileWindows::Drop(Physical physical, uint32_t references) {
  base::MutexLock lock(mu_);
  const uint32_t index = IndexOf(physical);
  Window& window = windows_[index];
  CHECK(window.references >= references);
  window.references -= references;
  if (window.references == 0 && references != 0) window.idle = idle_.insert(idle_.end(), index);
}

base::Result<void> FileWindows::MakeWritable(Physical physical) {
  base::MutexLock lock(mu_);
  Window& window = windows_[IndexOf(physical)];
  if (window.writable) return {};
  return MapWindow(window, true);
}

std::byte* FileWindows::Host(Physical physical) {
  base::MutexLock lock(mu_);
  const Window& window = windows_[IndexOf(physical)];
  return window.host + (physical & kWindowMask);
}

}  // namespace platform::kvm
