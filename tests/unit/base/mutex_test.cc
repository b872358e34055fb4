#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace base {
namespace {

TEST(Mutex, ExcludesThreads) {
  Mutex mu;
  int counter = 0;  // guarded by mu
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20000; ++round) {
        MutexLock lock(mu);
        ++counter;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter, 80000);
}

TEST(Mutex, CountsContentionAndSleepsThroughALongHold) {
  Mutex mu;
  uint64_t before = Mutex::TotalContention();
  mu.Lock();
  std::thread waiter([&] { MutexLock lock(mu); });
  while (Mutex::TotalContention() == before) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  mu.Unlock();
  waiter.join();
  EXPECT_GT(Mutex::TotalContention(), before);
}

TEST(Mutex, TryLockFailsWhileHeld) {
  Mutex mu;
  if (!mu.TryLock()) {
    FAIL() << "nobody holds it";
  }
  std::thread([&] {
    bool locked = mu.TryLock();
    EXPECT_FALSE(locked);
    if (locked) mu.Unlock();
  }).join();
  mu.Unlock();
}

TEST(Mutex, PairsAreTakenInOneOrderWhicheverWayTheyAreNamed) {
  Mutex a, b;
  int counter = 0;  // guarded by a and b
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5000; ++round) {
        MutexPairLock lock(i % 2 == 0 ? a : b, i % 2 == 0 ? b : a);
        ++counter;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter, 20000);
  MutexPairLock same(a, a);
}

#ifndef NDEBUG
TEST(Mutex, CountsThoseHeldByTheThread) {
  Mutex a, b;
  EXPECT_EQ(Mutex::HeldByThisThread(), 0);
  {
    MutexLock lock_a(a);
    MutexLock lock_b(b);
    EXPECT_EQ(Mutex::HeldByThisThread(), 2);
    std::thread([] { EXPECT_EQ(Mutex::HeldByThisThread(), 0); }).join();
  }
  EXPECT_EQ(Mutex::HeldByThisThread(), 0);
}
#endif

}  // namespace
}  // namespace base
