#include "platform/systrap/spin_meter.h"

#include <gtest/gtest.h>

namespace platform::systrap {
namespace {

constexpr base::MonotonicNs kQuick = 10'000, kSlow = 1'000'000;

// Rounds until it is worth trying, at most `limit`.
int RoundsToTry(SpinMeter& meter, int limit = 100'000) {
  for (int i = 1; i <= limit; ++i) {
    if (meter.Round(kQuick)) return i;
  }
  return limit;
}

TEST(SpinMeter, TriesAfterManyQuickRounds) {
  SpinMeter meter;
  EXPECT_EQ(RoundsToTry(meter), SpinMeter::kRounds);
}

TEST(SpinMeter, ASlowRoundCostsSeveralQuickOnes) {
  SpinMeter meter;
  for (int i = 0; i < 10'000; ++i) EXPECT_FALSE(meter.Round(i % SpinMeter::kMissCosts == 0 ? kSlow : kQuick)) << i;
}

TEST(SpinMeter, WaitsAgainAfterARefusal) {
  SpinMeter meter;
  RoundsToTry(meter);
  meter.Refused();
  EXPECT_EQ(RoundsToTry(meter), SpinMeter::kRounds);
}

TEST(SpinMeter, ToleratesFewMissesAndLeavesWithMany) {
  SpinMeter meter;
  meter.Went();
  for (int i = 0; i < 10'000; ++i) {
    i % (2 * SpinMeter::kMissCosts) == 0 ? meter.Miss() : meter.Hit();
    ASSERT_TRUE(meter.Pays());
  }
  for (int i = 0; i < 10; ++i) meter.Miss();
  EXPECT_FALSE(meter.Pays());
}

TEST(SpinMeter, LeavesWhenRoundsTakeLongerThanTogether) {
  SpinMeter meter;
  RoundsToTry(meter);
  meter.Went();
  for (int i = 0; i < 10 * SpinMeter::kWindow; ++i) {
    meter.Hit();
    meter.RoundApart(kQuick / 2);
  }
  EXPECT_TRUE(meter.Pays());
  for (int i = 0; i < SpinMeter::kBadWindows * SpinMeter::kWindow; ++i) {
    EXPECT_TRUE(meter.Pays());
    meter.Hit();
    // One that has waited for its CPU, and many that went well.
    meter.RoundApart(i % SpinMeter::kWindow == 0 ? 10'000'000 : kQuick / 2);
  }
  EXPECT_FALSE(meter.Pays());
}

TEST(SpinMeter, InterruptsOfTheOtherCpuSpeakAgainstIt) {
  SpinMeter meter;
  for (int i = 0; i < 10'000; ++i) EXPECT_FALSE(meter.Round(kQuick, i % 4 == 0)) << i;
  RoundsToTry(meter);
  meter.Went();
  for (int i = 0; i < 8; ++i) {
    meter.Hit();
    meter.RoundApart(kQuick, true);
  }
  EXPECT_FALSE(meter.Pays());
}

TEST(SpinMeter, EveryStayThatDidNotPayMakesTheNextOneHarderToGet) {
  SpinMeter meter;
  int before = RoundsToTry(meter);
  while (before < SpinMeter::kMaxRounds) {
    meter.Went();
    meter.Stop();
    EXPECT_FALSE(meter.Pays());
    meter.CameBack();
    const int now = RoundsToTry(meter);
    ASSERT_GT(now, before);
    before = now;
  }
  // A long one forgets that.
  meter.Went();
  for (int i = 0; i < SpinMeter::kShortStay; ++i) meter.Hit();
  meter.CameBack();
  EXPECT_EQ(RoundsToTry(meter), SpinMeter::kRounds);
}

TEST(SpinMeter, AStayThatSomebodyElseEndedIsNotHeldAgainstIt) {
  SpinMeter meter;
  meter.Went();
  meter.Hit();
  meter.CameBack();
  EXPECT_EQ(RoundsToTry(meter), SpinMeter::kRounds);
}

}  // namespace
}  // namespace platform::systrap
