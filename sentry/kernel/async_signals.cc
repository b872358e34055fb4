#include "sentry/kernel/async_signals.h"

#include <fcntl.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

constexpr size_t kMaxQueued = 4096;  // beyond it events are merged, as if the queue of signals were full

// Who gets the signals of a file, and on whose behalf (struct fown_struct).
struct AsyncTarget final : public base::RefCounted {
  RefPtr<Task> thread;
  RefPtr<ThreadGroup> process;
  RefPtr<ProcessGroup> group;
  uint32_t uid = 0, euid = 0;

  // sigio_perm.
  bool MaySignal(const Task& task) const {
    CredentialsRef theirs = task.SnapshotCreds();
    return euid == 0 || euid == theirs->suid || euid == theirs->ruid || uid == theirs->suid || uid == theirs->ruid;
  }
};

void SendToGroupLocked(const AsyncTarget& target, ThreadGroup& tg, const SignalInfo& info) {
  if (tg.leader != nullptr && target.MaySignal(*tg.leader)) {
    if (!Task::SendGroupSignalLocked(tg, info).ok()) (void)Task::SendGroupSignalLocked(tg, KernelSignal(kSIGIO));
  }
}

int64_t BandOf(PollCode code) {
  switch (code) {
    case PollCode::kIn:
      return base::kEventIn | base::kEventRdNorm;
    case PollCode::kOut:
      return base::kEventOut | base::kEventWrNorm | base::kEventWrBand;
    case PollCode::kMessage:
      return base::kEventIn | base::kEventRdNorm | 0x400;  // POLLMSG
    case PollCode::kError:
      return base::kEventErr;
    case PollCode::kPriority:
      return base::kEventPri | base::kEventRdBand;
    case PollCode::kHangup:
      return base::kEventHup | base::kEventErr;
  }
  return 0;
}

// What is noticed of a file with an owner: with O_ASYNC everything, of sockets out-of-band data in any case.
void Watch(Kernel& kernel, FileDescription& file, bool async) {
  const bool urgent = file.inode()->type() == FileType::kSocket;
  if ((!async && !urgent) || file.wait_queue() == nullptr) {
    file.SetAsyncEntry(nullptr);
    return;
  }
  base::EventMask wanted = 0;
  if (async) wanted |= base::kEventErr | base::kEventHup | base::kEventRdHup;
  if (file.readable()) wanted |= base::kEventPri | (async ? base::kEventIn : 0);
  if (file.writable() && async) wanted |= base::kEventOut;
  AsyncSignals& signals = kernel.async_signals();
  // The entry goes before the file does, and files before the kernel.
  auto notice = [&signals, &file, wanted, urgent, async](base::EventMask events) {
    events &= wanted;
    if (urgent && (events & base::kEventPri)) signals.QueueUrgent(file);
    if (!async) return;
    if (events & base::kEventIn) {
      signals.Queue(file, PollCode::kIn);
    } else if (events & base::kEventPri) {
      signals.Queue(file, PollCode::kPriority);
    } else if (events & (base::kEventHup | base::kEventRdHup)) {
      signals.Queue(file, PollCode::kHangup);
    } else if (events & base::kEventOut) {
      signals.Queue(file, PollCode::kOut);
    } else if (events & base::kEventErr) {
      signals.Queue(file, PollCode::kError);
    }
  };
  file.SetAsyncEntry(std::make_unique<base::WaitEntry>(wanted, std::move(notice)));
}

}  // namespace

void AsyncSignals::Push(FileDescription& file, PollCode code, bool urgent) {
  Event event{};
  {
    base::MutexLock owner(file.owner_mu);
    if (!file.owner.target) return;
    event.target = file.owner.target;
    event.signal = urgent ? kSIGURG : file.owner.signal;
    if (urgent || event.signal == 0) {
      event.info = KernelSignal(urgent ? kSIGURG : kSIGIO);
    } else {
      event.info.si_signo = event.signal;
      event.info.si_code = static_cast<int>(code);
      event.info.poll.band = BandOf(code);
      event.info.poll.fd = file.owner.fd;
    }
  }
  bool first;
  {
    base::MutexLock lock(mu_);
    if (stopped_) return;
    if (events_.size() >= kMaxQueued) return;
    first = events_.empty();
    events_.push_back(std::move(event));
    pending_.store(true, std::memory_order_release);
  }
  // Who notices may be no system call, or one that goes on to wait.
  if (first) {
    kernel_.scheduler().executors().front()->Post([self = RefPtr<AsyncSignals>(this)] { self->Send(); });
  }
}

void AsyncSignals::Send() {
  std::deque<Event> events;
  {
    base::MutexLock lock(mu_);
    events.swap(events_);
    pending_.store(false, std::memory_order_release);
    if (stopped_) return;
  }
  if (events.empty()) return;
  base::MutexLock tree(kernel_.tasks().mu);
  for (const Event& event : events) {
    const AsyncTarget& target = static_cast<const AsyncTarget&>(*event.target);
    if (target.thread) {
      if (target.MaySignal(*target.thread) && !target.thread->SendSignalLocked(event.info).ok()) {
        (void)target.thread->SendSignalLocked(KernelSignal(kSIGIO));
      }
    } else if (target.process) {
      SendToGroupLocked(target, *target.process, event.info);
    } else if (target.group) {
      for (ThreadGroup* member : target.group->members) SendToGroupLocked(target, *member, event.info);
    }
  }
}

void AsyncSignals::Stop() {
  std::deque<Event> dropped;
  base::MutexLock lock(mu_);
  stopped_ = true;
  dropped.swap(events_);
}

Result<void> SetAsyncOwner(Task& task, FileDescription& file, int type, int id) {
  RefPtr<AsyncTarget> target;
  if (id != 0) {
    target = base::MakeRef<AsyncTarget>();
    target->uid = task.creds().ruid;
    target->euid = task.creds().euid;
    Kernel& kernel = task.kernel();
    switch (type) {
      case F_OWNER_TID:
        target->thread = kernel.FindTask(id, task.pid_namespace());
        break;
      case F_OWNER_PID:
        target->process = kernel.FindThreadGroup(id, task.pid_namespace());
        break;
      default:
        target->group = kernel.FindProcessGroup(id, task.pid_namespace());
        break;
    }
    if (!target->thread && !target->process && !target->group) return Errno(ESRCH);
  }
  {
    RefPtr<base::RefCounted> old;  // dropped after the lock
    base::MutexLock lock(file.owner_mu);
    file.owner.type = type;
    file.owner.id = id;
    old = std::exchange(file.owner.target, std::move(target));
  }
  if (file.inode()->type() == FileType::kSocket) Watch(task.kernel(), file, (file.flags() & O_ASYNC) != 0);
  return {};
}

void SetAsync(Task& task, FileDescription& file, int fd, bool on) {
  if (!on) {
    Watch(task.kernel(), file, false);
    return;
  }
  bool unowned;
  {
    base::MutexLock lock(file.owner_mu);
    file.owner.fd = fd;
    unowned = !file.owner.target;
  }
  // Terminals belong to somebody at once (tty_fasync); others wait for F_SETOWN.
  if (unowned && file.inode()->type() == FileType::kCharDevice) {
    (void)SetAsyncOwner(task, file, F_OWNER_PID, task.thread_group().pid());
  }
  Watch(task.kernel(), file, true);
}

}  // namespace sentry
