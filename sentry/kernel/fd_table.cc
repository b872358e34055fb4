#include "sentry/kernel/fd_table.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

namespace sentry {

Result<RefPtr<FileDescription>> FdTable::Get(Fd fd, bool allow_path) const {
  base::MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size() || !entries_[fd].file) return Errno(EBADF);
  if (!allow_path && entries_[fd].file->path_only()) return Errno(EBADF);
  return entries_[fd].file;
}

Fd FdTable::FindFreeLocked(Fd min) {
  Fd fd = std::max(min, lowest_free_);
  while (static_cast<size_t>(fd) < entries_.size() && !entries_[fd].free()) ++fd;
  return fd;
}

Result<void> FdTable::GrowLocked(Fd fd) {
  const auto needed = static_cast<size_t>(fd) + 1;
  if (needed <= entries_.size()) return {};
  if (needed > entries_.capacity()) TRY(base::ChargedMemory::Admit());
  entries_.resize(needed);
  return {};
}

Result<Fd> FdTable::TakeLocked(Fd min, uint64_t limit) {
  Fd fd = FindFreeLocked(min);
  if (static_cast<uint64_t>(fd) >= limit) return Errno(EMFILE);
  TRY(GrowLocked(fd));
  if (min <= lowest_free_) lowest_free_ = fd + 1;
  return fd;
}

Result<Fd> FdTable::Install(RefPtr<FileDescription> file, bool cloexec, uint64_t limit, Fd min) {
  base::MutexLock l(mu_);
  if (min < 0 || static_cast<uint64_t>(min) >= limit) return Errno(EINVAL);
  Fd fd = TRY(TakeLocked(min, limit));
  entries_[fd] = {std::move(file), cloexec};
  return fd;
}

Result<FdReservation> FdTable::Reserve(uint64_t limit) {
  base::MutexLock l(mu_);
  Fd fd = TRY(TakeLocked(0, limit));
  entries_[fd].reserved = true;
  return FdReservation(RefPtr<FdTable>(this), fd);
}

Fd FdReservation::Install(RefPtr<FileDescription> file, bool cloexec) && {
  RefPtr<FdTable> table = std::move(table_);
  base::MutexLock l(table->mu_);
  table->entries_[fd_] = {std::move(file), cloexec};
  return fd_;
}

FdReservation::~FdReservation() {
  if (!table_) return;
  base::MutexLock l(table_->mu_);
  table_->entries_[fd_].reserved = false;
  table_->lowest_free_ = std::min(table_->lowest_free_, fd_);
}

Result<void> FdTable::InstallPair(RefPtr<FileDescription> a, RefPtr<FileDescription> b, bool cloexec, uint64_t limit,
                                  Fd out[2]) {
  out[0] = TRY(Install(std::move(a), cloexec, limit));
  Result<Fd> second = Install(std::move(b), cloexec, limit);
  if (!second.ok()) {
    (void)Remove(out[0]);
    return second.error();
  }
  out[1] = *second;
  return {};
}

Result<RefPtr<FileDescription>> FdTable::InstallAt(Fd fd, RefPtr<FileDescription> file, bool cloexec, uint64_t limit) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= limit) return Errno(EBADF);
  base::MutexLock l(mu_);
  TRY(GrowLocked(fd));
  if (entries_[fd].reserved) return Errno(EBUSY);
  RefPtr<FileDescription> old = std::move(entries_[fd].file);
  entries_[fd] = {std::move(file), cloexec};
  return old;
}

Result<RefPtr<FileDescription>> FdTable::Remove(Fd fd) {
  base::MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size() || !entries_[fd].file) return Errno(EBADF);
  RefPtr<FileDescription> file = std::move(entries_[fd].file);
  lowest_free_ = std::min(lowest_free_, fd);
  return file;
}

std::vector<RefPtr<FileDescription>> FdTable::RemoveRange(uint32_t first, uint32_t last) {
  std::vector<RefPtr<FileDescription>> removed;
  base::MutexLock l(mu_);
  for (size_t i = first; i < entries_.size() && i <= last; ++i) {
    if (!entries_[i].file) continue;
    removed.push_back(std::move(entries_[i].file));
    lowest_free_ = std::min(lowest_free_, static_cast<Fd>(i));
  }
  return removed;
}

std::vector<RefPtr<FileDescription>> FdTable::RemoveCloexec() {
  std::vector<RefPtr<FileDescription>> removed;
  base::MutexLock l(mu_);
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].file || !entries_[i].cloexec) continue;
    removed.push_back(std::move(entries_[i].file));
    lowest_free_ = std::min(lowest_free_, static_cast<Fd>(i));
  }
  return removed;
}

std::vector<RefPtr<FileDescription>> FdTable::RemoveAll() { return RemoveRange(0, UINT32_MAX); }

Result<bool> FdTable::CloseOnExec(Fd fd) const {
  base::MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size() || !entries_[fd].file) return Errno(EBADF);
  return bool{entries_[fd].cloexec};
}

Result<void> FdTable::SetCloseOnExec(Fd fd, bool on) {
  base::MutexLock l(mu_);
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size() || !entries_[fd].file) return Errno(EBADF);
  entries_[fd].cloexec = on;
  return {};
}

void FdTable::SetCloexecRange(uint32_t first, uint32_t last) {
  base::MutexLock l(mu_);
  for (size_t i = first; i < entries_.size() && i <= last; ++i) entries_[i].cloexec = true;
}

RefPtr<FdTable> FdTable::Fork() const {
  RefPtr<FdTable> copy = base::MakeRef<FdTable>();
  base::MutexLock l(mu_);
  base::MutexLock l2(copy->mu_);
  copy->entries_ = entries_;
  copy->lowest_free_ = lowest_free_;
  // What another thread has reserved is free in the copy.
  for (size_t i = 0; i < copy->entries_.size(); ++i) {
    if (!std::exchange(copy->entries_[i].reserved, false)) continue;
    copy->lowest_free_ = std::min(copy->lowest_free_, static_cast<Fd>(i));
  }
  return copy;
}

std::vector<Fd> FdTable::List() const {
  std::vector<Fd> fds;
  base::MutexLock l(mu_);
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].file) fds.push_back(static_cast<Fd>(i));
  }
  return fds;
}

int FdTable::count() const { return static_cast<int>(List().size()); }

}  // namespace sentry
