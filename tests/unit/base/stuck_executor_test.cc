// Executors whose fiber does not give way.
#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/futex_unsafe.h"
#include "base/syscall_unsafe.h"
#include "base/unique_fd.h"

namespace base {
namespace {

constexpr MonotonicNs kSoon = 1'000'000;

int Tid() { return static_cast<int>(RawSyscall(SYS_gettid)); }

Scheduler::Options Replacing(int executors) {
  Scheduler::Options options;
  options.executors = executors;
  options.bind_cpus = false;
  options.replace_stuck_after_ns = kSoon;
  return options;
}

struct HostPipe {
  HostPipe() {
    int fds[2];
    EXPECT_EQ(pipe(fds), 0);
    read_end.reset(fds[0]);
    write_end.reset(fds[1]);
  }
  // Blocks the host thread.
  void Take() const {
    char byte;
    EXPECT_TRUE(HostRetry(SYS_read, read_end.get(), &byte, 1).ok());
  }
  void Give() const { EXPECT_TRUE(HostRetry(SYS_write, write_end.get(), "x", 1).ok()); }
  UniqueFd read_end, write_end;
};

TEST(StuckExecutor, FibersBehindOneThatBlocksGoOnElsewhere) {
  HostPipe pipe;  // what ends last is in use until then
  Scheduler scheduler(Replacing(1));
  int before = 0, after = 0;
  auto stuck = Fiber::Spawn(scheduler, {}, [&] {
    before = Tid();
    pipe.Take();
    EXPECT_EQ(Tid(), before);  // a fiber changes its thread only when it gives way
    EXPECT_EQ(Executor::Current(), scheduler.executors()[0].get());
    Fiber::Yield();
    after = Tid();
  });
  // Pinned, so that it is not a matter of stealing.
  auto next = Fiber::Spawn(scheduler, {.executor = scheduler.executors()[0].get(), .pinned = true}, [&] {
    EXPECT_EQ(Fiber::Current()->executor().host_tid(), Tid());
    pipe.Give();
  });
  next->Join();
  stuck->Join();
  EXPECT_NE(after, before);
  EXPECT_EQ(after, scheduler.executors()[0]->host_tid());
}

TEST(StuckExecutor, PostedWorkGoesOnElsewhere) {
  HostPipe pipe;  // what ends last is in use until then
  Scheduler scheduler(Replacing(1));
  auto stuck = Fiber::Spawn(scheduler, {}, [&] { pipe.Take(); });
  scheduler.executors()[0]->Post([&] { pipe.Give(); });
  stuck->Join();
}

TEST(StuckExecutor, SeveralMayBeStuckAtATime) {
  HostPipe pipe;  // what ends last is in use until then
  Scheduler scheduler(Replacing(1));
  std::vector<RefPtr<Fiber>> stuck;
  for (int i = 0; i < 3; ++i) stuck.push_back(Fiber::Spawn(scheduler, {}, [&] { pipe.Take(); }));
  auto last = Fiber::Spawn(scheduler, {}, [&] {
    for (int i = 0; i < 3; ++i) pipe.Give();
  });
  last->Join();
  for (auto& fiber : stuck) fiber->Join();
}

TEST(StuckExecutor, IsLeftAloneWhileNobodyWaits) {
  Scheduler scheduler(Replacing(1));
  const int before = scheduler.executors()[0]->host_tid();
  Fiber::Spawn(scheduler, {}, [&] {
    RawSyscall(SYS_getpid);
    for (MonotonicNs end = MonotonicNow() + 5 * kSoon; MonotonicNow() < end;) {
    }
  })->Join();
  Fiber::Spawn(scheduler, {}, [&] { EXPECT_EQ(Tid(), before); })->Join();
}

// What a platform needs whose host ties guests to a thread.
class BoundIdle final : public IdleStrategy {
 public:
  void Wait() override {
    while (word_.load() == 0) FutexWait(word_, 0);
    word_.store(0);
  }
  void Wake() override {
    word_.store(1);
    FutexWake(&word_);
  }

 private:
  std::atomic<uint32_t> word_{0};
};

TEST(StuckExecutor, KeepsItsThreadIfItsStrategyIsBoundToIt) {
  Scheduler::Options options = Replacing(1);
  options.idle = [](int) { return std::make_unique<BoundIdle>(); };
  Scheduler scheduler(std::move(options));
  const int before = scheduler.executors()[0]->host_tid();
  auto hog = Fiber::Spawn(scheduler, {}, [&] {
    for (MonotonicNs end = MonotonicNow() + 5 * kSoon; MonotonicNow() < end;) {
    }
  });
  auto next = Fiber::Spawn(scheduler, {}, [&] { EXPECT_EQ(Tid(), before); });
  hog->Join();
  next->Join();
}

// Takes what comes by itself, as guests do, and not by fibers.
class ServingIdle final : public IdleStrategy {
 public:
  explicit ServingIdle(std::function<void()> serve) : serve_(std::move(serve)) {}
  bool MayMove() const override { return true; }
  bool HasWork() const override { return true; }
  void Wait() override {
    serve_();
    while (word_.load() == 0) FutexWait(word_, 0);
    word_.store(0);
  }
  void Wake() override {
    word_.store(1);
    FutexWake(&word_);
  }

 private:
  const std::function<void()> serve_;
  std::atomic<uint32_t> word_{0};
};

TEST(StuckExecutor, GuestsAreServedThoughNoFiberWaits) {
  HostPipe pipe;  // what ends last is in use until then
  std::atomic<bool> blocks{false};
  Scheduler::Options options = Replacing(1);
  options.idle = [&](int) {
    return std::make_unique<ServingIdle>([&] {
      if (blocks.exchange(false)) pipe.Give();
    });
  };
  Scheduler scheduler(std::move(options));
  Fiber::Spawn(scheduler, {}, [&] {
    blocks = true;
    pipe.Take();
  })->Join();
}

TEST(StuckExecutor, KeepsTheThreadThatAFiberHolds) {
  Scheduler scheduler(Replacing(1));
  std::atomic<bool> ended{false};
  auto holder = Fiber::Spawn(scheduler, {}, [&] {
    ThreadHold hold;
    EXPECT_EQ(Fiber::Current()->executor().host_tid(), Tid());
    for (MonotonicNs end = MonotonicNow() + 5 * kSoon; MonotonicNow() < end;) {
    }
    EXPECT_EQ(Fiber::Current()->executor().host_tid(), Tid());
    ended = true;
  });
  auto next = Fiber::Spawn(scheduler, {}, [&] { EXPECT_TRUE(ended); });
  holder->Join();
  next->Join();
}

TEST(StuckExecutor, AHoldBringsAFiberToWhereItsExecutorIs) {
  HostPipe pipe;  // what ends last is in use until then
  Scheduler scheduler(Replacing(1));
  auto stuck = Fiber::Spawn(scheduler, {}, [&] {
    pipe.Take();
    EXPECT_NE(Fiber::Current()->executor().host_tid(), Tid());
    ThreadHold hold;
    EXPECT_EQ(Fiber::Current()->executor().host_tid(), Tid());
  });
  Fiber::Spawn(scheduler, {}, [&] { pipe.Give(); })->Join();
  stuck->Join();
}

TEST(StuckExecutor, FibersThatParkMoveYieldAndBlockAllFinish) {
  Scheduler scheduler(Replacing(2));
  std::atomic<int> finished{0};
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 40; ++i) {
    fibers.push_back(Fiber::Spawn(scheduler, {}, [&, i] {
      std::mt19937 random(static_cast<uint32_t>(i));
      for (int round = 0; round < 20; ++round) {
        switch (random() % 7) {
          case 0: {
            timespec nap{.tv_sec = 0, .tv_nsec = 3 * kSoon};
            (void)Host(SYS_nanosleep, &nap, nullptr);
            break;
          }
          case 1:
            Fiber::Yield();
            break;
          case 2:
            Fiber::ParkUntil(MonotonicNow() + kSoon / 4);
            break;
          case 3:
            Fiber::GuestBoundary();
            break;
          case 4:
            Fiber::MoveTo(*scheduler.executors()[random() % 2]);
            break;
          case 5: {
            ThreadHold hold;
            EXPECT_EQ(Fiber::Current()->executor().host_tid(), Tid());
            break;
          }
          case 6:
            Fiber::Spawn(scheduler, {}, [] {})->Join();
            break;
        }
      }
      ++finished;
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(finished, 40);
}

}  // namespace
}  // namespace base
