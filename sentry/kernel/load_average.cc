#include "sentry/kernel/load_average.h"

#include <algorithm>
#include <cmath>

namespace sentry {

LoadAverage::Values LoadAverage::Sample(int64_t now_ns, int64_t cpu_ns) {
  constexpr int64_t kInterval = 5'000'000'000;
  constexpr double kPeriods[] = {60e9, 300e9, 900e9};
  base::MutexLock l(mu_);
  const int64_t passed = now_ns - last_ns_;
  if (passed >= kInterval) {
    // Time of tasks that were reaped by nobody is gone, so that the sum may shrink.
    const double running =
        static_cast<double>(std::max<int64_t>(cpu_ns - last_cpu_ns_, 0)) / static_cast<double>(passed);
    for (size_t i = 0; i < averages_.size(); ++i) {
      const double kept = std::exp(-static_cast<double>(passed) / kPeriods[i]);
      averages_[i] = averages_[i] * kept + running * (1 - kept);
    }
    last_ns_ = now_ns;
    last_cpu_ns_ = cpu_ns;
  }
  Values values;
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<uint64_t>(averages_[i] * static_cast<double>(kOne));
  return values;
}

}  // namespace sentry
