#include "sentry/syscalls/sys_epoll.h"

#include <sys/epoll.h>

#include "base/time.h"
#include "sentry/fs/anon/epoll.h"
#include "sentry/syscalls/file_io.h"
#include "sentry/syscalls/sys_poll.h"
#include "sentry/time/conversions.h"

namespace sentry {
namespace {

struct EpollRef {
  RefPtr<FileDescription> file;
  EpollFile* epoll;
};

Result<EpollRef> GetEpoll(Task& task, FdArg fd) {
  auto file = TRY(task.GetFile(Fd(fd)));
  auto* epoll = dynamic_cast<EpollFile*>(file.get());
  if (epoll == nullptr) return Errno(EINVAL);
  return EpollRef{std::move(file), epoll};
}

// ep_poll(). `deadline` 0: does not wait.
Result<size_t> Wait(Task& task, FdArg fd, UserPtr<abi::EpollEvent> events, int32_t max_events,
                    base::MonotonicNs deadline) {
  if (max_events <= 0 || static_cast<size_t>(max_events) > EpollFile::kMaxEvents) return Errno(EINVAL);
  if (!AccessOk(events.addr, static_cast<size_t>(max_events) * sizeof(abi::EpollEvent))) return Errno(EFAULT);
  EpollRef ref = TRY(GetEpoll(task, fd));
  EpollFile& epoll = *ref.epoll;
  auto deliver = [&](std::span<const abi::EpollEvent> ready) -> size_t {
    auto copied = task.mm().CopyOut(events.addr, std::as_bytes(ready));
    return copied.ok() ? *copied / sizeof(abi::EpollEvent) : 0;
  };
  for (;;) {
    size_t n = epoll.MaybeReady() ? TRY(epoll.Collect(static_cast<size_t>(max_events), deliver)) : 0;
    if (n != 0 || deadline == 0) return n;
    // One event wakes one of those that wait; who has been woken and leaves something wakes the next (Collect).
    base::WaitEntry entry(kReadEvents);
    entry.set_exclusive();
    base::ScopedWait wait(*epoll.wait_queue(), entry);
    while (!epoll.MaybeReady()) {
      Task::Wake wake = task.ParkInterruptible(deadline);
      if (epoll.MaybeReady()) break;
      if (wake == Task::Wake::kInterrupted) return Errno(EINTR);
      if (wake == Task::Wake::kTimedOut) return 0;
    }
  }
}

base::MonotonicNs DeadlineAfter(int64_t ns) {
  if (ns == 0) return 0;
  return ns == kMaxNs ? base::kNever : AddSaturated(base::MonotonicNow(), ns);
}

int64_t FromMilliseconds(int32_t ms) { return ms < 0 ? kMaxNs : int64_t{ms} * 1'000'000; }

}  // namespace

Result<Fd> SysEpollCreate(Task& task, int32_t size) {
  if (size <= 0) return Errno(EINVAL);
  return SysEpollCreate1(task, 0);
}

Result<Fd> SysEpollCreate1(Task& task, uint32_t flags) {
  if ((flags & ~uint32_t{EPOLL_CLOEXEC}) != 0) return Errno(EINVAL);
  return task.InstallFile(TRY(base::TryMakeRef<EpollFile>()), (flags & EPOLL_CLOEXEC) != 0);
}

Result<void> SysEpollCtl(Task& task, FdArg epoll, int32_t operation, FdArg fd, UserPtr<abi::EpollEvent> event) {
  abi::EpollEvent value{};
  if (operation != EPOLL_CTL_DEL) value = TRY(task.mm().Read(event));
  auto epoll_file = TRY(task.GetFile(Fd(epoll)));
  auto file = TRY(task.GetFile(Fd(fd)));
  if (file->wait_queue() == nullptr) return Errno(EPERM);
  auto* set = dynamic_cast<EpollFile*>(epoll_file.get());
  if (set == nullptr) return Errno(EINVAL);
  switch (operation) {
    case EPOLL_CTL_ADD:
      return set->Add(Fd(fd), file, value);
    case EPOLL_CTL_MOD:
      return set->Modify(Fd(fd), *file, value);
    case EPOLL_CTL_DEL:
      return set->Delete(Fd(fd), *file);
    default:
      return Errno(EINVAL);
  }
}

Result<size_t> SysEpollWait(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                            int32_t timeout_ms) {
  return Wait(task, epoll, events, max_events, DeadlineAfter(FromMilliseconds(timeout_ms)));
}

Result<size_t> SysEpollPwait(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                             int32_t timeout_ms, UserPtr<uint64_t> mask, size_t mask_size) {
  TRY(SetMaskForCall(task, mask, mask_size));
  return Wait(task, epoll, events, max_events, DeadlineAfter(FromMilliseconds(timeout_ms)));
}

Result<size_t> SysEpollPwait2(Task& task, FdArg epoll, UserPtr<abi::EpollEvent> events, int32_t max_events,
                              UserPtr<abi::Timespec> timeout, UserPtr<uint64_t> mask, size_t mask_size) {
  int64_t ns = timeout ? TRY(ToNs(TRY(task.mm().Read(timeout)))) : kMaxNs;
  TRY(SetMaskForCall(task, mask, mask_size));
  return Wait(task, epoll, events, max_events, DeadlineAfter(ns));
}

}  // namespace sentry
