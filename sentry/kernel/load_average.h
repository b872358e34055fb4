// The load averages of /proc/loadavg and sysinfo(2), without a timer: an idle sandbox does nothing.
//
// Linux samples the number of runnable tasks every five seconds (kernel/sched/loadavg.c). Here whoever reads brings the
// averages up to date. The average number of running tasks since the last reader is known exactly: the CPU time used,
// divided by the time that passed; so that one step of exponential decay does for any interval. Differs from Linux:
// tasks that wait for a CPU that others use do not count.
#ifndef SENTRY_KERNEL_LOAD_AVERAGE_H_
#define SENTRY_KERNEL_LOAD_AVERAGE_H_

#include <array>
#include <cstdint>

#include "base/mutex.h"

namespace sentry {

class LoadAverage {
 public:
  static constexpr uint64_t kOne = 1 << 16;  // SI_LOAD_SHIFT: what sysinfo(2) scales by
  using Values = std::array<uint64_t, 3>;    // over 1, 5 and 15 minutes

  explicit LoadAverage(int64_t now_ns) : last_ns_(now_ns) {}
  // `cpu_ns`: CPU time that all tasks together have used since the start. Readers within five seconds see the same.
  Values Sample(int64_t now_ns, int64_t cpu_ns) EXCLUDES(mu_);

 private:
  base::Mutex mu_;
  int64_t last_ns_ GUARDED_BY(mu_);
  int64_t last_cpu_ns_ GUARDED_BY(mu_) = 0;
  std::array<double, 3> averages_ GUARDED_BY(mu_){};
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_LOAD_AVERAGE_H_
