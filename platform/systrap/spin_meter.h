// SpinMeter: whether it pays that a guest thread sits on another CPU than its executor, and each spins for the other.
//
// Handing over to a CPU that spins costs a quarter of handing over on one CPU; waking a CPU that sleeps costs six times
// as much. So it pays for a thread whose calls come quickly and are answered quickly, nearly all of them: it goes apart
// after a number of quick rounds (from one start of the guest to the next), and comes back when more than about one
// round in twelve was not, or when rounds take longer than they did together: somebody else may use the other CPU. A
// stay that was short makes the next one harder to get.
#ifndef PLATFORM_SYSTRAP_SPIN_METER_H_
#define PLATFORM_SYSTRAP_SPIN_METER_H_

#include <algorithm>
#include <utility>

#include "base/time.h"

namespace platform::systrap {

class SpinMeter {
 public:
  static constexpr base::MonotonicNs kQuickRoundNs = 60'000;
  static constexpr int kRounds = 128, kMaxRounds = 1024;
  static constexpr int kMissCosts = 12, kMaxScore = 64;
  static constexpr int kShortStay = 512;
  // Times of rounds are compared by the sum of so many, of which none counts for more than so much.
  static constexpr int kWindow = 32, kBadWindows = 2;
  static constexpr int kTrialWindows = 4;  // that are good before one bad window is excused
  static constexpr int kMaxRoundsAfterStop = 1 << 16;
  static constexpr base::MonotonicNs kLongestRoundNs = 500'000;

  // Together: a round has ended. True: apart may pay. `interrupts`: it would have interrupted the other CPU.
  bool Round(base::MonotonicNs round_ns, bool interrupts = false) {
    const bool quick = round_ns < kQuickRoundNs && !interrupts;
    quick_ = quick ? quick_ + 1 : std::max(quick_ - kMissCosts, 0);
    if (Window(round_ns)) together_ns_ = std::exchange(window_ns_, 0);
    return quick_ >= needed_;
  }
  // Apart: the same.
  void RoundApart(base::MonotonicNs round_ns, bool interrupts = false) {
    if (interrupts) Miss();
    if (!Window(round_ns)) return;
    const bool bad = std::exchange(window_ns_, 0) > together_ns_;
    bad_windows_ = bad ? bad_windows_ + 1 : 0;
    good_windows_ += bad ? 0 : 1;
    if (bad && (good_windows_ < kTrialWindows || bad_windows_ == kBadWindows)) Stop();
  }
  // There was no CPU for it: not before as many rounds again.
  void Refused() { quick_ = 0; }
  void Went() {
    score_ = kMissCosts;
    stay_ = 0;
    bad_windows_ = good_windows_ = 0;
    stopped_ = false;
    in_window_ = 0;
    window_ns_ = 0;
  }
  // Apart: the event came while the executor was looking.
  void Hit() {
    score_ = std::min(score_ + 1, kMaxScore);
    stay_ = std::min(stay_ + 1, kShortStay);
  }
  // It did not.
  void Miss() { score_ -= kMissCosts; }
  // Somebody else needs the CPU.
  void Stop() {
    score_ = -1;
    stopped_ = true;
  }
  bool Pays() const { return score_ >= 0; }
  void CameBack() {
    quick_ = 0;
    in_window_ = 0;
    window_ns_ = 0;
    if (stay_ >= kShortStay) {
      needed_ = stopped_ ? 2 * kRounds : kRounds;
    } else if (stopped_) {
      needed_ = std::min(needed_ * 8, kMaxRoundsAfterStop);
    } else if (!Pays()) {
      needed_ = std::max(needed_, std::min(needed_ * 2, kMaxRounds));
    }
  }

 private:
  // True with the last round of a window.
  bool Window(base::MonotonicNs round_ns) {
    window_ns_ += std::min(round_ns, kLongestRoundNs);
    in_window_ = (in_window_ + 1) % kWindow;
    return in_window_ == 0;
  }

  int quick_ = 0;  // rounds, less what the others cost
  int needed_ = kRounds;
  int score_ = 0;
  int stay_ = 0;
  int in_window_ = 0;
  int bad_windows_ = 0;  // in a row
  int good_windows_ = 0;
  bool stopped_ = false;
  base::MonotonicNs window_ns_ = 0;
  base::MonotonicNs together_ns_ = 0;  // the last window together
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SPIN_METER_H_
