// Context::Interrupt: before, during and after a run, from any thread, without loss.
#include <atomic>
#include <thread>

#include "platform/tests/guest.h"

namespace platform {
namespace {

class InterruptTest : public PlatformTest {};
INSTANTIATE_TEST_SUITE_P(All, InterruptTest, ::testing::ValuesIn(Factories()),
                         [](const auto& info) { return info.param.name; });

void SleepMicroseconds(int64_t us) {
  timespec t = {us / 1'000'000, us % 1'000'000 * 1000};
  nanosleep(&t, nullptr);
}

TEST_P(InterruptTest, BeforeTheFirstStartCompletesItAtOnce) {
  InFiber([&] {
    Guest g = SpinGuest();
    const Registers before = g.context->registers();
    g.context->Interrupt();
    EXPECT_EQ(g.Run().reason, ExitReason::kInterrupted);
    EXPECT_EQ(memcmp(&before, &g.context->registers(), sizeof(before)), 0);
    g.as->Release();
  });
}

TEST_P(InterruptTest, IsForgottenOnceReported) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    g.context->Interrupt();
    g.context->Interrupt();
    EXPECT_EQ(g.Run().reason, ExitReason::kInterrupted);
    EXPECT_EQ(g.Run().reason, ExitReason::kSystemCall);
    EXPECT_EQ(g.Run().reason, ExitReason::kSystemCall);
    g.as->Release();
  });
}

TEST_P(InterruptTest, BetweenRunsCompletesTheNext) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    for (int i = 0; i < 50; ++i) {
      ASSERT_EQ(g.Run().reason, ExitReason::kSystemCall);
      g.context->Interrupt();
      ASSERT_EQ(g.Run().reason, ExitReason::kInterrupted);
    }
    g.as->Release();
  });
}

TEST_P(InterruptTest, EndsAGuestThatComputes) {
  InFiber([&] {
    Guest g = SpinGuest();
    for (int i = 0; i < 50; ++i) {
      std::thread other([&] {
        SleepMicroseconds(i * 20);
        g.context->Interrupt();
      });
      EXPECT_EQ(g.Run().reason, ExitReason::kInterrupted);
      other.join();
    }
    g.as->Release();
  });
}

TEST_P(InterruptTest, FromAnotherFiberOfTheSameExecutor) {
  StartScheduler(1);
  InFiber([&] {
    Guest g = SpinGuest();
    for (int i = 0; i < 20; ++i) {
      auto other = base::Fiber::Spawn(*scheduler_, {}, [&] { g.context->Interrupt(); });
      EXPECT_EQ(g.Run().reason, ExitReason::kInterrupted);
      other->Join();
    }
    g.as->Release();
  });
}

// Every interrupt is followed by a completion, and no system call is lost or made twice because of one.
TEST_P(InterruptTest, RacesWithSystemCallsLoseNothing) {
  InFiber([&] {
    Guest g = SystemCallGuest();
    Registers& r = g.context->registers();
    std::atomic<bool> stop{false};
    std::atomic<uint64_t> asked{0};
    std::thread other([&] {
      uint64_t n = 0;
      while (!stop) {
        asked.fetch_add(1);
        g.context->Interrupt();
        if (++n % 16 == 0) SleepMicroseconds(50);
      }
    });
    uint64_t calls = 0, interrupts = 0, next = 1000;
    r.rax = next;
    const uint64_t want = GetParam().runs_code ? 20'000 : 500;
    while (calls < want) {
      Exit exit = g.Run();
      if (exit.reason == ExitReason::kInterrupted) {
        ++interrupts;
        ASSERT_EQ(r.rax, next);
        continue;
      }
      ASSERT_EQ(exit.reason, ExitReason::kSystemCall);
      ASSERT_EQ(r.orig_rax, next);
      r.rax = ++next;
      ++calls;
    }
    stop = true;
    other.join();
    EXPECT_GT(interrupts, 0u);
    EXPECT_LE(interrupts, asked.load());
    // What the last one left behind is reported once at most.
    int left = 0;
    while (g.Run().reason == ExitReason::kInterrupted) ++left;
    EXPECT_LE(left, 1);
    g.as->Release();
  });
}

TEST_P(InterruptTest, OfOneContextDoesNotDisturbOthers) {
  StartScheduler(1);
  InFiber([&] {
    auto as = SpaceWith(BLOB_OF(spin));
    auto a = SpinContext(), b = SpinContext();
    std::atomic<bool> b_done{false};
    auto other = base::Fiber::Spawn(*scheduler_, {}, [&] {
      EXPECT_EQ(RunGuest(*b, *as).reason, ExitReason::kInterrupted);
      b_done = true;
    });
    for (int i = 0; i < 10; ++i) {
      std::thread timer([&] {
        SleepMicroseconds(200);
        a->Interrupt();
      });
      EXPECT_EQ(RunGuest(*a, *as).reason, ExitReason::kInterrupted);
      timer.join();
    }
    EXPECT_FALSE(b_done);
    b->Interrupt();
    other->Join();
    a.reset();
    b.reset();
    as->Release();
  });
}

}  // namespace
}  // namespace platform
