#include "sentry/kernel/thread_group.h"

#include <sys/resource.h>

#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task.h"

namespace sentry {

Limits Limits::Default() {
  // include/asm-generic/resource.h, INIT_RLIMITS.
  Limits limits;
  limits.values.fill({UINT64_MAX, UINT64_MAX});
  limits.values[RLIMIT_STACK] = {8 << 20, UINT64_MAX};
  limits.values[RLIMIT_CORE] = {0, UINT64_MAX};
  limits.values[RLIMIT_NPROC] = {127'000, 127'000};
  limits.values[RLIMIT_NOFILE] = {1024, 1 << 20};
  limits.values[RLIMIT_MEMLOCK] = {8 << 20, 8 << 20};
  limits.values[RLIMIT_SIGPENDING] = {127'000, 127'000};
  limits.values[RLIMIT_MSGQUEUE] = {819'200, 819'200};
  limits.values[RLIMIT_NICE] = {0, 0};
  limits.values[RLIMIT_RTPRIO] = {0, 0};
  return limits;
}

void Usage::Add(const Usage& o) {
  user_ns += o.user_ns;
  system_ns += o.system_ns;
  voluntary_switches += o.voluntary_switches;
  involuntary_switches += o.involuntary_switches;
  minor_faults += o.minor_faults;
  major_faults += o.major_faults;
  if (o.max_rss_kb > max_rss_kb) max_rss_kb = o.max_rss_kb;
  read_bytes += o.read_bytes;
  written_bytes += o.written_bytes;
  reads += o.reads;
  writes += o.writes;
}

ThreadGroup::ThreadGroup(Kernel& kernel, RefPtr<PidNamespace> ns, RefPtr<SignalHandlers> h, int exit_sig,
                         const Limits& limits)
    : start_time_ns(base::HostClockNs(CLOCK_BOOTTIME)),
      handlers(std::move(h)),
      exit_signal(exit_sig),
      kernel_(kernel),
      pid_namespace_(std::move(ns)),
      limits_(limits),
      timers_(std::make_unique<PosixTimers>(*this)) {}

ThreadGroup::~ThreadGroup() = default;

int ThreadGroup::PidIn(const PidNamespace& ns) const { return leader ? leader->TidIn(ns) : 0; }

void ThreadGroup::SetLimit(int resource, abi::Rlimit value) {
  {
    base::MutexLock l(limits_mu_);
    limits_.values[resource] = value;
  }
  base::MutexLock tree(kernel_.tasks().mu);
  ChangeAnswersLocked();
}

void ThreadGroup::ChangeAnswersLocked() {
  for (Task* task : tasks) task->ChangeAnswers();
}

Usage ThreadGroup::TotalUsageLocked() {
  Usage total = dead_threads_usage;
  for (Task* t : tasks) {
    if (t->state() != 'Z') total.Add(t->usage());
  }
  return total;
}

Usage ThreadGroup::TotalUsage() {
  base::MutexLock l(kernel_.tasks().mu);
  return TotalUsageLocked();
}

}  // namespace sentry
