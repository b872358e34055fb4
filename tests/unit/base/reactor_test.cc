#include "base/reactor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "base/fiber.h"
#include "base/unique_fd.h"

namespace base {
namespace {

constexpr MonotonicNs kMs = 1'000'000;

void WaitFor(const std::function<bool()>& condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::microseconds(200));
}

struct Pipe {
  Pipe() {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    read = UniqueFd(fds[0]);
    write = UniqueFd(fds[1]);
  }
  UniqueFd read, write;
};

TEST(Timer, CallsBackOnceAtItsDeadline) {
  Reactor reactor;
  std::atomic<int> calls{0};
  std::atomic<MonotonicNs> called_at{0};
  Timer timer(reactor, [&] {
    called_at = MonotonicNow();
    ++calls;
  });
  MonotonicNs deadline = MonotonicNow() + 3 * kMs;
  timer.Set(deadline);
  WaitFor([&] { return calls > 0; });
  EXPECT_GE(called_at, deadline);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(calls, 1);
}

TEST(Timer, ADeadlineInThePastCallsBackSoon) {
  Reactor reactor;
  for (MonotonicNs deadline : {MonotonicNs{-5}, MonotonicNs{0}, MonotonicNs{1}, MonotonicNow()}) {
    std::atomic<bool> called{false};
    Timer timer(reactor, [&] { called = true; });
    timer.Set(deadline);
    WaitFor([&] { return called.load(); });
  }
}

TEST(Timer, ALaterSettingReplacesAnEarlierOne) {
  Reactor reactor;
  std::atomic<int> calls{0};
  std::atomic<MonotonicNs> called_at{0};
  Timer timer(reactor, [&] {
    called_at = MonotonicNow();
    ++calls;
  });
  timer.Set(MonotonicNow() + 60'000 * kMs);
  MonotonicNs deadline = MonotonicNow() + 2 * kMs;
  timer.Set(deadline);  // earlier
  WaitFor([&] { return calls == 1; });
  EXPECT_GE(called_at, deadline);
  timer.Set(MonotonicNow() + 5 * kMs);
  deadline = MonotonicNow() + 10 * kMs;
  timer.Set(deadline);  // later
  WaitFor([&] { return calls == 2; });
  EXPECT_GE(called_at, deadline);
}

TEST(Timer, ACancelledOneDoesNotCallBack) {
  Reactor reactor;
  std::atomic<int> calls{0}, control{0};
  Timer timer(reactor, [&] { ++calls; });
  Timer later(reactor, [&] { ++control; });
  MonotonicNs now = MonotonicNow();
  timer.Set(now + 5 * kMs);
  later.Set(now + 6 * kMs);
  timer.Cancel();
  WaitFor([&] { return control > 0; });
  EXPECT_EQ(calls, 0);
}

TEST(Timer, FireInOrderOfTheirDeadlines) {
  Reactor reactor;
  std::mutex mu;
  std::vector<int> order;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 50; ++i) {
    timers.push_back(std::make_unique<Timer>(reactor, [&, i] {
      std::lock_guard lock(mu);
      order.push_back(i);
    }));
  }
  std::vector<int> shuffled(50);
  for (int i = 0; i < 50; ++i) shuffled[i] = i;
  std::mt19937 random(1);
  std::shuffle(shuffled.begin(), shuffled.end(), random);
  MonotonicNs start = MonotonicNow() + 5 * kMs;
  for (int i : shuffled) timers[i]->Set(start + i * 1000);
  WaitFor([&] {
    std::lock_guard lock(mu);
    return order.size() == 50;
  });
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(Timer, CanBeSetAgainFromItsCallback) {
  Reactor reactor;
  std::atomic<int> calls{0};
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(reactor, [&] {
    if (++calls < 10) timer->Set(MonotonicNow() + 1000);
  });
  timer->Set(0);
  WaitFor([&] { return calls == 10; });
}

TEST(Timer, OneThatIsAlwaysDueDoesNotKeepDescriptorsWaiting) {
  Reactor reactor;
  std::atomic<bool> stop{false}, readable{false};
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(reactor, [&] {
    if (!stop) timer->Set(0);
  });
  timer->Set(0);
  Pipe pipe;
  FdWatch watch(reactor, pipe.read.get(), EPOLLIN, [&](uint32_t) { readable = true; });
  ASSERT_EQ(write(pipe.write.get(), "x", 1), 1);
  WaitFor([&] { return readable.load(); });
  stop = true;
}

TEST(Timer, MayBeDestroyedByItsOwnCallback) {
  Reactor reactor;
  std::atomic<bool> done{false};
  std::unique_ptr<Timer> timer;
  std::string alive = "captured";
  timer = std::make_unique<Timer>(reactor, [&, alive] {
    timer.reset();
    done = alive == "captured";  // the function lives until it returns
  });
  timer->Set(0);
  WaitFor([&] { return done.load(); });
}

TEST(Timer, TheDestructorWaitsForARunningCallback) {
  Reactor reactor;
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> started{false}, finished{false};
    {
      Timer timer(reactor, [&] {
        started = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        finished = true;
      });
      timer.Set(0);
      WaitFor([&] { return started.load(); });
    }
    EXPECT_TRUE(finished);
  }
}

TEST(TimerStress, SetCancelAndDestroyFromManyThreads) {
  Reactor reactor;
  std::atomic<int> calls{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int round = 0; round < 200; ++round) {
        std::atomic<bool> alive{true};
        {
          Timer timer(reactor, [&] {
            EXPECT_TRUE(alive);
            ++calls;
          });
          for (int i = 0; i < 5; ++i) {
            timer.Set(MonotonicNow() + random() % 50'000);
            if (random() % 4 == 0) timer.Cancel();
            if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 60));
          }
        }
        alive = false;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_GT(calls, 0);
}

TEST(FdWatch, ReportsWhatIsReadyAtTheStartAndEveryEdgeAfter) {
  Reactor reactor;
  Pipe pipe;
  ASSERT_EQ(write(pipe.write.get(), "x", 1), 1);
  std::atomic<int> calls{0};
  FdWatch watch(reactor, pipe.read.get(), EPOLLIN, [&](uint32_t events) {
    EXPECT_TRUE(events & EPOLLIN);
    ++calls;
  });
  EXPECT_TRUE(watch.supported());
  WaitFor([&] { return calls == 1; });
  ASSERT_EQ(write(pipe.write.get(), "y", 1), 1);
  WaitFor([&] { return calls == 2; });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(calls, 2);  // level-triggered would spin
}

TEST(FdWatch, ReportsHangUp) {
  Reactor reactor;
  Pipe pipe;
  std::atomic<uint32_t> seen{0};
  FdWatch watch(reactor, pipe.read.get(), EPOLLIN, [&](uint32_t events) { seen |= events; });
  pipe.write.reset();
  WaitFor([&] { return (seen & EPOLLHUP) != 0; });
}

TEST(FdWatch, ARegularFileIsNotSupported) {
  Reactor reactor;
  UniqueFd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  FdWatch watch(reactor, file.get(), EPOLLIN, [](uint32_t) { ADD_FAILURE(); });
  EXPECT_FALSE(watch.supported());
}

TEST(FdWatch, NoCallbackRunsAfterTheDestructor) {
  Reactor reactor;
  for (int round = 0; round < 200; ++round) {
    int sockets[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets), 0);
    UniqueFd a(sockets[0]), b(sockets[1]);
    std::atomic<bool> alive{true};
    {
      FdWatch watch(reactor, a.get(), EPOLLIN | EPOLLOUT, [&](uint32_t) { EXPECT_TRUE(alive); });
      ASSERT_EQ(write(b.get(), "x", 1), 1);
    }
    alive = false;
  }
}

TEST(FdWatch, MayBeDestroyedByItsOwnCallback) {
  Reactor reactor;
  Pipe pipe;
  std::unique_ptr<FdWatch> watch;
  std::atomic<bool> done{false};
  std::mutex mu;  // the callback may come before the assignment
  std::unique_lock lock(mu);
  watch = std::make_unique<FdWatch>(reactor, pipe.write.get(), EPOLLOUT, [&](uint32_t) {
    std::lock_guard inside(mu);
    watch.reset();
    done = true;
  });
  lock.unlock();
  WaitFor([&] { return done.load(); });
}

TEST(Reactor, TimersOfManyFibers) {
  std::atomic<int> timed_out{0};
  RunInFiber(
      [&] {
        std::vector<RefPtr<Fiber>> fibers;
        for (int i = 0; i < 100; ++i) {
          fibers.push_back(Fiber::Spawn(Fiber::Current()->executor().scheduler(), {}, [&, i] {
            for (int round = 0; round < 5; ++round) {
              MonotonicNs deadline = MonotonicNow() + (i * 37 + round * 11) % 100 * 10'000;
              while (Fiber::ParkUntil(deadline)) {
              }
            }
            ++timed_out;
          }));
        }
        for (auto& fiber : fibers) fiber->Join();
      },
      4);
  EXPECT_EQ(timed_out, 100);
}

}  // namespace
}  // namespace base
