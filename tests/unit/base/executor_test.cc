#include "base/executor.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/fiber.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace {

TEST(Executor, PostedWorkRunsOnItsThreadOutsideOfFibers) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  for (const auto& executor : scheduler.executors()) {
    std::atomic<bool> done{false};
    executor->Post([&] {
      EXPECT_EQ(Executor::Current(), executor.get());
      EXPECT_EQ(Fiber::Current(), nullptr);
      EXPECT_EQ(RawSyscall(SYS_gettid), executor->host_tid());
      done = true;
    });
    while (!done) std::this_thread::yield();
  }
  EXPECT_EQ(Executor::Current(), nullptr);
}

TEST(Executor, PostedWorkRunsWhileFibersKeepTheExecutorBusy) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::atomic<bool> posted_ran{false};
  auto fiber = Fiber::Spawn(scheduler, {}, [&] {
    while (!posted_ran) Fiber::Yield();
  });
  scheduler.executors()[0]->Post([&] { posted_ran = true; });
  fiber->Join();
}

TEST(Executor, OnePerCpuOfTheAffinityMaskAndBoundToIt) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  Scheduler scheduler({.executors = 0, .bind_cpus = true, .idle = nullptr});
  ASSERT_EQ(scheduler.executors().size(), static_cast<size_t>(CPU_COUNT(&set)));
  std::set<int> cpus;
  for (const auto& executor : scheduler.executors()) {
    EXPECT_TRUE(CPU_ISSET(executor->cpu(), &set));
    cpus.insert(executor->cpu());
    cpu_set_t bound;
    CPU_ZERO(&bound);
    ASSERT_EQ(sched_getaffinity(executor->host_tid(), sizeof(bound), &bound), 0);
    EXPECT_EQ(CPU_COUNT(&bound), 1);
  }
  EXPECT_EQ(cpus.size(), scheduler.executors().size());
}

TEST(Executor, AFiberThatWaitsLongIsTakenOverByAnIdleExecutor) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  Executor& first = *scheduler.executors()[0];
  Executor& second = *scheduler.executors()[1];
  std::atomic<Executor*> ran_on{nullptr};
  RefPtr<Fiber> victim;
  auto hog = Fiber::Spawn(scheduler, {.executor = &first, .pinned = true}, [&] {
    victim = Fiber::Spawn(scheduler, {.executor = &first}, [&] { ran_on = Executor::Current(); });
    // Never gives way; the other executor is awake now and then, and helps itself.
    while (ran_on == nullptr) second.Post([] {});
  });
  hog->Join();
  victim->Join();
  EXPECT_EQ(ran_on, &second);
}

TEST(Executor, FibersThatWaitLongWakeAnIdleExecutor) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  Executor& first = *scheduler.executors()[0];
  std::atomic<int> inside{0};
  auto body = [&] {
    // All spin at the guest boundary until two of them run at the same time: that takes both executors.
    while (inside.load() < 2) {
      ++inside;
      for (MonotonicNs end = MonotonicNow() + 300'000; MonotonicNow() < end && inside.load() < 2;) {
      }
      if (inside.load() >= 2) break;
      --inside;
      Fiber::GuestBoundary();
    }
  };
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 4; ++i) fibers.push_back(Fiber::Spawn(scheduler, {.executor = &first}, body));
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_GE(inside, 2);
}

TEST(Executor, APinnedFiberIsNotTakenOver) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr});
  Executor& first = *scheduler.executors()[0];
  Executor& second = *scheduler.executors()[1];
  std::atomic<Executor*> ran_on{nullptr};
  RefPtr<Fiber> pinned;
  auto hog = Fiber::Spawn(scheduler, {.executor = &first, .pinned = true}, [&] {
    pinned = Fiber::Spawn(scheduler, {.executor = &first, .pinned = true}, [&] { ran_on = Executor::Current(); });
    for (MonotonicNs end = MonotonicNow() + 2'000'000; MonotonicNow() < end;) second.Post([] {});
  });
  hog->Join();
  pinned->Join();
  EXPECT_EQ(ran_on, &first);
}

TEST(Executor, GuestBoundaryLetsInAFiberThatHasWaitedLong) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  bool other_ran = false;
  Fiber::Spawn(scheduler, {}, [&] {
    auto other = Fiber::Spawn(scheduler, {}, [&] { other_ran = true; });
    while (!other_ran) Fiber::GuestBoundary();
  })->Join();
  EXPECT_TRUE(other_ran);
}

// A strategy whose events come from elsewhere, as a platform's do.
class CountingIdle final : public IdleStrategy {
 public:
  void Attach(Executor& executor) override { attached = &executor; }
  void Poll() override { ++polls; }
  void Wait() override {
    std::unique_lock lock(mu);
    ++waits;
    changed.wait(lock, [&] { return woken; });
    woken = false;
  }
  void Wake() override {
    std::lock_guard lock(mu);
    woken = true;
    changed.notify_one();
  }
  Executor* attached = nullptr;
  int polls = 0;
  int waits = 0;

 private:
  std::mutex mu;
  std::condition_variable changed;
  bool woken = false;
};

TEST(Executor, UsesTheIdleStrategyItIsGiven) {
  CountingIdle* idle = nullptr;
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = [&](int) {
                         auto made = std::make_unique<CountingIdle>();
                         idle = made.get();
                         return made;
                       }});
  Fiber::Spawn(scheduler, {}, [&] {
    EXPECT_EQ(idle->attached, Executor::Current());
    EXPECT_EQ(&Executor::Current()->idle(), idle);
    int polls = idle->polls;
    for (int i = 0; i < 100; ++i) Fiber::Yield();
    EXPECT_GT(idle->polls, polls);
    EXPECT_LT(idle->polls, polls + 101);
    int waits = idle->waits;
    Fiber::ParkUntil(MonotonicNow() + 2'000'000);
    EXPECT_GT(idle->waits, waits);
  })->Join();
}

TEST(Scheduler, LeastLoadedSharesWhenAllAreIdle) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  std::set<Executor*> seen;
  for (int i = 0; i < 4; ++i) seen.insert(&scheduler.LeastLoaded());
  EXPECT_EQ(seen.size(), 4u);
}

TEST(Scheduler, AnIdleOneCausesNoWakeUps) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  RefPtr<Fiber> parked[100];
  std::atomic<bool> go{false};
  std::atomic<int> started{0};
  for (auto& fiber : parked) {
    fiber = Fiber::Spawn(scheduler, {}, [&] {
      ++started;
      while (!go) Fiber::Park();
    });
  }
  bool all_asleep = false;
  auto switches = [&] {
    long total = 0;
    all_asleep = started == 100;
    for (const auto& executor : scheduler.executors()) {
      std::string path = "/proc/self/task/" + std::to_string(executor->host_tid()) + "/status";
      FILE* file = fopen(path.c_str(), "r");
      char line[256];
      long n = 0;
      char state = 0;
      while (fgets(line, sizeof(line), file) != nullptr) {
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1) total += n;
        if (sscanf(line, "State: %c", &state) == 1 && state != 'S') all_asleep = false;
      }
      fclose(file);
    }
    return total;
  };
  long before = -1;
  for (long now = switches(); now != before || !all_asleep; now = switches()) {  // until they have settled
    before = now;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(switches(), before);
  go = true;
  for (auto& fiber : parked) fiber->Unpark();
  for (auto& fiber : parked) fiber->Join();
}

}  // namespace
}  // namespace base
