#include "sentry/kernel/seccomp.h"

#include "sentry/kernel/seccomp_notify.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;

Result<RefPtr<SeccompFilter>> SeccompFilter::Create(std::vector<sock_filter> program, bool log,
                                                    RefPtr<SeccompNotifier> notifier) {
  TRY(CheckSeccompProgram(program));
  return base::TryMakeRef<SeccompFilter>(std::move(program), log, std::move(notifier));
}

SeccompFilter::SeccompFilter(std::vector<sock_filter> program, bool log, RefPtr<SeccompNotifier> notifier)
    : program_(std::move(program)), log_(log), notifier_(std::move(notifier)), any_notifier_(notifier_ != nullptr) {
  for (size_t number = 0; number < kCachedNumbers; ++number) {
    always_allowed_[number] =
        RunSeccompProgramOnNumber(program_, static_cast<int>(number), kAuditArchX86_64) == SECCOMP_RET_ALLOW;
  }
}

SeccompFilter::~SeccompFilter() {
  // One after the other: thousands of destructors inside each other would not fit a fiber's stack.
  SeccompFilter* filter = previous_.release();
  while (filter != nullptr && filter->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    SeccompFilter* next = filter->previous_.release();
    delete filter;
    filter = next;
  }
}

Result<void> SeccompFilter::PutOnTopOf(RefPtr<SeccompFilter> previous) {
  constexpr size_t kMaxPerPath = (1u << 18) / sizeof(sock_filter);  // MAX_INSNS_PER_PATH
  total_cost_ = SeccompProgramCost(program_);
  if (previous) total_cost_ += previous->total_cost_ + 4;
  if (total_cost_ > kMaxPerPath) return Errno(ENOMEM);
  if (!previous) return {};
  always_allowed_ &= previous->always_allowed_;
  depth_ = previous->depth_ + 1;
  any_notifier_ = any_notifier_ || previous->any_notifier_;
  previous_ = std::move(previous);
  return {};
}

SeccompVerdict SeccompFilter::Run(const seccomp_data& data) const {
  SeccompVerdict verdict;
  for (const SeccompFilter* filter = this; filter != nullptr; filter = filter->previous_.get()) {
    const uint32_t answer = RunSeccompProgram(filter->program_, data);
    const uint32_t action = answer & SECCOMP_RET_ACTION_FULL;
    // Signed, so that KILL_PROCESS is the least.
    if (static_cast<int32_t>(action) < static_cast<int32_t>(verdict.action)) {
      verdict = {action, static_cast<uint16_t>(answer & SECCOMP_RET_DATA), filter};
    }
  }
  return verdict;
}

bool SeccompFilter::IsDescendantOf(const SeccompFilter* other) const {
  for (const SeccompFilter* filter = this; filter != nullptr; filter = filter->previous_.get()) {
    if (filter == other) return true;
  }
  return false;
}

void SeccompFilter::DropUser() {
  for (SeccompFilter* filter = this; filter != nullptr; filter = filter->previous_.get()) {
    if (filter->users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (filter->notifier_) filter->notifier_->NotifyUnused();
  }
}

}  // namespace sentry
