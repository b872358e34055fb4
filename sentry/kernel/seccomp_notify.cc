#include "sentry/kernel/seccomp_notify.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;
constexpr base::EventMask kWritable = base::kEventOut | base::kEventWrNorm;

}  // namespace

SeccompNotifier::Question* SeccompNotifier::FindLocked(uint64_t id) {
  auto it = std::find_if(questions_.begin(), questions_.end(), [&](Question* q) { return q->id == id; });
  return it == questions_.end() ? nullptr : *it;
}

std::optional<Result<int64_t>> SeccompNotifier::Ask(Task& task, const seccomp_data& data) {
  Question question{.id = 0, .task = &task, .data = data};
  uint64_t first_id = 0;
  task.kernel().GetRandom(std::as_writable_bytes(std::span(&first_id, 1)));
  {
    base::MutexLock lock(lock_);
    if (detached_) return Result<int64_t>(Errno(ENOSYS));
    // A start that nobody can guess, so that nobody comes to rely on small numbers.
    if (next_id_ == 0) next_id_ = first_id | 1;
    question.id = next_id_++;
    questions_.push_back(&question);
  }
  events_.Notify(kReadable);
  {
    base::WaitEntry entry(base::kEventAll);
    base::ScopedWait wait(question.changed, entry);
    for (;;) {
      bool only_killable;
      {
        base::MutexLock lock(lock_);
        if (question.state == State::kAnswered) break;
        only_killable = wait_killable_ && question.state == State::kReceived;
      }
      if (only_killable) {
        if (task.KillPending()) break;
        base::Fiber::Park();
      } else if (task.ParkInterruptible(base::kNever) == Task::Wake::kInterrupted) {
        base::MutexLock lock(lock_);
        if (!(wait_killable_ && question.state == State::kReceived)) break;
      }
    }
  }
  base::MutexLock lock(lock_);
  questions_.remove(&question);
  if (question.state != State::kAnswered) return Result<int64_t>(Errno(base::ERESTARTSYS_));
  if (question.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE) return std::nullopt;
  // The listener's word goes into the register as it is: whatever it says, no restart follows from it.
  return Result<int64_t>(question.error != 0 ? int64_t{question.error} : question.value);
}

Result<void> SeccompNotifier::Receive(Task& reader, UserMemory& memory, UserPtr<seccomp_notif> out,
                                      const SeccompFilter& filter) {
  // The buffer has to be zeroed, for what later versions may ask with it.
  const seccomp_notif given = TRY(memory.Read(out));
  const auto bytes = std::as_bytes(std::span(&given, 1));
  if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) return Errno(EINVAL);

  seccomp_notif notification{};
  RefPtr<Task> asker;
  auto take = [&]() -> bool {
    base::MutexLock lock(lock_);
    for (Question* q : questions_) {
      if (q->state != State::kNew) continue;
      q->state = State::kReceived;
      notification.id = q->id;
      notification.data = q->data;
      asker = RefPtr<Task>(q->task);
      q->changed.Notify(base::kEventIn);  // it may have to wait differently now
      return true;
    }
    return !filter.in_use();
  };
  TRY(reader.BlockUntil(events_, kReadable | base::kEventHup, take));
  if (!asker) return Errno(ENOENT);
  notification.pid = static_cast<uint32_t>(asker->OwnTidIn(reader.pid_namespace()));
  Result<void> written = memory.Write(out, notification);
  if (!written.ok()) {
    base::MutexLock lock(lock_);
    if (Question* q = FindLocked(notification.id); q != nullptr && q->state == State::kReceived) q->state = State::kNew;
  }
  events_.Notify(written.ok() ? kWritable : kReadable);
  return written;
}

Result<void> SeccompNotifier::Reply(const seccomp_notif_resp& response) {
  if (response.flags & ~uint32_t{SECCOMP_USER_NOTIF_FLAG_CONTINUE}) return Errno(EINVAL);
  if ((response.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE) && (response.error != 0 || response.val != 0)) {
    return Errno(EINVAL);
  }
  base::MutexLock lock(lock_);
  Question* q = FindLocked(response.id);
  if (q == nullptr) return Errno(ENOENT);
  if (q->state != State::kReceived) return Errno(EINPROGRESS);
  q->state = State::kAnswered;
  q->error = response.error;
  q->value = response.val;
  q->flags = response.flags;
  q->changed.Notify(base::kEventIn);
  return {};
}

Result<void> SeccompNotifier::CheckId(uint64_t id) {
  base::MutexLock lock(lock_);
  Question* q = FindLocked(id);
  return q != nullptr && q->state == State::kReceived ? Result<void>() : Errno(ENOENT);
}

Result<int64_t> SeccompNotifier::AddFd(Task& supervisor, const seccomp_notif_addfd& request, VfsContext& ctx) {
  if (request.newfd_flags & ~uint32_t{O_CLOEXEC}) return Errno(EINVAL);
  if (request.flags & ~uint32_t{SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND}) return Errno(EINVAL);
  if (request.newfd != 0 && !(request.flags & SECCOMP_ADDFD_FLAG_SETFD)) return Errno(EINVAL);
  RefPtr<FileDescription> file = TRY(supervisor.fds().Get(static_cast<Fd>(request.srcfd)));
  const bool cloexec = request.newfd_flags & O_CLOEXEC;
  RefPtr<FdTable> table;             // dropped after the lock
  RefPtr<FileDescription> replaced;  // likewise
  Result<int64_t> fd = [&]() -> Result<int64_t> {
    base::MutexLock lock(lock_);
    Question* q = FindLocked(request.id);
    if (q == nullptr) return Errno(ENOENT);
    if (q->state != State::kReceived) return Errno(EINPROGRESS);
    // The asking task cannot go on while the lock is held: this is as if it had taken the descriptor itself.
    table = q->task->SnapshotFds();
    if (!table) return Errno(ESRCH);
    const uint64_t limit = q->task->thread_group().Limit(RLIMIT_NOFILE);
    int64_t number;
    if (request.flags & SECCOMP_ADDFD_FLAG_SETFD) {
      number = static_cast<Fd>(request.newfd);
      replaced = TRY(table->InstallAt(static_cast<Fd>(request.newfd), std::move(file), cloexec, limit));
    } else {
      number = TRY(table->Install(std::move(file), cloexec, limit));
    }
    if (request.flags & SECCOMP_ADDFD_FLAG_SEND) {
      q->state = State::kAnswered;
      q->value = number;
      q->changed.Notify(base::kEventIn);
    }
    return number;
  }();
  if (replaced) {
    VfsContext theirs = ctx;
    theirs.lock_owner = table.get();
    replaced->OnDescriptorClosed(theirs);
  }
  return fd;
}

base::EventMask SeccompNotifier::Readiness() {
  base::MutexLock lock(lock_);
  base::EventMask events = 0;
  for (const Question* q : questions_) {
    if (q->state == State::kNew) events |= kReadable;
    if (q->state == State::kReceived) events |= kWritable;
  }
  return events;
}

void SeccompNotifier::Detach() {
  base::MutexLock lock(lock_);
  detached_ = true;
  for (Question* q : questions_) {
    if (q->state == State::kAnswered) continue;
    q->state = State::kAnswered;
    q->error = -ENOSYS;
    q->value = 0;
    q->flags = 0;
    q->changed.Notify(base::kEventIn);
  }
}

// --- The listener.

SeccompListener::SeccompListener(RefPtr<SeccompFilter> filter)
    : FileDescription(NewAnonymousPath("anon_inode:seccomp notify", 0600), O_RDWR), filter_(std::move(filter)) {}

SeccompListener::~SeccompListener() { filter_->notifier()->Detach(); }

base::EventMask SeccompListener::Readiness() {
  base::EventMask events = filter_->notifier()->Readiness();
  if (!filter_->in_use()) events |= base::kEventHup;
  return events;
}

Result<int64_t> SeccompListener::Ioctl(const IoctlArgs& args) {
  SeccompNotifier& notifier = *filter_->notifier();
  Task* task = Task::Current();
  if (task == nullptr) return Errno(ENOTTY);
  switch (args.command) {
    case static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_RECV):
      TRY(notifier.Receive(*task, args.memory, UserPtr<seccomp_notif>{args.argument}, *filter_));
      return 0;
    case static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_SEND):
      TRY(notifier.Reply(TRY(args.memory.Read(UserPtr<seccomp_notif_resp>{args.argument}))));
      return 0;
    case static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_ID_VALID):
    case static_cast<uint32_t>(SECCOMP_IOR(2, __u64)):  // as first released, with the wrong direction
      TRY(notifier.CheckId(TRY(args.memory.Read(UserPtr<uint64_t>{args.argument}))));
      return 0;
    case static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_SET_FLAGS):
      if (args.argument & ~uint64_t{SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP}) return Errno(EINVAL);
      return 0;  // a hint for the scheduler
    default:
      break;
  }
  // ADDFD's structure may grow (copy_struct_from_user): what is beyond what we know has to be zero.
  constexpr uint32_t kSizeMask = _IOC_SIZEMASK << _IOC_SIZESHIFT;
  if ((args.command & ~kSizeMask) != (static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_ADDFD) & ~kSizeMask)) {
    return Errno(EINVAL);
  }
  const size_t size = _IOC_SIZE(args.command);
  if (size < sizeof(seccomp_notif_addfd) || size >= kPageSize) return Errno(EINVAL);
  std::vector<std::byte> bytes(size);
  if (TRY(args.memory.CopyIn(bytes, args.argument)) != size) return Errno(EFAULT);
  seccomp_notif_addfd request;
  memcpy(&request, bytes.data(), sizeof(request));
  if (std::any_of(bytes.begin() + sizeof(request), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) {
    return Errno(E2BIG);
  }
  return notifier.AddFd(*task, request, args.ctx);
}

}  // namespace sentry
