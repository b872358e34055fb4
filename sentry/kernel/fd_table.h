// FdTable: the descriptors of a process (Linux: files_struct).
#ifndef SENTRY_KERNEL_FD_TABLE_H_
#define SENTRY_KERNEL_FD_TABLE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// A guest descriptor number as it came from a register.
using Fd = int32_t;

class FdTable;

// A number that nobody else gets, for a file that is still to be opened or made: so that EMFILE comes before there is
// anything to take back (get_unused_fd_flags). Gives the number back unless a file was installed.
class FdReservation {
 public:
  FdReservation(FdReservation&&) noexcept = default;
  FdReservation& operator=(FdReservation&&) = delete;
  ~FdReservation();
  Fd fd() const { return fd_; }
  Fd Install(RefPtr<FileDescription> file, bool cloexec) &&;

 private:
  friend class FdTable;
  FdReservation(RefPtr<FdTable> table, Fd fd) : table_(std::move(table)), fd_(fd) {}
  RefPtr<FdTable> table_;  // null: done
  Fd fd_;
};

class FdTable final : public base::RefCounted {
 public:
  FdTable() = default;
  // EBADF. `allow_path`: O_PATH descriptors too (fdget_raw).
  Result<RefPtr<FileDescription>> Get(Fd fd, bool allow_path = false) const EXCLUDES(mu_);
  // The lowest free number ≥ min. EMFILE at `limit` (RLIMIT_NOFILE), EINVAL if min ≥ limit; this
  // and all that may need more room: ENOMEM.
  Result<Fd> Install(RefPtr<FileDescription> file, bool cloexec, uint64_t limit, Fd min = 0) EXCLUDES(mu_);
  // The lowest free number, for later. EMFILE.
  Result<FdReservation> Reserve(uint64_t limit) EXCLUDES(mu_);
  // All or none (pipe, socketpair).
  Result<void> InstallPair(RefPtr<FileDescription> a, RefPtr<FileDescription> b, bool cloexec, uint64_t limit,
                           Fd out[2]) EXCLUDES(mu_);
  // dup2: what was there is returned, to be closed by the caller without the lock (see Close). EBUSY for a number that
  // is reserved, as on Linux.
  Result<RefPtr<FileDescription>> InstallAt(Fd fd, RefPtr<FileDescription> file, bool cloexec, uint64_t limit)
      EXCLUDES(mu_);
  // EBADF. The caller calls OnDescriptorClosed on what it gets.
  Result<RefPtr<FileDescription>> Remove(Fd fd) EXCLUDES(mu_);
  std::vector<RefPtr<FileDescription>> RemoveRange(uint32_t first, uint32_t last) EXCLUDES(mu_);
  std::vector<RefPtr<FileDescription>> RemoveCloexec() EXCLUDES(mu_);
  std::vector<RefPtr<FileDescription>> RemoveAll() EXCLUDES(mu_);
  Result<bool> CloseOnExec(Fd fd) const EXCLUDES(mu_);
  Result<void> SetCloseOnExec(Fd fd, bool on) EXCLUDES(mu_);
  void SetCloexecRange(uint32_t first, uint32_t last) EXCLUDES(mu_);
  RefPtr<FdTable> Fork() const EXCLUDES(mu_);
  std::vector<Fd> List() const EXCLUDES(mu_);
  int count() const EXCLUDES(mu_);
  // Processes (CLONE_FILES: several) that use it. The last one to go closes everything; /proc's references do not
  // count.
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  bool DropUser() { return users_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  bool shared() const { return users_.load(std::memory_order_acquire) > 1; }

 private:
  friend class FdReservation;
  struct Entry {
    RefPtr<FileDescription> file;
    bool cloexec = false;
    bool reserved = false;
    bool free() const { return !file && !reserved; }
  };
  Fd FindFreeLocked(Fd min) REQUIRES(mu_);
  Result<void> GrowLocked(Fd fd) REQUIRES(mu_);  // so that there is an entry for it; ENOMEM
  Result<Fd> TakeLocked(Fd min, uint64_t limit) REQUIRES(mu_);
  mutable base::Mutex mu_;
  std::vector<Entry, base::ChargedAllocator<Entry>> entries_ GUARDED_BY(mu_);
  std::atomic<int> users_{1};
  Fd lowest_free_ GUARDED_BY(mu_) = 0;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_FD_TABLE_H_
