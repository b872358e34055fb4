#include "sentry/fs/anon/signalfd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/signalfd.h>

namespace sentry {
namespace {

// signalfd_copyinfo(): which fields mean something follows from the code and the signal.
signalfd_siginfo ToSignalfdInfo(const SignalInfo& info) {
  signalfd_siginfo out{};
  out.ssi_signo = static_cast<uint32_t>(info.si_signo);
  out.ssi_errno = info.si_errno;
  out.ssi_code = info.si_code;
  if (info.si_code == kSiTimer) {
    out.ssi_tid = static_cast<uint32_t>(info.timer.tid);
    out.ssi_overrun = static_cast<uint32_t>(info.timer.overrun);
    out.ssi_ptr = info.timer.value;
    out.ssi_int = static_cast<int32_t>(info.timer.value);
    return out;
  }
  if (info.si_code > 0 && info.si_code != kSiKernel) {
    switch (info.si_signo) {
      case kSIGCHLD:
        out.ssi_pid = static_cast<uint32_t>(info.chld.pid);
        out.ssi_uid = info.chld.uid;
        out.ssi_status = info.chld.status;
        out.ssi_utime = static_cast<uint64_t>(info.chld.utime);
        out.ssi_stime = static_cast<uint64_t>(info.chld.stime);
        return out;
      case kSIGIO:
        out.ssi_band = static_cast<uint32_t>(info.poll.band);
        out.ssi_fd = info.poll.fd;
        return out;
      case kSIGILL:
      case kSIGFPE:
      case kSIGSEGV:
      case kSIGBUS:
      case kSIGTRAP:
        out.ssi_addr = info.fault.addr;
        out.ssi_addr_lsb = static_cast<uint16_t>(info.fault.addr_lsb);
        return out;
      case kSIGSYS:
        out.ssi_call_addr = info.sys.call_addr;
        out.ssi_syscall = info.sys.syscall;
        out.ssi_arch = info.sys.arch;
        return out;
      default:
        break;
    }
  }
  out.ssi_pid = static_cast<uint32_t>(info.rt.pid);
  out.ssi_uid = info.rt.uid;
  out.ssi_ptr = info.rt.value;
  out.ssi_int = static_cast<int32_t>(info.rt.value);
  return out;
}

}  // namespace

SignalFd::SignalFd(SignalSet mask, uint32_t flags)
    : FileDescription(NewAnonymousPath("anon_inode:[signalfd]", 0600), O_RDWR | flags), mask_(0) {
  SetMask(mask);
}

SignalFd::~SignalFd() {
  std::list<Subscription> all;
  {
    base::MutexLock lock(mu_);
    all.swap(subscriptions_);
  }
  for (Subscription& subscription : all) subscription.task->signal_events().Remove(subscription.entry);
}

void SignalFd::SetMask(SignalSet mask) {
  mask_.store(mask.Without(kUnblockable).bits(), std::memory_order_relaxed);
  queue_.Notify(base::kEventIn | base::kEventRdNorm);
}

Result<size_t> SignalFd::Read(IoBuffer& to, const IoFlags&) {
  Task* task = Task::Current();
  if (task == nullptr || to.remaining() < sizeof(signalfd_siginfo)) return Errno(EINVAL);
  size_t total = 0;
  while (to.remaining() >= sizeof(signalfd_siginfo)) {
    auto signal = task->TakeSignal(mask());
    if (!signal.has_value()) break;
    signalfd_siginfo info = ToSignalfdInfo(signal->info);
    auto copied = to.CopyOut(std::as_bytes(std::span(&info, 1)));
    if (!copied.ok() || *copied != sizeof(info)) {
      if (total == 0) return Errno(EFAULT);
      break;
    }
    total += sizeof(info);
  }
  if (total == 0) return Errno(EAGAIN);
  return total;
}

base::EventMask SignalFd::Readiness() {
  Task* task = Task::Current();
  if (task == nullptr) return 0;
  return (task->PendingSet() & mask()).empty() ? 0 : base::kEventIn | base::kEventRdNorm;
}

base::WaitQueue* SignalFd::wait_queue() {
  Task* task = Task::Current();
  if (task == nullptr) return &queue_;
  std::list<Subscription> fresh, ended;
  fresh.emplace_back(*this, RefPtr<Task>(task));
  {
    base::MutexLock lock(mu_);
    for (auto it = subscriptions_.begin(); it != subscriptions_.end();) {
      auto here = it++;
      if (here->task.get() == task) return &queue_;
      char state = here->task->state();
      if (state == 'Z' || state == 'X') ended.splice(ended.end(), subscriptions_, here);
    }
    // Added before anybody else can find it, so that the destructor never meets one that is half made.
    task->signal_events().Add(fresh.front().entry);
    subscriptions_.splice(subscriptions_.end(), fresh);
  }
  for (Subscription& subscription : ended) subscription.task->signal_events().Remove(subscription.entry);
  return &queue_;
}

std::string SignalFd::FdInfo() {
  char text[64];
  snprintf(text, sizeof(text), "sigmask:\t%016lx\n", mask().bits());
  return text;
}

}  // namespace sentry
