// pidfd_open(2): a process as a descriptor. (kernel/pid.c, kernel/fork.c)
#ifndef SENTRY_FS_ANON_PIDFD_H_
#define SENTRY_FS_ANON_PIDFD_H_

#include "sentry/kernel/thread_group.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

class PidFd final : public FileDescription {
 public:
  // `flags`: O_NONBLOCK (PIDFD_NONBLOCK).
  PidFd(RefPtr<ThreadGroup> target, uint32_t flags);
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EINVAL); }
  // Readable when the process has ended.
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return &target_->exit_events; }
  std::string FdInfo() override;
  const RefPtr<ThreadGroup>& target() const { return target_; }

 private:
  RefPtr<ThreadGroup> target_;
};

Result<RefPtr<FileDescription>> NewPidFd(Kernel& kernel, RefPtr<ThreadGroup> target, uint32_t flags);
// EBADF for what is no pidfd, as pidfd_send_signal has it.
Result<RefPtr<ThreadGroup>> PidFdTarget(FileDescription& file);

}  // namespace sentry

#endif  // SENTRY_FS_ANON_PIDFD_H_
