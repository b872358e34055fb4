// Host clocks as plain integers of nanoseconds. Guest clocks are sentry/time.
#ifndef BASE_TIME_H_
#define BASE_TIME_H_

#include <time.h>

#include <cstdint>
#include <limits>

namespace base {

// Nanoseconds of the host's CLOCK_MONOTONIC.
using MonotonicNs = int64_t;
inline constexpr MonotonicNs kNever = std::numeric_limits<int64_t>::max();

inline int64_t HostClockNs(clockid_t id) {
  timespec ts;
  clock_gettime(id, &ts);
  return ts.tv_sec * 1'000'000'000 + ts.tv_nsec;
}
inline MonotonicNs MonotonicNow() { return HostClockNs(CLOCK_MONOTONIC); }

}  // namespace base

#endif  // BASE_TIME_H_
