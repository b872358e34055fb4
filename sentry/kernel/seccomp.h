// Filters of seccomp(2). (kernel/seccomp.c)
//
// Each task points at its newest filter; a filter points at the one before it, so that tasks share what they inherited
// and add their own. A filter never changes after it was attached, and a task only ever goes from a filter to a
// descendant of it: an old filter that somebody is just running lives on below the new one.
#ifndef SENTRY_KERNEL_SECCOMP_H_
#define SENTRY_KERNEL_SECCOMP_H_

#include <atomic>
#include <bitset>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/ref_ptr.h"
#include "base/wait_queue.h"
#include "sentry/kernel/seccomp_bpf.h"

namespace sentry {

class SeccompNotifier;

// What a filter may ask for, with the data that came along (SECCOMP_RET_*).
struct SeccompVerdict {
  uint32_t action = SECCOMP_RET_ALLOW;  // SECCOMP_RET_ACTION_FULL bits
  uint16_t data = 0;
  const class SeccompFilter* filter = nullptr;  // whose answer it is; null: ALLOW from all
};

class SeccompFilter final : public base::RefCounted {
 public:
  // EINVAL for a program that Linux does not take. `log`: SECCOMP_FILTER_FLAG_LOG. `notifier`: where USER_NOTIF goes;
  // null without a listener.
  static base::Result<base::RefPtr<SeccompFilter>> Create(std::vector<sock_filter> program, bool log,
                                                          base::RefPtr<SeccompNotifier> notifier);

  // Puts it on top of `previous` (null: the first). Once, before anybody else sees it. ENOMEM when all of them together
  // are too long.
  base::Result<void> PutOnTopOf(base::RefPtr<SeccompFilter> previous);

  // The strictest answer of this filter and all before it; of several equal ones the newest.
  SeccompVerdict Run(const seccomp_data& data) const;
  // Whether all of them allow this call whatever its arguments are: no more than a bit is looked at.
  bool AlwaysAllows(uint64_t number, uint32_t arch) const {
    return number < kCachedNumbers && arch == kAuditArchX86_64 && always_allowed_[number];
  }
  bool IsDescendantOf(const SeccompFilter* other) const;  // or the same
  int depth() const { return depth_; }                    // of filters, this one included
  bool log() const { return log_; }
  SeccompNotifier* notifier() const { return notifier_.get(); }
  bool AnyNotifier() const { return any_notifier_; }  // here or below

  // Tasks and newer filters that can still ask this filter; beyond references, which its listener has as well. At zero
  // the listener is told (POLLHUP).
  void AddUser() { users_.fetch_add(1, std::memory_order_relaxed); }
  void DropUser();
  bool in_use() const { return users_.load(std::memory_order_acquire) != 0; }

 private:
  template <typename T, typename... Args>
  friend base::RefPtr<T> base::MakeRef(Args&&... args);
  static constexpr size_t kCachedNumbers = 512;  // every number of Linux 6.x on amd64
  SeccompFilter(std::vector<sock_filter> program, bool log, base::RefPtr<SeccompNotifier> notifier);
  ~SeccompFilter() override;

  const std::vector<sock_filter> program_;
  const bool log_;
  const base::RefPtr<SeccompNotifier> notifier_;
  // Set by PutOnTopOf.
  base::RefPtr<SeccompFilter> previous_;
  std::bitset<kCachedNumbers> always_allowed_;
  size_t total_cost_ = 0;  // instructions of all, and 4 for each one below
  int depth_ = 1;
  bool any_notifier_ = false;
  std::atomic<int> users_{1};
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_SECCOMP_H_
