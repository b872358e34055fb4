#include "sentry/vfs/file_locks.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/executor.h"
#include "base/fiber.h"
#include "sentry/vfs/path.h"

namespace sentry {
namespace {

// Waits for real, on a fiber, until told that a signal came.
class TestBlocker : public Blocker {
 public:
  Result<void> BlockUntil(base::WaitQueue& queue, base::EventMask mask, const std::function<bool()>& ready,
                          base::MonotonicNs deadline) override {
    base::WaitEntry entry(mask);
    base::ScopedWait wait(queue, entry);
    ++waits;
    for (;;) {
      if (ready()) return {};
      if (interrupted) return Errno(base::ERESTARTSYS_);
      base::Fiber::Park();
    }
  }
  std::atomic<int> waits{0};
  std::atomic<bool> interrupted{false};
};

int a, b, c;  // owners

RecordLock Lock(LockType type, int64_t start, int64_t end, const void* owner) {
  return {.type = type, .range = {start, end}, .owner = owner, .ofd = false, .pid = 1};
}

TEST(FileLocks, RecordLocksConflictByRangeAndOwner) {
  FileLocks locks;
  ASSERT_TRUE(locks.SetLock(Lock(LockType::kWrite, 10, 19, &a), nullptr).ok());
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 10, 10, &b), nullptr).failed_with(EAGAIN));
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kWrite, 0, 9, &b), nullptr).ok());
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 12, 15, &a), nullptr).ok());  // downgrades the middle
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 12, 15, &b), nullptr).ok());
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 11, 15, &b), nullptr).failed_with(EAGAIN));
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kUnlock, 0, INT64_MAX, &a), nullptr).ok());
  EXPECT_TRUE(locks.SetLock(Lock(LockType::kWrite, 0, INT64_MAX, &b), nullptr).ok());
  auto found = locks.TestLock(Lock(LockType::kRead, 5, 5, &c));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->owner, &b);
  EXPECT_EQ(found->range.end, INT64_MAX);
  EXPECT_FALSE(locks.TestLock(Lock(LockType::kRead, 5, 5, &b)).has_value());
  EXPECT_EQ(locks.List().records.size(), 1u);  // merged
  locks.ReleaseRecords(&b);
  EXPECT_FALSE(locks.TestLock(Lock(LockType::kWrite, 5, 5, &c)).has_value());
}

TEST(FileLocks, NeighboursMergeAndUnlockSplits) {
  FileLocks locks;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(locks.SetLock(Lock(LockType::kRead, i * 10, i * 10 + 9, &a), nullptr).ok());
  EXPECT_EQ(locks.List().records.size(), 1u);
  ASSERT_TRUE(locks.SetLock(Lock(LockType::kUnlock, 40, 49, &a), nullptr).ok());
  ASSERT_EQ(locks.List().records.size(), 2u);
  EXPECT_EQ(locks.List().records[0].range.end, 39);
  EXPECT_EQ(locks.List().records[1].range.start, 50);
}

TEST(FileLocks, FlockSharesAndExcludes) {
  FileLocks locks;
  ASSERT_TRUE(locks.Flock(&a, LockType::kRead, nullptr).ok());
  ASSERT_TRUE(locks.Flock(&b, LockType::kRead, nullptr).ok());
  EXPECT_TRUE(locks.Flock(&c, LockType::kWrite, nullptr).failed_with(EWOULDBLOCK));
  locks.ReleaseFlock(&b);
  ASSERT_TRUE(locks.Flock(&a, LockType::kWrite, nullptr).ok());
  EXPECT_TRUE(locks.Flock(&b, LockType::kRead, nullptr).failed_with(EWOULDBLOCK));
  ASSERT_TRUE(locks.Flock(&a, LockType::kUnlock, nullptr).ok());
  EXPECT_TRUE(locks.Flock(&b, LockType::kRead, nullptr).ok());
}

TEST(FileLocks, WaitersGetTheLockWhenItIsReleased) {
  FileLocks locks;
  base::RunInFiber([&] {
    ASSERT_TRUE(locks.SetLock(Lock(LockType::kWrite, 0, 9, &a), nullptr).ok());
    ASSERT_TRUE(locks.Flock(&a, LockType::kWrite, nullptr).ok());
    TestBlocker record, flock;
    auto& scheduler = base::Fiber::Current()->executor().scheduler();
    auto one = base::Fiber::Spawn(scheduler, {},
                                  [&] { EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 5, 5, &b), &record).ok()); });
    auto two = base::Fiber::Spawn(scheduler, {}, [&] { EXPECT_TRUE(locks.Flock(&b, LockType::kWrite, &flock).ok()); });
    while (record.waits == 0 || flock.waits == 0) base::Fiber::Yield();
    locks.ReleaseRecords(&a);
    locks.ReleaseFlock(&a);
    one->Join();
    two->Join();
  });
  EXPECT_EQ(locks.List().records.size(), 1u);
}

TEST(FileLocks, AWaitEndsWithASignal) {
  FileLocks locks;
  base::RunInFiber([&] {
    ASSERT_TRUE(locks.SetLock(Lock(LockType::kWrite, 0, 9, &a), nullptr).ok());
    TestBlocker blocker;
    auto fiber = base::Fiber::Spawn(base::Fiber::Current()->executor().scheduler(), {}, [&] {
      EXPECT_TRUE(locks.SetLock(Lock(LockType::kRead, 5, 5, &b), &blocker).failed_with(base::ERESTARTSYS_));
    });
    while (blocker.waits == 0) base::Fiber::Yield();
    blocker.interrupted = true;
    fiber->Unpark();
    fiber->Join();
  });
}

TEST(FileLocks, DeadlocksAreRefusedOverSeveralFiles) {
  FileLocks x, y;
  base::RunInFiber([&] {
    ASSERT_TRUE(x.SetLock(Lock(LockType::kWrite, 0, 0, &a), nullptr).ok());
    ASSERT_TRUE(y.SetLock(Lock(LockType::kWrite, 0, 0, &b), nullptr).ok());
    TestBlocker blocker;
    auto fiber = base::Fiber::Spawn(base::Fiber::Current()->executor().scheduler(), {},
                                    [&] { EXPECT_TRUE(y.SetLock(Lock(LockType::kWrite, 0, 0, &a), &blocker).ok()); });
    while (blocker.waits == 0) base::Fiber::Yield();
    TestBlocker mine;
    EXPECT_TRUE(x.SetLock(Lock(LockType::kWrite, 0, 0, &b), &mine).failed_with(EDEADLK));
    y.ReleaseRecords(&b);
    fiber->Join();
  });
}

}  // namespace
}  // namespace sentry
