#include "platform/systrap/slot_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/syscall_unsafe.h"

namespace platform::systrap {

base::Result<std::unique_ptr<SlotFile>> SlotFile::Create() {
  std::unique_ptr<SlotFile> file(new SlotFile());
  file->fd_ = base::UniqueFd(static_cast<int>(TRY(base::Host(SYS_memfd_create, "runsc-slots", MFD_CLOEXEC))));
  TRY(base::Host(SYS_ftruncate, file->fd(), kBytes));
  long at =
      TRY(base::Host(SYS_mmap, nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd(), 0));
  file->base_ = reinterpret_cast<std::byte*>(at);
  return file;
}

SlotFile::~SlotFile() {
  if (base_) (void)base::Host(SYS_munmap, base_, kBytes);
}

base::Result<uint32_t> SlotFile::Take() {
  base::MutexLock lock(mu_);
  if (!free_.empty()) {
    uint32_t area = free_.back();
    free_.pop_back();
    return area;
  }
  if (used_ == kAreas) return base::Errno(ENOMEM);
  return used_++;
}

void SlotFile::Give(uint32_t area) {
  (void)base::Host(SYS_fallocate, fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, Offset(area), kAreaBytes);
  base::MutexLock lock(mu_);
  free_.push_back(area);
}

}  // namespace platform::systrap
