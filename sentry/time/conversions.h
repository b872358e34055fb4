// Between the ABI's times and nanoseconds. Times from guests are checked here, once.
#ifndef SENTRY_TIME_CONVERSIONS_H_
#define SENTRY_TIME_CONVERSIONS_H_

#include <cstdint>
#include <limits>

#include "base/errno.h"
#include "sentry/abi/types.h"

namespace sentry {

using base::Errno;
using base::Result;

inline constexpr int64_t kNsPerSec = 1'000'000'000;
inline constexpr int64_t kNsPerUs = 1'000;
inline constexpr int64_t kMaxNs = std::numeric_limits<int64_t>::max();  // KTIME_MAX, also "never"

// EINVAL for negative seconds or a fraction that is none (timespec64_valid); later than 2262 becomes kMaxNs.
inline Result<int64_t> ToNs(const abi::Timespec& t) {
  if (t.tv_sec < 0 || t.tv_nsec < 0 || t.tv_nsec >= kNsPerSec) return Errno(EINVAL);
  if (t.tv_sec >= kMaxNs / kNsPerSec) return kMaxNs;
  return t.tv_sec * kNsPerSec + t.tv_nsec;
}
inline Result<int64_t> ToNs(const abi::Timeval& t) {
  if (t.tv_sec < 0 || t.tv_usec < 0 || t.tv_usec >= 1'000'000) return Errno(EINVAL);
  if (t.tv_sec >= kMaxNs / kNsPerSec) return kMaxNs;
  return t.tv_sec * kNsPerSec + t.tv_usec * kNsPerUs;
}
// The fraction is never negative.
constexpr abi::Timespec ToTimespec(int64_t ns) {
  int64_t sec = ns / kNsPerSec, rest = ns % kNsPerSec;
  if (rest < 0) {
    --sec;
    rest += kNsPerSec;
  }
  return {sec, rest};
}
constexpr abi::Timeval ToTimeval(int64_t ns) {
  abi::Timespec t = ToTimespec(ns);
  return {t.tv_sec, t.tv_nsec / kNsPerUs};
}
// a + b for b ≥ 0, at most kMaxNs.
constexpr int64_t AddSaturated(int64_t a, int64_t b) { return a > kMaxNs - b ? kMaxNs : a + b; }

}  // namespace sentry

#endif  // SENTRY_TIME_CONVERSIONS_H_
