// Threads as the C library makes them: creation, join, cancellation, conditions, barriers, thread-local storage,
// limits.
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Thread, SharesTheProcessAndHasItsOwnTid) {
  pid_t tid = 0, pid = 0;
  std::thread t([&] {
    tid = gettid();
    pid = getpid();
  });
  t.join();
  EXPECT_EQ(pid, getpid());
  EXPECT_NE(tid, gettid());
}

TEST(Thread, JoinReturnsTheResult) {
  pthread_t thread;
  int argument;
  ASSERT_EQ(pthread_create(
                &thread, nullptr, [](void* p) { return p; }, &argument),
            0);
  void* result;
  ASSERT_EQ(pthread_join(thread, &result), 0);
  EXPECT_EQ(result, &argument);
}

TEST(Thread, AppearsInProcUntilItEnds) {
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread t([&] {
    tid = gettid();
    while (!stop) SleepMs(1);
  });
  ASSERT_TRUE(Eventually([&] { return tid != 0; }));
  std::string path = "/proc/self/task/" + std::to_string(tid);
  EXPECT_OK(access(path.c_str(), F_OK));
  EXPECT_OK(syscall(SYS_tgkill, getpid(), tid.load(), 0));
  stop = true;
  t.join();
  EXPECT_TRUE(Eventually([&] { return access(path.c_str(), F_OK) != 0; }));
  EXPECT_ERRNO(syscall(SYS_tgkill, getpid(), tid.load(), 0), ESRCH);
}

TEST(Thread, TwoHundredAtOnce) {
  std::mutex m;
  std::condition_variable c;
  int arrived = 0;
  std::set<pid_t> tids;
  std::vector<std::thread> threads;
  for (int i = 0; i < 200; ++i) {
    threads.emplace_back([&] {
      std::unique_lock<std::mutex> lock(m);
      tids.insert(gettid());
      ++arrived;
      c.notify_all();
      c.wait(lock, [&] { return arrived == 200; });
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(tids.size(), 200u);
}

TEST(Thread, CreationAndEndInQuickSuccession) {
  std::atomic<int> ran{0};
  for (int i = 0; i < 500; ++i) {
    std::thread t([&] { ++ran; });
    t.join();
  }
  EXPECT_EQ(ran, 500);
}

TEST(Thread, DetachedThreadsGiveEverythingBack) {
  std::atomic<int> ran{0};
  for (int i = 0; i < 100; ++i) std::thread([&] { ++ran; }).detach();
  EXPECT_TRUE(Eventually([&] { return ran == 100; }));
  EXPECT_TRUE(Eventually([] { return ReadFile("/proc/self/status").find("Threads:\t1\n") != std::string::npos; }));
}

thread_local int tls_value = 5;
thread_local std::vector<int> tls_object = {1, 2, 3};

TEST(Tls, EveryThreadHasItsOwn) {
  tls_value = 6;
  int seen = 0;
  size_t size = 0;
  std::thread t([&] {
    seen = tls_value++;
    tls_object.push_back(4);
    size = tls_object.size();
  });
  t.join();
  EXPECT_EQ(seen, 5);
  EXPECT_EQ(size, 4u);
  EXPECT_EQ(tls_value, 6);
  EXPECT_EQ(tls_object.size(), 3u);
}

TEST(Cancel, InterruptsABlockingCall) {
  Pipe p = MakePipe();
  static int fd;
  fd = p.read_end.get();
  static std::atomic<bool> cleaned;
  cleaned = false;
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void*) -> void* {
                  pthread_cleanup_push([](void*) { cleaned = true; }, nullptr);
                  char c;
                  ssize_t ignored = read(fd, &c, 1);
                  (void)ignored;
                  pthread_cleanup_pop(0);
                  return nullptr;
                },
                nullptr),
            0);
  SleepMs(20);
  ASSERT_EQ(pthread_cancel(thread), 0);
  void* result;
  ASSERT_EQ(pthread_join(thread, &result), 0);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_TRUE(cleaned);
}

TEST(Condition, TimedWaitsEnd) {
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += 5'000'000;
  if (until.tv_nsec >= 1'000'000'000) {
    until.tv_nsec -= 1'000'000'000;
    ++until.tv_sec;
  }
  pthread_mutex_lock(&m);
  EXPECT_EQ(pthread_cond_timedwait(&c, &m, &until), ETIMEDOUT);
  pthread_mutex_unlock(&m);
}

TEST(Condition, AProducerAndManyConsumersLoseNothing) {
  std::mutex m;
  std::condition_variable c;
  std::vector<int> queue;
  bool done = false;
  std::atomic<long> sum{0};
  std::vector<std::thread> consumers;
  for (int i = 0; i < 4; ++i) {
    consumers.emplace_back([&] {
      for (;;) {
        std::unique_lock<std::mutex> lock(m);
        c.wait(lock, [&] { return done || !queue.empty(); });
        if (queue.empty()) return;
        sum += queue.back();
        queue.pop_back();
      }
    });
  }
  for (int i = 1; i <= 2000; ++i) {
    std::lock_guard<std::mutex> lock(m);
    queue.push_back(i);
    c.notify_one();
  }
  {
    std::lock_guard<std::mutex> lock(m);
    done = true;
  }
  c.notify_all();
  for (auto& t : consumers) t.join();
  EXPECT_EQ(sum, 2001000);
}

TEST(Barrier, LetsExactlyOneThreadBeSpecial) {
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 6);
  std::atomic<int> serial{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) ++serial;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(serial, 50);
}

TEST(RwLock, WritersExclude) {
  pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
  long a = 0, b = 0;
  std::atomic<bool> torn{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 500; ++n) {
        if (i < 2) {
          pthread_rwlock_wrlock(&lock);
          ++a;
          ++b;
        } else {
          pthread_rwlock_rdlock(&lock);
          if (a != b) torn = true;
        }
        pthread_rwlock_unlock(&lock);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_FALSE(torn);
  EXPECT_EQ(a, 1000);
}

TEST(Semaphore, NamedAndUnnamedOnesWorkBetweenProcesses) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* sem = memory.as<sem_t>();
  ASSERT_OK(sem_init(sem, 1, 0));
  pid_t pid = ForkChild([&] {
    for (int i = 0; i < 100; ++i) CHILD_CHECK(sem_wait(sem) == 0);
  });
  for (int i = 0; i < 100; ++i) ASSERT_OK(sem_post(sem));
  EXPECT_EXITED(WaitFor(pid), 0);
  std::string name = "/conformance-" + std::to_string(getpid());
  sem_t* named = sem_open(name.c_str(), O_CREAT | O_EXCL, 0600, 1);
  ASSERT_NE(named, SEM_FAILED);
  EXPECT_OK(sem_unlink(name.c_str()));
  EXPECT_OK(sem_wait(named));
  timespec past = {1, 0};
  EXPECT_ERRNO(sem_timedwait(named, &past), ETIMEDOUT);
  sem_close(named);
}

TEST(Thread, NamesAreSeenInProc) {
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread t([&] {
    prctl(PR_SET_NAME, "worker-thread-with-long-name");
    tid = gettid();
    while (!stop) SleepMs(1);
  });
  ASSERT_TRUE(Eventually([&] { return tid != 0; }));
  EXPECT_EQ(ReadFile("/proc/self/task/" + std::to_string(tid) + "/comm"), "worker-thread-w\n");
  stop = true;
  t.join();
}

TEST(Thread, StackSizeFollowsItsAttribute) {
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 32 << 20);
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, &attr,
                [](void*) -> void* {
                  volatile char big[30 << 20];
                  for (size_t i = 0; i < sizeof(big); i += 4096) big[i] = 1;
                  return reinterpret_cast<void*>(1);
                },
                nullptr),
            0);
  void* result;
  pthread_join(thread, &result);
  EXPECT_NE(result, nullptr);
}

TEST(Thread, AnExceptionOfAnotherThreadIsCaughtThere) {
  std::string caught;
  std::thread t([&] {
    try {
      throw std::runtime_error("in a thread");
    } catch (const std::exception& e) {
      caught = e.what();
    }
  });
  t.join();
  EXPECT_EQ(caught, "in a thread");
}

TEST(Thread, VectorStateSurvivesManySwitches) {
  // Each thread keeps its own values in vector registers while all of them yield.
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const double value = 1.5 * i;
      for (int n = 0; n < 500; ++n) {
        double out;
        asm volatile(
            "movsd %1, %%xmm7\n"
            "mov $24, %%eax\n"  // sched_yield
            "syscall\n"
            "movsd %%xmm7, %0"
            : "=m"(out)
            : "m"(value)
            : "rax", "rcx", "r11", "xmm7", "memory");
        if (out != value) ++wrong;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace conformance
