// SECCOMP_RET_USER_NOTIF: system calls that another process decides about. (kernel/seccomp.c, man 2 seccomp_unotify)
#ifndef SENTRY_KERNEL_SECCOMP_NOTIFY_H_
#define SENTRY_KERNEL_SECCOMP_NOTIFY_H_

#include <linux/seccomp.h>

#include <list>
#include <optional>

#include "base/mutex.h"
#include "base/wait_queue.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/vfs/file_description.h"

// Younger than Debian 12's headers.
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

namespace sentry {

class Task;

// The calls that wait for an answer, and the listener that gives it. Shared by a filter and its listener.
class SeccompNotifier final : public base::RefCounted {
 public:
  // `wait_killable`: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV.
  explicit SeccompNotifier(bool wait_killable) : wait_killable_(wait_killable) {}

  // Asks the listener about a call of the running task and waits for the answer. Nothing: serve the call after all.
  // ENOSYS without a listener; ERESTARTSYS_ when a signal came.
  std::optional<Result<int64_t>> Ask(Task& task, const seccomp_data& data);

  // The listener's side. ENOENT: no such question (any more).
  Result<void> Receive(Task& reader, UserMemory& memory, UserPtr<seccomp_notif> out, const SeccompFilter& filter);
  Result<void> Reply(const seccomp_notif_resp& response);
  Result<void> CheckId(uint64_t id);
  // Gives the asking task a descriptor, and with SECCOMP_ADDFD_FLAG_SEND answers its call with the number.
  Result<int64_t> AddFd(Task& supervisor, const seccomp_notif_addfd& request, VfsContext& ctx);
  base::EventMask Readiness();
  base::WaitQueue& events() { return events_; }
  void NotifyUnused() { events_.Notify(base::kEventHup); }
  // The listener is gone: who waits, and who comes, gets ENOSYS.
  void Detach();

 private:
  enum class State { kNew, kReceived, kAnswered };
  struct Question {  // on the asking task's stack; in the list until that task has taken it out
    uint64_t id;
    Task* task;
    seccomp_data data;
    State state = State::kNew;
    int64_t value = 0;
    int32_t error = 0;  // negative, as the listener gave it
    uint32_t flags = 0;
    base::WaitQueue changed;
  };
  Question* FindLocked(uint64_t id) REQUIRES(lock_);

  const bool wait_killable_;
  mutable base::Mutex lock_;  // before Task::mu_ and FdTable::mu_; the queues are notified without it
  std::list<Question*> questions_ GUARDED_BY(lock_);
  uint64_t next_id_ GUARDED_BY(lock_) = 0;
  bool detached_ GUARDED_BY(lock_) = false;
  base::WaitQueue events_;
};

// The descriptor that SECCOMP_FILTER_FLAG_NEW_LISTENER returns.
class SeccompListener final : public FileDescription {
 public:
  explicit SeccompListener(RefPtr<SeccompFilter> filter);
  ~SeccompListener() override;
  Result<size_t> PRead(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EINVAL); }
  Result<size_t> PWrite(IoBuffer&, int64_t, const IoFlags&) override { return Errno(EINVAL); }
  Result<int64_t> Ioctl(const IoctlArgs& args) override;
  base::EventMask Readiness() override;
  base::WaitQueue* wait_queue() override { return &filter_->notifier()->events(); }

 private:
  const RefPtr<SeccompFilter> filter_;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_SECCOMP_NOTIFY_H_
