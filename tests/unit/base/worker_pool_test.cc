#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace {

TEST(WorkerPool, RunsWorkOnAnotherThreadAndParksTheFiber) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::atomic<bool> blocked{true};
  auto waiter = Fiber::Spawn(scheduler, {}, [&] {
    long executor_tid = RawSyscall(SYS_gettid);
    scheduler.workers().Run([&] {
      EXPECT_NE(RawSyscall(SYS_gettid), executor_tid);
      EXPECT_EQ(Fiber::Current(), nullptr);
      while (blocked) std::this_thread::yield();
    });
    EXPECT_FALSE(blocked);
  });
  // The only executor is free meanwhile.
  Fiber::Spawn(scheduler, {}, [&] { blocked = false; })->Join();
  waiter->Join();
}

TEST(WorkerPool, OutsideOfAFiberRunsInPlace) {
  WorkerPool pool(2);
  std::thread::id ran_on;
  pool.Run([&] { ran_on = std::this_thread::get_id(); });
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(WorkerPool, NeverHasMoreThreadsThanItsLimit) {
  Scheduler scheduler({.executors = 2, .bind_cpus = false, .idle = nullptr, .max_workers = 3});
  std::atomic<int> running{0}, most{0}, done{0};
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 40; ++i) {
    fibers.push_back(Fiber::Spawn(scheduler, {}, [&] {
      scheduler.workers().Run([&] {
        int now = ++running;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        --running;
        ++done;
      });
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(done, 40);
  EXPECT_LE(most, 3);
}

TEST(WorkerPool, WorksAgainAfterItsThreadsHaveEnded) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  auto run = [&] {
    bool ran = false;
    Fiber::Spawn(scheduler, {}, [&] { scheduler.workers().Run([&] { ran = true; }); })->Join();
    return ran;
  };
  EXPECT_TRUE(run());
  std::this_thread::sleep_for(std::chrono::milliseconds(1300));
  EXPECT_TRUE(run());
}

}  // namespace
}  // namespace base
