#include "sentry/fs/host/host_fifo.h"

#include <fcntl.h>

#include <algorithm>

#include "base/syscall_unsafe.h"
#include "sentry/fs/host/host_file.h"

namespace sentry {
namespace {

constexpr int64_t kFirstPauseNs = 1'000'000, kLongestPauseNs = 50'000'000;

class HostFifo final : public HostFile {
 public:
  HostFifo(VfsPath path, uint32_t flags, RefPtr<HostObject> object, std::optional<std::byte> first)
      : HostFile(std::move(path), flags, std::move(object)), first_(first) {}

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override {
    std::optional<std::byte> first;
    {
      base::MutexLock l(mu_);
      if (to.remaining() != 0) first.swap(first_);
    }
    if (!first) return HostFile::Read(to, flags);
    Result<size_t> copied = to.CopyOut(std::span<const std::byte>(&*first, 1));
    if (!copied.ok() || *copied == 0) {
      base::MutexLock l(mu_);
      first_ = first;
      return copied.ok() ? Errno(EFAULT) : copied.error();
    }
    Result<size_t> rest = HostFile::Read(to, flags);
    return 1 + (rest.ok() ? *rest : 0);
  }
  base::EventMask Readiness() override {
    base::EventMask events = HostFile::Readiness();
    base::MutexLock l(mu_);
    if (first_) events |= base::kEventIn | base::kEventRdNorm;
    return events;
  }
  // The guest's attributes of the file, not the host's of the descriptor.
  Result<Attr> GetAttr() override { return FileDescription::GetAttr(); }  // NOLINT(bugprone-parent-virtual-call)

 private:
  base::Mutex mu_;
  std::optional<std::byte> first_ GUARDED_BY(mu_);  // what was read while looking for a writer
};

// Interruptible, and longer each time.
Result<void> Pause(Blocker& blocker, int64_t& ns) {
  base::WaitQueue nobody;
  Result<void> waited = blocker.BlockUntil(
      nobody, 0, [] { return false; }, base::MonotonicNow() + ns);
  ns = std::min(ns * 2, kLongestPauseNs);
  if (waited.failed_with(ETIMEDOUT)) return {};
  return waited;
}

}  // namespace

Result<RefPtr<FileDescription>> OpenHostFifo(base::Reactor& reactor, const VfsPath& path, uint32_t flags,
                                             VfsContext& ctx) {
  Inode& inode = *path.dentry->inode_ptr();
  const uint32_t access = flags & O_ACCMODE;
  if (access == O_ACCMODE) return Errno(EINVAL);
  const bool wait = (flags & O_NONBLOCK) == 0 && ctx.blocker != nullptr;
  base::UniqueFd fd;
  for (int64_t pause = kFirstPauseNs;;) {
    Result<base::UniqueFd> opened = inode.OpenHostFifo(access | O_NONBLOCK);
    if (opened.ok()) {
      fd = std::move(*opened);
      break;
    }
    if (!wait || access != O_WRONLY || !opened.failed_with(ENXIO)) return opened.error();
    TRY(Pause(*ctx.blocker, pause));
  }
  auto object = TRY(HostObject::Create(reactor, std::move(fd), {.exclusive = true}));
  std::optional<std::byte> first;
  if (wait && access == O_RDONLY) {
    for (int64_t pause = kFirstPauseNs;;) {
      // Data, or a writer that has left again: there was one.
      if (object->Poll(base::kEventIn) & (base::kEventIn | base::kEventHup)) break;
      // A silent one: only reading tells it from none at all.
      std::byte byte;
      Result<long> n = base::HostRetry(SYS_read, object->fd(), &byte, 1);
      if (n.failed_with(EAGAIN)) break;
      if (!n.ok()) return n.error();
      if (*n == 1) {
        first = byte;
        break;
      }
      TRY(Pause(*ctx.blocker, pause));
    }
  }
  return RefPtr<FileDescription>(base::MakeRef<HostFifo>(path, flags, std::move(object), first));
}

}  // namespace sentry
