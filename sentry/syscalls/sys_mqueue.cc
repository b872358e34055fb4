#include "sentry/syscalls/sys_mqueue.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>

#include <optional>

#include "base/time.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

Result<std::string> ReadName(Task& task, UserPtr<char> name) {
  return task.mm().ReadString(name.addr, PATH_MAX, ENAMETOOLONG);
}

Result<RefPtr<MqueueFile>> GetQueue(Task& task, FdArg fd) {
  RefPtr<FileDescription> file = TRY(task.GetFile(Fd(fd)));
  auto* queue = dynamic_cast<MqueueFile*>(file.get());
  if (queue == nullptr) return Errno(EBADF);
  return RefPtr<MqueueFile>(queue);
}

// A time of CLOCK_REALTIME as the host's monotonic one.
Result<base::MonotonicNs> Deadline(Task& task, UserPtr<abi::Timespec> timeout) {
  if (!timeout) return base::kNever;
  const abi::Timespec t = TRY(task.mm().Read(timeout));
  if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
  constexpr int64_t kMaxSeconds = INT64_MAX / 1'000'000'000 - 1;
  const int64_t ns = std::min<int64_t>(t.tv_sec, kMaxSeconds) * 1'000'000'000 + t.tv_nsec;
  return task.kernel().time().HostDeadline(kClockRealtime, ns);
}

// Like Task::RetryUntilReady, but a deadline that has passed is ETIMEDOUT.
template <typename F>
auto Retry(Task& task, MqueueFile& file, base::EventMask mask, base::MonotonicNs deadline, F&& operation)
    -> decltype(operation()) {
  auto result = operation();
  if (file.nonblocking() || !result.failed_with(EAGAIN)) return result;
  base::WaitEntry entry(mask);
  base::ScopedWait wait(*file.wait_queue(), entry);
  for (;;) {
    result = operation();
    if (!result.failed_with(EAGAIN)) return result;
    const Task::Wake wake = task.ParkInterruptible(deadline);
    if (wake == Task::Wake::kWoken) continue;
    result = operation();
    if (!result.failed_with(EAGAIN)) return result;
    return Errno(wake == Task::Wake::kTimedOut ? ETIMEDOUT : base::ERESTARTSYS_);
  }
}

}  // namespace

Result<Fd> SysMqOpen(Task& task, UserPtr<char> name, uint32_t flags, uint32_t mode, UserPtr<MqAttr> attr) {
  const std::string text = TRY(ReadName(task, name));
  std::optional<MqAttr> given;
  if ((flags & O_CREAT) && attr) given = TRY(task.mm().Read(attr));
  RefPtr<Mqueue> queue = TRY(task.ipc().mqueues().Open(task, text, flags, mode, given ? &*given : nullptr));
  auto file = TRY(base::TryMakeRef<MqueueFile>(std::move(queue), text, flags & (O_ACCMODE | O_NONBLOCK)));
  return task.InstallFile(std::move(file), /*cloexec=*/true);
}

Result<void> SysMqUnlink(Task& task, UserPtr<char> name) {
  return task.ipc().mqueues().Unlink(task, TRY(ReadName(task, name)));
}

Result<void> SysMqTimedsend(Task& task, FdArg fd, uint64_t message, uint64_t size, uint32_t priority,
                            UserPtr<abi::Timespec> timeout) {
  const base::MonotonicNs deadline = TRY(Deadline(task, timeout));
  if (priority >= Mqueue::kMaxPriority) return Errno(EINVAL);
  RefPtr<MqueueFile> file = TRY(GetQueue(task, fd));
  if (!file->writable()) return Errno(EBADF);
  if (size > static_cast<uint64_t>(file->queue().message_size())) return Errno(EMSGSIZE);
  std::vector<std::byte> data(size);
  if (size != 0 && TRY(task.mm().CopyIn(data, message)) != size) return Errno(EFAULT);
  Mqueue::Told told;
  TRY(Retry(task, *file, base::kEventOut, deadline,
            [&]() -> Result<void> { return file->queue().Send(data, priority, &told); }));
  if (told.process && told.info.si_signo != 0) {
    told.info.rt.pid = task.thread_group().pid();
    told.info.rt.uid = task.creds().ruid;
    (void)Task::SendGroupSignal(*told.process, told.info);
  }
  return {};
}

Result<uint64_t> SysMqTimedreceive(Task& task, FdArg fd, uint64_t message, uint64_t size, UserPtr<uint32_t> priority,
                                   UserPtr<abi::Timespec> timeout) {
  const base::MonotonicNs deadline = TRY(Deadline(task, timeout));
  RefPtr<MqueueFile> file = TRY(GetQueue(task, fd));
  if (!file->readable()) return Errno(EBADF);
  if (size < static_cast<uint64_t>(file->queue().message_size())) return Errno(EMSGSIZE);
  file->queue().AddReceiver(1);
  Result<Mqueue::Received> received =
      Retry(task, *file, base::kEventIn, deadline, [&] { return file->queue().Receive(); });
  file->queue().AddReceiver(-1);
  if (!received.ok()) return received.error();
  if (priority) TRY(task.mm().Write(priority, received->priority));
  const std::vector<std::byte>& data = received->message;
  if (!data.empty() && TRY(task.mm().CopyOut(message, data)) != data.size()) return Errno(EFAULT);
  return data.size();
}

Result<void> SysMqNotify(Task& task, FdArg fd, UserPtr<Sigevent> event) {
  SignalInfo info{};
  if (event) {
    const Sigevent e = TRY(task.mm().Read(event));
    switch (e.notify) {
      case SIGEV_NONE:
        break;
      case SIGEV_SIGNAL:
        if (e.signo < 1 || e.signo > kSignals) return Errno(EINVAL);
        info.si_signo = e.signo;
        info.si_code = kSiMesgq;
        info.rt.value = e.value;
        break;
      default:
        return Errno(EINVAL);  // SIGEV_THREAD comes with a netlink socket
    }
  }
  RefPtr<MqueueFile> file = TRY(GetQueue(task, fd));
  if (!event) {
    file->queue().ClearNotify(&task.thread_group());
    return {};
  }
  return file->queue().SetNotify(task.thread_group_ref(), info);
}

Result<void> SysMqGetsetattr(Task& task, FdArg fd, UserPtr<MqAttr> set, UserPtr<MqAttr> old) {
  std::optional<MqAttr> wanted;
  if (set) {
    wanted = TRY(task.mm().Read(set));
    if (wanted->flags & ~int64_t{O_NONBLOCK}) return Errno(EINVAL);
  }
  RefPtr<MqueueFile> file = TRY(GetQueue(task, fd));
  MqAttr attr{};
  attr.flags = file->flags() & O_NONBLOCK;
  attr.maxmsg = file->queue().max_messages();
  attr.msgsize = file->queue().message_size();
  attr.curmsgs = file->queue().count();
  if (wanted) {
    const uint32_t flags = file->flags() & ~uint32_t{O_NONBLOCK};
    TRY(file->SetStatusFlags(flags | static_cast<uint32_t>(wanted->flags)));
  }
  if (old) TRY(task.mm().Write(old, attr));
  return {};
}

}  // namespace sentry
