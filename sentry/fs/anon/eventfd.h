// eventfd(2): a counter. (fs/eventfd.c)
#ifndef SENTRY_FS_ANON_EVENTFD_H_
#define SENTRY_FS_ANON_EVENTFD_H_

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class EventFd final : public FileDescription {
 public:
  // `flags`: O_NONBLOCK. `semaphore`: a read takes 1.
  EventFd(uint32_t initial, bool semaphore, uint32_t flags);

  Result<size_t> Read(IoBuffer& to, const IoFlags& flags) override;
  Result<size_t> Write(IoBuffer& from, const IoFlags& flags) override;
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(ESPIPE); }
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return &queue_; }
  std::string FdInfo() override;

  // From inside the sentry (a completion that signals an eventfd): adds, up to the maximum. Any thread.
  void Signal(uint64_t amount);

 private:
  static constexpr uint64_t kMax = UINT64_MAX - 1;
  const bool semaphore_;
  base::Mutex mu_;
  uint64_t count_ GUARDED_BY(mu_);
  base::WaitQueue queue_;
};

}  // namespace sentry

#endif  // SENTRY_FS_ANON_EVENTFD_H_
