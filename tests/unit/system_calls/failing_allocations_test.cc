// Memory that is refused to a guest, at every place where one can ask for some.
#include <sys/wait.h>

#include <random>
#include <vector>

#include "base/charged_memory.h"
#include "base/ref_ptr.h"
#include "gtest/gtest.h"
#include "tests/unit/system_calls/object_calls.h"
#include "tests/unit/system_calls/random_calls.h"

namespace sentry::testing {
namespace {

constexpr uint64_t kNone = UINT64_MAX;  // counts the questions, fails none

class FailingAllocations : public ::testing::Test {
 protected:
  // What stays is made once: the first run of a process has it.
  static void SetUpTestSuite() {
    (void)MakeObjectCalls(kNone, 0);
    used_ = base::ChargedMemory::used();
    leaks_ = base::ReportLeaks();
  }
  static void ExpectNothingLeft(uint64_t failure) {
    EXPECT_EQ(base::ReportLeaks(), leaks_) << "failure " << failure;
    EXPECT_EQ(base::ChargedMemory::used(), used_) << "failure " << failure;
  }
  static inline uint64_t used_ = 0;
  static inline size_t leaks_ = 0;
};

TEST_F(FailingAllocations, TheGuestMakesEverythingWhenThereAreNone) {
  ObjectCallsOutcome outcome = MakeObjectCalls(kNone, 0);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.failed, "");
  EXPECT_GT(outcome.asked, 100u);
  ExpectNothingLeft(0);
}

// The guest sees an errno or dies of it; the kernel goes on and keeps nothing.
TEST_F(FailingAllocations, OneLeavesNothingBehindWhereverItIs) {
  const uint64_t asked = MakeObjectCalls(kNone, 0).asked;
  uint64_t seen = 0;
  for (uint64_t failure = 1; failure <= asked && !HasFailure(); ++failure) {
    ObjectCallsOutcome outcome = MakeObjectCalls(failure, 0);
    EXPECT_TRUE(WIFEXITED(outcome.status) || WIFSIGNALED(outcome.status));
    ExpectNothingLeft(failure);
    seen += outcome.refused != 0 && (outcome.status != 0 || !outcome.failed.empty());
  }
  // The guest need not notice one: a child's, or one that something else could do without.
  EXPECT_GT(seen, asked / 2);
}

TEST_F(FailingAllocations, ManyLeaveNothingBehind) {
  for (uint64_t every = 1; every <= 12 && !HasFailure(); ++every) {
    (void)MakeObjectCalls(every, every);
    ExpectNothingLeft(every);
  }
}

TEST_F(FailingAllocations, LeaveNothingBehindAfterRandomCalls) {
  for (uint32_t seed = 1; seed <= 12 && !HasFailure(); ++seed) {
    std::mt19937 random(seed);
    std::vector<uint8_t> input(4096);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
    (void)MakeRandomCalls(input, /*fail_every=*/1 + seed % 5);
    ExpectNothingLeft(seed);
  }
}

}  // namespace
}  // namespace sentry::testing
