#include "tests/unit/system_calls/random_calls.h"

#include <random>
#include <vector>

#include "base/ref_ptr.h"
#include "gtest/gtest.h"

namespace sentry::testing {
namespace {

// What a seed found once stays in the list.
class RandomCalls : public ::testing::TestWithParam<uint32_t> {};

TEST_P(RandomCalls, LeaveNothingBehind) {
  std::mt19937 random(GetParam());
  std::vector<uint8_t> input(4096);
  for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
  RandomCallsOutcome outcome = MakeRandomCalls(input);
  EXPECT_GT(outcome.calls, 0);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomCalls, ::testing::Range(1u, 33u));

// 358: fallocate of 2^61 bytes of a tmpfs without a limit.
INSTANTIATE_TEST_SUITE_P(Found, RandomCalls, ::testing::Values(358u));

TEST(RandomCallsInput, MayBeEmpty) { EXPECT_EQ(MakeRandomCalls({}).calls, 0); }

}  // namespace
}  // namespace sentry::testing
