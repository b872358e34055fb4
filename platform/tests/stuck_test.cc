// An executor whose thread is stuck in a host call: guests that it serves go on.
#include <unistd.h>

#include "base/syscall_unsafe.h"
#include "base/unique_fd.h"
#include "platform/tests/guest.h"

namespace platform {
namespace {

class StuckTest : public PlatformTest {
 protected:
  void SetUp() override {
    PlatformTest::SetUp();
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    read_end_.reset(fds[0]);
    write_end_.reset(fds[1]);
  }
  // False on a platform whose executors cannot change their threads.
  bool Moves() { return scheduler_->executors()[0]->idle().MayMove(); }
  void GetStuck() {
    char byte;
    EXPECT_TRUE(base::HostRetry(SYS_read, read_end_.get(), &byte, 1).ok());
  }
  void EndIt() { EXPECT_TRUE(base::HostRetry(SYS_write, write_end_.get(), "x", 1).ok()); }
  void Calls(Guest& guest, int count) {
    for (int i = 0; i < count; ++i) {
      guest.context->registers().rax = static_cast<uint64_t>(i);
      ASSERT_EQ(guest.Run().reason, ExitReason::kSystemCall);
      ASSERT_EQ(guest.context->registers().orig_rax, static_cast<uint64_t>(i));
    }
  }
  base::UniqueFd read_end_, write_end_;
};
INSTANTIATE_TEST_SUITE_P(All, StuckTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(StuckTest, OthersMakeCallsMeanwhileAndTheOneThatWasStuckGoesOn) {
  StartScheduler(1);
  if (!Moves()) GTEST_SKIP() << "guests belong to the thread that traces them";
  constexpr int kRounds = 5;
  for (int round = 0; round < kRounds; ++round) {
    InFiber([&] {
      Guest stuck = SystemCallGuest(), other = SystemCallGuest();
      auto blocked = base::Fiber::Spawn(*scheduler_, {}, [&] {
        Calls(stuck, 10);
        GetStuck();
        Calls(stuck, 100);
      });
      // Only it ends the other's wait.
      auto busy = base::Fiber::Spawn(*scheduler_, {}, [&] {
        Calls(other, 300);
        EndIt();
        Calls(other, 100);
      });
      blocked->Join();
      busy->Join();
      stuck.context.reset();
      other.context.reset();
      stuck.as->Release();
      other.as->Release();
    });
  }
}

TEST_P(StuckTest, AGuestThatComputesCanBeInterruptedMeanwhile) {
  StartScheduler(1);
  if (!Moves()) GTEST_SKIP() << "guests belong to the thread that traces them";
  REQUIRE_CODE();
  InFiber([&] {
    Guest spins = SpinGuest();
    auto computes = base::Fiber::Spawn(*scheduler_, {}, [&] {
      EXPECT_EQ(spins.Run().reason, ExitReason::kInterrupted);
      EndIt();
    });
    // It runs before this fiber goes on.
    base::Fiber::Yield();
    spins.context->Interrupt();
    GetStuck();
    computes->Join();
    spins.context.reset();
    spins.as->Release();
  });
}

}  // namespace
}  // namespace platform
