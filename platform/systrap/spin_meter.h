// SpinMeter: whether it pays that a guest thread sits on another CPU than its executor, and each spins for the other.
//
// Handing over to a CPU that spins costs a quarter of handing over on one CPU; waking a CPU that sleeps costs six times
// as much. So it pays for a thread whose calls come quickly and are answered quickly, nearly all of them: it goes apart
// after a number of quick rounds (from one start of the guest to the next), and comes back when more than about one
// round in sixteen was not. A stay that was short makes the next one harder to get.
#ifndef PLATFORM_SYSTRAP_SPIN_METER_H_
#define PLATFORM_SYSTRAP_SPIN_METER_H_

#include <algorithm>

#include "base/time.h"

namespace platform::systrap {

class SpinMeter {
 public:
  static constexpr base::MonotonicNs kQuickRoundNs = 60'000;
  static constexpr int kRounds = 128, kMaxRounds = 1024;
  static constexpr int kMissCosts = 12, kMaxScore = 64;
  static constexpr int kShortStay = 512;

  // Together: a round has ended. True: apart may pay.
  bool Round(base::MonotonicNs round_ns) {
    quick_ = round_ns < kQuickRoundNs ? quick_ + 1 : std::max(quick_ - kMissCosts, 0);
    return quick_ >= needed_;
  }
  // There was no CPU for it: not before as many rounds again.
  void Refused() { quick_ = 0; }
  void Went() {
    score_ = kMissCosts;
    stay_ = 0;
  }
  // Apart: the event came while the executor was looking.
  void Hit() {
    score_ = std::min(score_ + 1, kMaxScore);
    stay_ = std::min(stay_ + 1, kShortStay);
  }
  // It did not.
  void Miss() { score_ -= kMissCosts; }
  // Somebody else needs the CPU.
  void Stop() { score_ = -1; }
  bool Pays() const { return score_ >= 0; }
  void CameBack() {
    quick_ = 0;
    if (stay_ >= kShortStay) {
      needed_ = kRounds;
    } else if (!Pays()) {
      needed_ = std::min(needed_ * 2, kMaxRounds);
    }
  }

 private:
  int quick_ = 0;  // rounds, less what the others cost
  int needed_ = kRounds;
  int score_ = 0;
  int stay_ = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SPIN_METER_H_
