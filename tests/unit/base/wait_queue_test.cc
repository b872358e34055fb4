#include "base/wait_queue.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"

namespace base {
namespace {

TEST(WaitQueue, CallsThoseWhoseMaskMeetsTheEvents) {
  WaitQueue queue;
  EventMask in_seen = 0, out_seen = 0;
  WaitEntry in(kEventIn, [&](EventMask events) { in_seen |= events; });
  WaitEntry out(kEventOut, [&](EventMask events) { out_seen |= events; });
  EXPECT_TRUE(queue.empty());
  ScopedWait wait_in(queue, in);
  ScopedWait wait_out(queue, out);
  EXPECT_FALSE(queue.empty());
  queue.Notify(kEventIn);
  EXPECT_EQ(in_seen, kEventIn);
  EXPECT_EQ(out_seen, 0u);
  queue.Notify(kEventHup);  // always counts, as in poll(2)
  EXPECT_EQ(in_seen, kEventIn | kEventHup);
  EXPECT_EQ(out_seen, kEventHup);
}

TEST(WaitQueue, RemovedEntriesAreNotCalled) {
  WaitQueue queue;
  int calls = 0;
  WaitEntry a(kEventIn, [&](EventMask) { ++calls; });
  WaitEntry b(kEventIn, [&](EventMask) { ++calls; });
  WaitEntry c(kEventIn, [&](EventMask) { ++calls; });
  queue.Add(a);
  queue.Add(b);
  queue.Add(c);
  queue.Remove(b);
  queue.Notify(kEventIn);
  EXPECT_EQ(calls, 2);
  queue.Remove(b);  // not linked: nothing happens
  queue.Remove(a);
  queue.Remove(c);
  EXPECT_TRUE(queue.empty());
  queue.Add(b);  // can be used again
  queue.Notify(kEventIn);
  EXPECT_EQ(calls, 3);
  queue.Remove(b);
}

TEST(WaitQueue, AnExclusiveEntryMayLeaveItToTheNext) {
  WaitQueue queue;
  int calls = 0;
  WaitEntry* first = nullptr;
  WaitEntry a(kEventIn, [&](EventMask) {
    ++calls;
    first->Decline();
  });
  first = &a;
  WaitEntry b(kEventIn, [&](EventMask) { ++calls; }), c(kEventIn, [&](EventMask) { ++calls; });
  for (WaitEntry* entry : {&a, &b, &c}) entry->set_exclusive();
  EXPECT_FALSE(queue.Notify(kEventIn));
  ScopedWait wait_a(queue, a), wait_b(queue, b), wait_c(queue, c);
  EXPECT_TRUE(queue.Notify(kEventIn));
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(queue.Notify(kEventOut));
}

TEST(WaitQueue, OnlyOneExclusiveEntryIsCalled) {
  WaitQueue queue;
  int shared = 0, exclusive = 0;
  WaitEntry a(kEventIn, [&](EventMask) { ++exclusive; });
  WaitEntry b(kEventIn, [&](EventMask) { ++exclusive; });
  WaitEntry c(kEventIn, [&](EventMask) { ++shared; });
  a.set_exclusive();
  b.set_exclusive();
  ScopedWait wait_a(queue, a);
  ScopedWait wait_b(queue, b);
  ScopedWait wait_c(queue, c);
  queue.Notify(kEventIn);
  EXPECT_EQ(exclusive, 1);
  EXPECT_EQ(shared, 1);
}

TEST(WaitQueueStress, NoWakeUpIsLost) {
  constexpr int kItems = 5000;
  Scheduler scheduler({.executors = 4, .bind_cpus = false, .idle = nullptr});
  WaitQueue queue;
  std::atomic<int> produced{0}, consumed{0};
  std::vector<RefPtr<Fiber>> consumers;
  for (int i = 0; i < 6; ++i) {
    consumers.push_back(Fiber::Spawn(scheduler, {}, [&] {
      for (;;) {
        WaitEntry entry(kEventIn);
        ScopedWait wait(queue, entry);
        for (;;) {
          int n = consumed;
          if (n >= kItems) return;
          if (n >= produced) {
            Fiber::Park();
            continue;
          }
          if (consumed.compare_exchange_strong(n, n + 1)) {
            if (n + 1 == kItems) queue.Notify(kEventHup);
            break;
          }
        }
      }
    }));
  }
  std::thread producer([&] {
    for (int i = 0; i < kItems; ++i) {
      ++produced;
      queue.Notify(kEventIn);
    }
  });
  producer.join();
  for (auto& consumer : consumers) consumer->Join();
  EXPECT_EQ(consumed, kItems);
}

}  // namespace
}  // namespace base
