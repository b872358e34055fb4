#include "platform/systrap/futex_meter.h"

#include <gtest/gtest.h>

namespace platform::systrap {
namespace {

constexpr uint32_t kWindow = 1000;
constexpr uint64_t kShort = 100, kLong = 1'000'000, kGap = kWindow << FUTEX_METER_GAP_SHIFT;

// Short waits until it looks again, at most `limit`.
uint32_t WaitsUntilItLooks(FutexMeter& meter, uint32_t limit = 1'000'000) {
  uint32_t n = 0;
  for (; n < limit && !meter.Looks(); ++n) meter.Waited(kShort, kWindow);
  return n;
}

TEST(FutexMeter, LooksAfterAShortWaitAndNeverAfterLongOnes) {
  FutexMeter meter;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(meter.Looks());
    meter.Waited(kLong, kWindow);
  }
  EXPECT_EQ(WaitsUntilItLooks(meter), 1u);
  EXPECT_TRUE(meter.Looks());
}

TEST(FutexMeter, LosesLessAndLessToWaitsThatAreShortButNotSeenToEnd) {
  FutexMeter meter;
  uint32_t waits = 0, looks = 0, last = 0;
  while (waits < 100'000) {
    const uint32_t n = WaitsUntilItLooks(meter);
    EXPECT_GE(n, std::min<uint32_t>(last, FUTEX_METER_LONGEST));
    last = n;
    waits += n;
    ++looks;
    meter.Miss(kWindow, kWindow);
  }
  EXPECT_EQ(last, uint32_t{FUTEX_METER_LONGEST} + 1);
  EXPECT_LT(looks, 40u);
}

TEST(FutexMeter, GoesOnLookingWhileNearlyAllLooksHit) {
  FutexMeter meter;
  (void)WaitsUntilItLooks(meter);
  meter.Miss(kWindow, kWindow);
  (void)WaitsUntilItLooks(meter);
  for (int i = 0; i < FUTEX_METER_GOOD; ++i) meter.Hit(kShort, kWindow);
  for (int i = 0; i < 10'000; ++i) {
    i % (2 * FUTEX_METER_MISS) == 0 ? meter.Miss(kWindow, kWindow) : meter.Hit(kShort, kWindow);
    ASSERT_TRUE(meter.Looks()) << i;
  }
  // What was saved up, and not more.
  for (int i = 0; i <= FUTEX_METER_MOST / FUTEX_METER_MISS; ++i) {
    ASSERT_TRUE(meter.Looks()) << i;
    meter.Miss(kWindow, kWindow);
  }
  EXPECT_FALSE(meter.Looks());
  // The failures before the good stay are forgotten.
  EXPECT_EQ(WaitsUntilItLooks(meter), FUTEX_METER_FIRST + 1u);
}

TEST(FutexMeter, StopsWhenMoreThanOneLookInEightIsInVain) {
  FutexMeter meter;
  (void)WaitsUntilItLooks(meter);
  int looks = 0;
  for (; looks < 10'000 && meter.Looks(); ++looks) {
    looks % (FUTEX_METER_MISS / 2) == 0 ? meter.Miss(kWindow, kWindow) : meter.Hit(kShort, kWindow);
  }
  EXPECT_LT(looks, 100);
}

TEST(FutexMeter, LeavesTheCpuToOthersForLong) {
  FutexMeter meter;
  (void)WaitsUntilItLooks(meter);
  for (int i = 0; i < 1000; ++i) meter.Hit(kShort, kWindow);
  meter.Hit(kGap, kWindow);
  EXPECT_EQ(WaitsUntilItLooks(meter), FUTEX_METER_CROWDED + 1u);
  for (int i = 0; i < 10; ++i) {
    meter.Miss(kGap, kWindow);
    (void)WaitsUntilItLooks(meter);
  }
  meter.Miss(kGap, kWindow);
  EXPECT_EQ(WaitsUntilItLooks(meter), FUTEX_METER_LONGEST_CROWDED + 1u);
}

}  // namespace
}  // namespace platform::systrap
