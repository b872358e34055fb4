#include "base/fiber_lock.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"

namespace base {
namespace {

TEST(FiberMutex, ExcludesFibersAndThreads) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  FiberMutex mu;
  int counter = 0;  // guarded by mu
  auto add = [&] {
    for (int i = 0; i < 500; ++i) {
      FiberMutexLock lock(mu);
      int seen = counter;
      if (Fiber::Current() != nullptr && i % 8 == 0) Fiber::Yield();  // held across a wait
      counter = seen + 1;
    }
  };
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 8; ++i) fibers.push_back(Fiber::Spawn(scheduler, {}, add));
  std::thread thread(add);
  thread.join();
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(counter, 9 * 500);
}

TEST(FiberMutex, TryLockFailsWhileHeld) {
  FiberMutex mu;
  for (int round = 0; round < 2; ++round) {
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
}

TEST(FiberMutex, ServesWaitersInTheOrderTheyCame) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::string order;
  Fiber::Spawn(scheduler, {}, [&] {
    FiberMutex mu;
    mu.Lock();
    std::vector<RefPtr<Fiber>> fibers;
    for (char c : {'a', 'b', 'c'}) {
      fibers.push_back(Fiber::Spawn(scheduler, {}, [&, c] {
        FiberMutexLock lock(mu);
        order += c;
      }));
      Fiber::Yield();
    }
    mu.Unlock();
    bool overtook = mu.TryLock();  // fails, for it was handed over
    EXPECT_FALSE(overtook);
    if (overtook) mu.Unlock();
    for (auto& fiber : fibers) fiber->Join();
  })->Join();
  EXPECT_EQ(order, "abc");
}

TEST(FiberMutex, AnUnrelatedUnparkDoesNotLetAWaiterIn) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  Fiber::Spawn(scheduler, {}, [&] {
    FiberMutex mu;
    mu.Lock();
    bool inside = false;
    auto waiter = Fiber::Spawn(scheduler, {}, [&] {
      FiberMutexLock lock(mu);
      inside = true;
    });
    Fiber::Yield();
    for (int i = 0; i < 3; ++i) {
      waiter->Unpark();
      Fiber::Yield();
      EXPECT_FALSE(inside);
    }
    mu.Unlock();
    waiter->Join();
    EXPECT_TRUE(inside);
  })->Join();
}

TEST(FiberMutex, PairsAreTakenInOneOrderWhicheverWayTheyAreNamed) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  FiberMutex a, b;
  int moved = 0;  // guarded by a and b
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 8; ++i) {
    fibers.push_back(Fiber::Spawn(scheduler, {}, [&, i] {
      for (int round = 0; round < 200; ++round) {
        FiberMutexPairLock lock(i % 2 == 0 ? a : b, i % 2 == 0 ? b : a);
        ++moved;
        if (round % 16 == 0) Fiber::Yield();
      }
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(moved, 1600);
  FiberMutexPairLock same(a, a);
}

TEST(FiberRwLock, WritersExcludeEverybody) {
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  FiberRwLock lock;
  int value = 0;  // guarded by lock
  std::atomic<int> readers{0};
  std::vector<RefPtr<Fiber>> fibers;
  for (int i = 0; i < 8; ++i) {
    fibers.push_back(Fiber::Spawn(scheduler, {}, [&, i] {
      for (int round = 0; round < 300; ++round) {
        if ((i + round) % 4 == 0) {
          WriterLock writer(lock);
          EXPECT_EQ(readers, 0);
          int seen = value;
          Fiber::Yield();
          value = seen + 1;
        } else {
          ReaderLock reader(lock);
          ++readers;
          int seen = value;
          Fiber::Yield();
          EXPECT_EQ(value, seen);
          --readers;
        }
      }
    }));
  }
  for (auto& fiber : fibers) fiber->Join();
  EXPECT_EQ(value, 8 * 300 / 4);
}

TEST(FiberRwLock, ReadersShare) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  bool both_inside = false;
  Fiber::Spawn(scheduler, {}, [&] {
    FiberRwLock lock;
    ReaderLock held(lock);
    Fiber::Spawn(scheduler, {}, [&] {
      ReaderLock also_held(lock);
      both_inside = true;
    })->Join();
  })->Join();
  EXPECT_TRUE(both_inside);
}

TEST(FiberRwLock, AWriterIsNotStarvedByReadersThatComeLater) {
  Scheduler scheduler({.executors = 1, .bind_cpus = false, .idle = nullptr});
  std::string order;
  Fiber::Spawn(scheduler, {}, [&] {
    FiberRwLock lock;
    lock.LockShared();
    auto writer = Fiber::Spawn(scheduler, {}, [&] {
      WriterLock held(lock);
      order += 'w';
    });
    Fiber::Yield();
    auto reader = Fiber::Spawn(scheduler, {}, [&] {
      ReaderLock held(lock);
      order += 'r';
    });
    Fiber::Yield();
    EXPECT_EQ(order, "");
    lock.UnlockShared();
    writer->Join();
    reader->Join();
  })->Join();
  EXPECT_EQ(order, "wr");
}

TEST(FiberRwLock, WorksOutsideOfFibers) {
  FiberRwLock lock;
  int value = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 1000; ++round) {
        if (round % 2 == 0) {
          WriterLock held(lock);
          ++value;
        } else {
          ReaderLock held(lock);
          EXPECT_GE(value, 0);
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(value, 1500);
}

}  // namespace
}  // namespace base
