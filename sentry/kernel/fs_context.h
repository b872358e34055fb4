// FsContext: root, working directory and umask of a process (Linux: fs_struct). Shared by CLONE_FS.
#ifndef SENTRY_KERNEL_FS_CONTEXT_H_
#define SENTRY_KERNEL_FS_CONTEXT_H_

#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/vfs/path.h"

namespace sentry {

class FsContext final : public base::RefCounted {
 public:
  FsContext(VfsPath root, VfsPath cwd, uint32_t umask) : root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask) {}
  VfsPath root() const {
    base::MutexLock l(mu_);
    return root_;
  }
  VfsPath cwd() const {
    base::MutexLock l(mu_);
    return cwd_;
  }
  uint32_t umask() const { return umask_.load(std::memory_order_relaxed); }
  uint32_t ExchangeUmask(uint32_t mask) { return umask_.exchange(mask & 0777, std::memory_order_relaxed); }
  void set_root(VfsPath p) {
    base::MutexLock l(mu_);
    std::swap(root_, p);
  }
  void set_cwd(VfsPath p) {
    base::MutexLock l(mu_);
    std::swap(cwd_, p);
  }
  base::RefPtr<FsContext> Fork() const {
    base::MutexLock l(mu_);
    return base::MakeRef<FsContext>(root_, cwd_, umask());
  }

 private:
  mutable base::Mutex mu_;
  VfsPath root_ GUARDED_BY(mu_);
  VfsPath cwd_ GUARDED_BY(mu_);
  std::atomic<uint32_t> umask_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_FS_CONTEXT_H_
