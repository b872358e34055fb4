#include "sentry/fs/anon/eventfd.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>

namespace sentry {

EventFd::EventFd(uint32_t initial, bool semaphore, uint32_t flags)
    : FileDescription(NewAnonymousPath("anon_inode:[eventfd]", 0600), O_RDWR | flags),
      semaphore_(semaphore),
      count_(initial) {}

Result<size_t> EventFd::Read(IoBuffer& to, const IoFlags&) {
  if (to.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
  uint64_t value;
  {
    base::MutexLock lock(mu_);
    if (count_ == 0) return Errno(EAGAIN);
    value = semaphore_ ? 1 : count_;
    count_ -= value;
  }
  queue_.Notify(base::kEventOut | base::kEventWrNorm);
  if (TRY(to.CopyOut(std::as_bytes(std::span(&value, 1)))) != sizeof(value)) return Errno(EFAULT);
  return sizeof(value);
}

Result<size_t> EventFd::Write(IoBuffer& from, const IoFlags&) {
  if (from.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
  uint64_t value;
  size_t copied = TRY(from.CopyIn(std::as_writable_bytes(std::span(&value, 1))));
  if (copied != sizeof(value)) return Errno(EFAULT);
  if (value > kMax) return Errno(EINVAL);
  {
    base::MutexLock lock(mu_);
    if (value > kMax - count_) {
      from.Revert(copied);
      return Errno(EAGAIN);
    }
    count_ += value;
  }
  queue_.Notify(base::kEventIn | base::kEventRdNorm);
  return sizeof(value);
}

void EventFd::Signal(uint64_t amount) {
  {
    base::MutexLock lock(mu_);
    count_ += std::min(amount, UINT64_MAX - count_);
  }
  queue_.Notify(base::kEventIn | base::kEventRdNorm);
}

base::EventMask EventFd::Readiness() {
  base::MutexLock lock(mu_);
  base::EventMask events = 0;
  if (count_ > 0) events |= base::kEventIn;
  if (count_ == UINT64_MAX) events |= base::kEventErr;
  if (count_ < kMax) events |= base::kEventOut;
  return events;
}

std::string EventFd::FdInfo() {
  base::MutexLock lock(mu_);
  char text[64];
  snprintf(text, sizeof(text), "eventfd-count: %16lx\n", count_);
  return text;
}

}  // namespace sentry
