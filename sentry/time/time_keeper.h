// TimeKeeper: the clocks of a sandbox. They are the host's, plus offsets that a restored sandbox needs.
//
// Guests read the common clocks in the vDSO from a page of parameters: time = base + (TSC − base TSC) · mult. The
// parameters are calibrated against the host's clocks and are valid for a second; the first reader after that makes a
// system call, and serving it publishes new ones. So an idle sandbox does nothing, and a busy one pays one system call
// a second. The clocks served by system call use the same parameters while they are valid, so that a guest never sees
// time go backwards between the two ways.
#ifndef SENTRY_TIME_TIME_KEEPER_H_
#define SENTRY_TIME_TIME_KEEPER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/errno.h"
#include "base/mutex.h"
#include "base/time.h"
#include "platform/vdso_page.h"

namespace sentry {

// Clock ids (include/uapi/linux/time.h). CPU-time clocks are the kernel's: they belong to tasks.
enum ClockId : int {
  kClockRealtime = 0,
  kClockMonotonic = 1,
  kClockProcessCputime = 2,
  kClockThreadCputime = 3,
  kClockMonotonicRaw = 4,
  kClockRealtimeCoarse = 5,
  kClockMonotonicCoarse = 6,
  kClockBoottime = 7,
  kClockRealtimeAlarm = 8,
  kClockBoottimeAlarm = 9,
  kClockTai = 11,
};

class TimeKeeper {
 public:
  // `cpus`: what the vDSO's getcpu may return. `allow_tsc` false: the vDSO makes system calls. Any thread may call
  // anything.
  explicit TimeKeeper(int cpus = 1, bool allow_tsc = true);
  // Whether the host's own clock is the TSC, from sysfs: for allow_tsc, before the sentry gives up its file system.
  // True if unknown.
  static bool HostTrustsTsc();

  // Nanoseconds on a clock. EINVAL for ids that are no system-wide clocks (CPU-time ones included).
  base::Result<int64_t> Now(int clock_id) EXCLUDES(mu_);
  int64_t RealtimeNow() { return *Now(kClockRealtime); }
  int64_t MonotonicNow() { return *Now(kClockMonotonic); }
  int64_t BoottimeNow() { return *Now(kClockBoottime); }
  // What clock_getres(2) returns: 1 ns, 4 ms for the coarse ones.
  static base::Result<int64_t> ResolutionNs(int clock_id);
  // The host's monotonic time at which the clock will show `ns`; kNever for kMaxNs. For a settable clock (realtime,
  // TAI) the answer holds until the host's clock is set. EINVAL as Now.
  base::Result<base::MonotonicNs> HostDeadline(int clock_id, int64_t ns) EXCLUDES(mu_);

  // Where guests read the parameters: pages that the sentry may write through `write(bytes)`, called with the whole
  // struct's bytes in the order they have to appear. Each step is made in all pages before the next one: a guest that
  // has read the new parameters in one finds the old ones in none. Before the first guest runs.
  using PageWriter = std::function<void(uint64_t offset, std::span<const std::byte> bytes)>;
  void AddPageWriter(PageWriter writer) EXCLUDES(mu_);
  // Whether the vDSO uses the TSC: it is invariant, and has agreed with the host's clock so far.
  bool tsc_usable() const { return tsc_usable_.load(std::memory_order_relaxed); }

  // Save and restore: added to the host's clocks from now on.
  void SetOffsets(int64_t realtime_ns, int64_t monotonic_ns, int64_t boottime_ns) EXCLUDES(mu_);

 private:
  struct Offsets {
    int64_t realtime = 0, monotonic = 0, boottime = 0;
  };
  void RefreshLocked() REQUIRES(mu_);
  void PublishLocked() REQUIRES(mu_);
  // By the parameters; not to be asked when they are invalid.
  int64_t MonotonicAtLocked(uint64_t tsc) const REQUIRES(mu_);

  std::atomic<bool> tsc_usable_;
  base::Mutex mu_;
  runsc_vdso_page params_ GUARDED_BY(mu_){};
  Offsets offsets_ GUARDED_BY(mu_);
  std::vector<PageWriter> writers_ GUARDED_BY(mu_);
  // The first pair of TSC and host clock, for the frequency: the longer ago, the more exact.
  uint64_t anchor_tsc_ GUARDED_BY(mu_) = 0;
  int64_t anchor_ns_ GUARDED_BY(mu_) = 0;
};

}  // namespace sentry

#endif  // SENTRY_TIME_TIME_KEEPER_H_
