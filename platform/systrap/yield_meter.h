// YieldMeter: whether it pays that an executor and its guest threads, which share a CPU, hand it to each other with
// sched_yield(2) instead of sleeping and waking each other.
//
// Two tasks that yield to each other and are alone on a CPU need 2.4 µs for a round, two that wake each other 4.2. But
// who yields has no claim to run soon: beside a third task that computes, each handoff takes that one's slice. And it
// is in vain when the guest thread sleeps in the host. So it stops by itself, for a while: longer each time when that
// comes again soon.
#ifndef PLATFORM_SYSTRAP_YIELD_METER_H_
#define PLATFORM_SYSTRAP_YIELD_METER_H_

#include <algorithm>

#include "base/time.h"

namespace platform::systrap {

class YieldMeter {
 public:
  // The guest thread ran, and posted an event.
  void Hit() { score_ = std::min(score_ + 1, kMaxScore); }
  // It did not.
  void Miss(base::MonotonicNs now) {
    score_ -= kMissCosts;
    if (score_ < 0) Pause(now, kVainPauseNs);
  }
  // Somebody else needs the CPU, or was kept waiting.
  void Stop(base::MonotonicNs now) { Pause(now, kCrowdedPauseNs); }
  bool Pays(base::MonotonicNs now) const { return now >= paused_until_; }

 private:
  static constexpr int kMissCosts = 8, kMaxScore = 64, kFirstScore = 16;
  static constexpr base::MonotonicNs kVainPauseNs = 1'000'000, kCrowdedPauseNs = 20'000'000;
  static constexpr base::MonotonicNs kLongestPauseNs = 2'000'000'000;

  void Pause(base::MonotonicNs now, base::MonotonicNs least) {
    const bool again = now - paused_until_ < 2 * pause_ns_;
    pause_ns_ = again ? std::clamp(2 * pause_ns_, least, kLongestPauseNs) : least;
    paused_until_ = now + pause_ns_;
    score_ = kFirstScore;
  }

  int score_ = kFirstScore;
  base::MonotonicNs paused_until_ = 0;
  base::MonotonicNs pause_ns_ = 0;  // that ended or ends then
};

// Whether the time in which a guest thread did not come back was its own, or that of somebody else on its CPU.
class YieldedTime {
 public:
  // A yield that takes longer may have gone to somebody else.
  static constexpr base::MonotonicNs kLongNs = 500'000;

  // Before a yield. True: Begin is due.
  bool Stale(base::MonotonicNs now) const { return now - begun_ > kWindowNs; }
  // `cpu_ns`, here as below, is the CPU time that the guest thread has used in all.
  void Begin(base::MonotonicNs now, int64_t cpu_ns) {
    begun_ = now;
    cpu_ns_ = cpu_ns;
    long_ns_ = 0;
  }
  // After a yield that took more than kLongNs.
  bool WasOwn(base::MonotonicNs took_ns, int64_t cpu_ns) {
    long_ns_ += took_ns;
    return cpu_ns - cpu_ns_ > long_ns_ / 2;
  }

 private:
  static constexpr base::MonotonicNs kWindowNs = 5'000'000;

  base::MonotonicNs begun_ = -kWindowNs - 1;
  int64_t cpu_ns_ = 0;
  base::MonotonicNs long_ns_ = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_YIELD_METER_H_
