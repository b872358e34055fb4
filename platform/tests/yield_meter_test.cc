// Whether yielding between an executor and its guest threads goes on (platform/systrap/yield_meter.h).
#include "platform/systrap/yield_meter.h"

#include <gtest/gtest.h>

namespace platform::systrap {
namespace {

constexpr base::MonotonicNs kMillisecond = 1'000'000;

int MissesUntilPause(YieldMeter& meter, base::MonotonicNs now) {
  int misses = 0;
  while (meter.Pays(now) && misses < 1000) {
    meter.Miss(now);
    ++misses;
  }
  return misses;
}

base::MonotonicNs PauseAt(const YieldMeter& meter, base::MonotonicNs now) {
  base::MonotonicNs length = 0;
  while (!meter.Pays(now + length)) length += kMillisecond / 10;
  return length;
}

TEST(YieldMeter, PaysFromTheStart) {
  YieldMeter meter;
  EXPECT_TRUE(meter.Pays(0));
}

TEST(YieldMeter, AFewMissesAreAPause) {
  YieldMeter meter;
  const base::MonotonicNs now = 1000 * kMillisecond;
  EXPECT_LE(MissesUntilPause(meter, now), 4);
  EXPECT_FALSE(meter.Pays(now));
  EXPECT_LE(PauseAt(meter, now), 2 * kMillisecond);
}

TEST(YieldMeter, HitsExcuseMisses) {
  YieldMeter meter;
  const base::MonotonicNs now = 1000 * kMillisecond;
  for (int i = 0; i < 1000; ++i) {
    for (int hit = 0; hit < 10; ++hit) meter.Hit();
    meter.Miss(now);
    ASSERT_TRUE(meter.Pays(now));
  }
}

TEST(YieldMeter, PausesBecomeLongerWhileTheyComeAgainSoon) {
  YieldMeter meter;
  base::MonotonicNs now = 1000 * kMillisecond, before = 0;
  for (int i = 0; i < 12; ++i) {
    meter.Stop(now);
    const base::MonotonicNs pause = PauseAt(meter, now);
    EXPECT_GE(pause, before);
    EXPECT_LE(pause, 2000 * kMillisecond);
    before = pause;
    now += pause + kMillisecond;
  }
  EXPECT_GE(before, 2000 * kMillisecond);
  // After a long time without any it is as it was.
  now += 100'000 * kMillisecond;
  meter.Stop(now);
  EXPECT_LE(PauseAt(meter, now), 20 * kMillisecond);
}

TEST(YieldedTime, WhatTheThreadUsedIsItsOwn) {
  YieldedTime time;
  EXPECT_TRUE(time.Stale(0));
  time.Begin(0, 500 * kMillisecond);
  EXPECT_FALSE(time.Stale(kMillisecond));
  EXPECT_TRUE(time.Stale(6 * kMillisecond));
  EXPECT_TRUE(time.WasOwn(3 * kMillisecond, 503 * kMillisecond));
}

TEST(YieldedTime, WhatItDidNotUseIsSomebodyElses) {
  YieldedTime time;
  time.Begin(0, 500 * kMillisecond);
  EXPECT_FALSE(time.WasOwn(4 * kMillisecond, 500 * kMillisecond + 20'000));
}

TEST(YieldedTime, LongTimesAddUp) {
  YieldedTime time;
  time.Begin(0, 0);
  EXPECT_TRUE(time.WasOwn(2 * kMillisecond, 2 * kMillisecond));
  EXPECT_FALSE(time.WasOwn(4 * kMillisecond, 2 * kMillisecond));
}

}  // namespace
}  // namespace platform::systrap
