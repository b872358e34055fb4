#include "sentry/fs/anon/pidfd.h"

#include <fcntl.h>

#include "sentry/kernel/kernel.h"

namespace sentry {

PidFd::PidFd(RefPtr<ThreadGroup> target, uint32_t flags)
    : FileDescription(NewAnonymousPath("anon_inode:[pidfd]", 0600), O_RDWR | flags), target_(std::move(target)) {}

base::EventMask PidFd::Readiness() {
  base::MutexLock lock(target_->kernel().tasks().mu);
  return target_->zombie ? base::kEventIn | base::kEventRdNorm : 0;
}

std::string PidFd::FdInfo() {
  int pid = target_->pid();
  if (Task* reader = Task::Current()) {
    base::MutexLock lock(target_->kernel().tasks().mu);
    pid = target_->PidIn(reader->pid_namespace());
  }
  return "Pid:\t" + std::to_string(pid) + "\nNSpid:\t" + std::to_string(pid) + "\n";
}

Result<RefPtr<FileDescription>> NewPidFd(Kernel&, RefPtr<ThreadGroup> target, uint32_t flags) {
  return RefPtr<FileDescription>(TRY(base::TryMakeRef<PidFd>(std::move(target), flags & O_NONBLOCK)));
}

Result<RefPtr<ThreadGroup>> PidFdTarget(FileDescription& file) {
  auto* pidfd = dynamic_cast<PidFd*>(&file);
  if (pidfd == nullptr) return Errno(EBADF);
  return pidfd->target();
}

}  // namespace sentry
