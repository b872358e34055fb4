#include "sentry/kernel/load_average.h"

#include "gtest/gtest.h"

namespace sentry {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

double Shown(uint64_t load) { return static_cast<double>(load) / LoadAverage::kOne; }

TEST(LoadAverage, ApproachesTheNumberOfBusyTasks) {
  LoadAverage load(0);
  LoadAverage::Values v = load.Sample(60 * kSecond, 120 * kSecond);  // two tasks for a minute
  EXPECT_NEAR(Shown(v[0]), 2 * 0.632, 0.01);
  EXPECT_NEAR(Shown(v[1]), 2 * 0.181, 0.01);
  EXPECT_NEAR(Shown(v[2]), 2 * 0.0645, 0.01);
  v = load.Sample(3600 * kSecond, 2 * 3600 * kSecond);
  EXPECT_NEAR(Shown(v[0]), 2, 0.01);
}

TEST(LoadAverage, DecaysTheSameInOneStepOrInMany) {
  LoadAverage one(0), many(0);
  one.Sample(100 * kSecond, 100 * kSecond);
  many.Sample(100 * kSecond, 100 * kSecond);
  for (int s = 110; s < 400; s += 10) many.Sample(s * kSecond, 100 * kSecond);
  const LoadAverage::Values a = one.Sample(400 * kSecond, 100 * kSecond), b = many.Sample(400 * kSecond, 100 * kSecond);
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(Shown(a[i]), Shown(b[i]), 0.001);
}

TEST(LoadAverage, KeepsItsValueBetweenSamplesAndSurvivesTimeThatVanishes) {
  LoadAverage load(0);
  const LoadAverage::Values before = load.Sample(10 * kSecond, 10 * kSecond);
  EXPECT_EQ(load.Sample(11 * kSecond, 50 * kSecond), before);
  EXPECT_EQ(load.Sample(5 * kSecond, 0), before);  // a clock that goes backwards
  const LoadAverage::Values after = load.Sample(20 * kSecond, 0);
  EXPECT_LT(after[0], before[0]);
}

}  // namespace
}  // namespace sentry
