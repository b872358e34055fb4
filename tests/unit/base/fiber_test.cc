#include "base/fiber.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/mutex.h"

namespace base {
namespace {

constexpr MonotonicNs kMs = 1'000'000;

TEST(Fiber, RunsItsBody) {
  bool ran = false;
  RunInFiber([&] { ran = true; });
  EXPECT_TRUE(ran);
}

TEST(Fiber, CurrentIsTheFiberInsideAndNullOutside) {
  EXPECT_EQ(Fiber::Current(), nullptr);
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  Fiber* inside = nullptr;
  auto fiber = Fiber::Spawn(scheduler, {}, [&] { inside = Fiber::Current(); });
  fiber->Join();
  EXPECT_EQ(inside, fiber.get());
}

TEST(Fiber, APermitGivenBeforeParkIsNotLost) {
  RunInFiber([] {
    Fiber::Current()->Unpark();
    Fiber::Current()->Unpark();  // permits do not add up
    Fiber::Park();
    EXPECT_FALSE(Fiber::ParkUntil(MonotonicNow() + kMs));
  });
}

TEST(Fiber, UnparkFromAHostThreadContinuesAParkedFiber) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::atomic<bool> go{false};
  auto fiber = Fiber::Spawn(scheduler, {}, [&] {
    while (!go) Fiber::Park();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(fiber->finished());
  go = true;
  fiber->Unpark();
  fiber->Join();
  EXPECT_TRUE(fiber->finished());
  fiber->Unpark();  // harmless
}

TEST(Fiber, ParkUntilReturnsFalseAtTheDeadline) {
  RunInFiber([] {
    MonotonicNs deadline = MonotonicNow() + 3 * kMs;
    while (Fiber::ParkUntil(deadline)) {
    }
    EXPECT_GE(MonotonicNow(), deadline);
  });
}

TEST(Fiber, ParkUntilReturnsFalseForADeadlineThatHasPassed) {
  RunInFiber([] { EXPECT_FALSE(Fiber::ParkUntil(MonotonicNow() - 1)); });
}

TEST(Fiber, ParkUntilPrefersAPermitToAPassedDeadline) {
  RunInFiber([] {
    Fiber::Current()->Unpark();
    EXPECT_TRUE(Fiber::ParkUntil(0));
  });
}

TEST(Fiber, ParkUntilReturnsTrueWhenUnparkedInTime) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  std::atomic<bool> go{false};
  bool in_time = false;
  auto fiber = Fiber::Spawn(scheduler, {}, [&] {
    MonotonicNs deadline = MonotonicNow() + 60'000 * kMs;
    while (!go) in_time = Fiber::ParkUntil(deadline);
  });
  go = true;
  fiber->Unpark();
  fiber->Join();
  // False only if the body saw `go` before its first wait.
  (void)in_time;
  EXPECT_TRUE(fiber->finished());
}

TEST(Fiber, YieldLetsOthersOfTheExecutorRun) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::string order;
  auto body = [&order](char c) {
    return [&order, c] {
      for (int i = 0; i < 3; ++i) {
        order += c;
        Fiber::Yield();
      }
    };
  };
  auto outer = Fiber::Spawn(scheduler, {}, [&] {
    auto a = Fiber::Spawn(scheduler, {}, body('a'));
    auto b = Fiber::Spawn(scheduler, {}, body('b'));
    a->Join();
    b->Join();
  });
  outer->Join();
  EXPECT_EQ(order, "ababab");
}

TEST(Fiber, MoveToContinuesOnTheExecutor) {
  Scheduler scheduler({.executors = 3, .bind_cpus = false, .idle = nullptr});
  auto fiber = Fiber::Spawn(scheduler, {.pinned = true}, [&] {
    for (int round = 0; round < 100; ++round) {
      for (const auto& executor : scheduler.executors()) {
        Fiber::MoveTo(*executor);
        ASSERT_EQ(Executor::Current(), executor.get());
        ASSERT_EQ(&Fiber::Current()->executor(), executor.get());
      }
    }
  });
  fiber->Join();
}

TEST(Fiber, StartsOnTheExecutorThatIsAskedFor) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  for (const auto& executor : scheduler.executors()) {
    Executor* seen = nullptr;
    Fiber::Spawn(scheduler, {.executor = executor.get(), .pinned = true}, [&] { seen = Executor::Current(); })->Join();
    EXPECT_EQ(seen, executor.get());
  }
}

TEST(Fiber, JoinFromFibersAndFromThreads) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  std::atomic<bool> go{false};
  auto target = Fiber::Spawn(scheduler, {}, [&] {
    while (!go) Fiber::Park();
  });
  std::atomic<int> joined{0};
  std::vector<RefPtr<Fiber>> joiners;
  for (int i = 0; i < 4; ++i) {
    joiners.push_back(Fiber::Spawn(scheduler, {}, [&] {
      target->Join();
      EXPECT_TRUE(target->finished());
      ++joined;
    }));
  }
  std::thread thread([&] {
    target->Join();
    ++joined;
  });
  go = true;
  target->Unpark();
  thread.join();
  for (auto& joiner : joiners) joiner->Join();
  EXPECT_EQ(joined, 5);
}

TEST(Fiber, LivesOnWithoutAReference) {
  std::atomic<bool> ran{false};
  {
    Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
    Fiber::Spawn(scheduler, {}, [&] {
      Fiber::ParkUntil(MonotonicNow() + kMs);
      ran = true;
    });
  }  // waits
  EXPECT_TRUE(ran);
}

TEST(Fiber, TheBodysCapturesDieBeforeJoinReturns) {
  struct Watched : RefCounted {};
  auto object = MakeRef<Watched>();
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  auto fiber = Fiber::Spawn(scheduler, {}, [object] {});
  fiber->Join();
  EXPECT_EQ(object->ref_count(), 1u);
}

TEST(Fiber, ManyFibersComeAndGo) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  std::atomic<int> count{0};
  for (int round = 0; round < 5; ++round) {
    std::vector<RefPtr<Fiber>> fibers;
    for (int i = 0; i < 400; ++i) {
      fibers.push_back(Fiber::Spawn(scheduler, {}, [&] {
        Fiber::Yield();
        ++count;
      }));
    }
    for (auto& fiber : fibers) fiber->Join();
  }
  EXPECT_EQ(count, 2000);
}

// Rings of fibers that pass a token: every hop is a Park that must not be lost, across executors.
TEST(FiberStress, TokensGoAroundRingsOverFourExecutors) {
  constexpr int kRings = 8, kMembers = 5, kHops = 4000;
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  struct Ring {
    std::atomic<int> token{0};
    std::vector<RefPtr<Fiber>> members;
    std::atomic<bool> ready{false};
  };
  std::vector<std::unique_ptr<Ring>> rings;
  for (int r = 0; r < kRings; ++r) {
    rings.push_back(std::make_unique<Ring>());
    Ring& ring = *rings.back();
    for (int m = 0; m < kMembers; ++m) {
      ring.members.push_back(
          Fiber::Spawn(scheduler, {.executor = scheduler.executors()[(r + m) % 4].get()}, [&ring, m] {
            while (!ring.ready) Fiber::Park();
            for (;;) {
              int token = ring.token;
              if (token >= kHops) break;
              if (token % kMembers != m) {
                Fiber::Park();
                continue;
              }
              ring.token = token + 1;
              ring.members[(m + 1) % kMembers]->Unpark();
            }
            ring.members[(m + 1) % kMembers]->Unpark();
          }));
    }
    ring.ready = true;
    for (auto& member : ring.members) member->Unpark();
  }
  for (auto& ring : rings) {
    for (auto& member : ring->members) member->Join();
    EXPECT_EQ(ring->token, kHops);
  }
}

// Unparks from plain threads race with fibers that switch out, time out and move.
TEST(FiberStress, UnparkStormFromHostThreads) {
  constexpr int kFibers = 32, kRounds = 300;
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  std::vector<RefPtr<Fiber>> fibers;
  std::atomic<int> left{kFibers};
  for (int i = 0; i < kFibers; ++i) {
    fibers.push_back(Fiber::Spawn(scheduler, {}, [&, i] {
      for (int round = 0; round < kRounds; ++round) {
        switch ((i + round) % 4) {
          case 0:
            Fiber::Park();
            break;
          case 1:
            Fiber::ParkUntil(MonotonicNow() + 20'000);
            break;
          case 2:
            Fiber::MoveTo(*scheduler.executors()[round % 4]);
            break;
          case 3:
            Fiber::GuestBoundary();
            Fiber::Yield();
            break;
        }
      }
      --left;
    }));
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; left > 0; ++i) {
        fibers[i % kFibers]->Unpark();
        if (i % 64 == 0) std::this_thread::yield();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& fiber : fibers) fiber->Join();
}

#if GTEST_HAS_DEATH_TEST && !defined(NDEBUG)
TEST(FiberDeathTest, ParkWithAMutexHeldFails) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunInFiber([] {
                 static Mutex mu;
                 MutexLock lock(mu);
                 Fiber::Park();
               }),
               "HeldByThisThread");
}
#endif

}  // namespace
}  // namespace base
