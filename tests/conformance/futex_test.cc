// futex in all its operations, and the robust list.
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

long Futex(void* word, int op, uint32_t value, const void* timeout = nullptr, void* word2 = nullptr,
           uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}
// The fourth argument is a number in the operations that requeue.
long FutexRequeue(void* word, int op, uint32_t wake, uint64_t requeue, void* word2, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, wake, requeue, word2, value3);
}

constexpr int kWait = FUTEX_WAIT_PRIVATE, kWake = FUTEX_WAKE_PRIVATE;

timespec In(int64_t ns, clockid_t clock = CLOCK_MONOTONIC) {
  timespec t;
  clock_gettime(clock, &t);
  ns += t.tv_nsec;
  return {t.tv_sec + ns / 1'000'000'000, ns % 1'000'000'000};
}

TEST(Wait, FailsWithEAGAINWhenTheValueDiffers) {
  uint32_t word = 1;
  EXPECT_ERRNO(Futex(&word, kWait, 2), EAGAIN);
  EXPECT_ERRNO(Futex(&word, FUTEX_WAIT, 2), EAGAIN);
}

TEST(Wait, TimesOut) {
  uint32_t word = 0;
  timespec time = {0, 5'000'000};
  const int64_t start = NowNs();
  EXPECT_ERRNO(Futex(&word, kWait, 0, &time), ETIMEDOUT);
  EXPECT_GE(NowNs() - start, 5'000'000);
  timespec zero = {};
  EXPECT_ERRNO(Futex(&word, kWait, 0, &zero), ETIMEDOUT);
}

TEST(Wait, AbsoluteTimeoutsOfBothClocks) {
  uint32_t word = 0;
  timespec monotonic = In(5'000'000), real = In(5'000'000, CLOCK_REALTIME), past = {1, 0};
  EXPECT_ERRNO(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &monotonic, nullptr, ~0u), ETIMEDOUT);
  EXPECT_ERRNO(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &real, nullptr, ~0u), ETIMEDOUT);
  EXPECT_ERRNO(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &past, nullptr, ~0u), ETIMEDOUT);
}

TEST(Wait, ChecksItsArguments) {
  uint32_t word[2] = {0, 0};
  timespec bad = {0, 1'000'000'000}, negative = {-1, 0};
  EXPECT_ERRNO(Futex(&word, kWait, 0, &bad), EINVAL);
  EXPECT_ERRNO(Futex(&word, kWait, 0, &negative), EINVAL);
  EXPECT_ERRNO(Futex(&word, kWait, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(Futex(reinterpret_cast<char*>(&word) + 1, kWait, 0), EINVAL) << "unaligned";
  EXPECT_ERRNO(Futex(BadPointer(), kWait, 0), EFAULT);
  EXPECT_ERRNO(Futex(KernelPointer(), kWait, 0), EFAULT);
  EXPECT_ERRNO(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 0), EINVAL) << "an empty bit set";
  EXPECT_ERRNO(Futex(&word, 99, 0), ENOSYS);
  EXPECT_ERRNO(Futex(reinterpret_cast<char*>(&word) + 2, kWake, 1), EINVAL);
}

TEST(Wait, AReadOnlyWordIsEnoughForAPrivateFutex) {
  EXPECT_ERRNO(Futex(ReadOnlyPage(), kWait, 1), EAGAIN);
  EXPECT_EQ(Futex(ReadOnlyPage(), kWake, 1), 0);
}

class Waiters {
 public:
  // `n` threads that wait while *word == 0.
  Waiters(int n, std::atomic<uint32_t>* word, int op = kWait, uint32_t bits = ~0u) {
    for (int i = 0; i < n; ++i) {
      threads_.emplace_back([=, this] {
        tids_[i] = gettid();
        if (Futex(word, op, 0, nullptr, nullptr, bits) == 0) ++woken;
      });
    }
    for (int i = 0; i < n; ++i) {
      EXPECT_TRUE(Eventually([&] { return tids_[i] != 0; }));
      EXPECT_TRUE(WaitUntilBlocked(tids_[i]));
    }
  }
  ~Waiters() {
    for (auto& t : threads_) t.join();
  }
  std::atomic<int> woken{0};

 private:
  std::atomic<pid_t> tids_[64] = {};
  std::vector<std::thread> threads_;
};

TEST(Wake, WakesAtMostAsManyAsAsked) {
  std::atomic<uint32_t> word{0};
  Waiters waiters(5, &word);
  EXPECT_EQ(Futex(&word, kWake, 2), 2);
  EXPECT_TRUE(Eventually([&] { return waiters.woken == 2; }));
  EXPECT_EQ(Futex(&word, kWake, INT_MAX), 3);
  EXPECT_TRUE(Eventually([&] { return waiters.woken == 5; }));
  EXPECT_EQ(Futex(&word, kWake, INT_MAX), 0);
}

TEST(Wake, BitsetsSelect) {
  std::atomic<uint32_t> word{0};
  Waiters a(1, &word, FUTEX_WAIT_BITSET_PRIVATE, 1), b(2, &word, FUTEX_WAIT_BITSET_PRIVATE, 2);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, nullptr, nullptr, 4), 0);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, nullptr, nullptr, 2), 2);
  EXPECT_EQ(Futex(&word, kWake, INT_MAX), 1);
}

TEST(Wake, PrivateAndSharedWordsDoNotMeet) {
  std::atomic<uint32_t> word{0};
  Waiters waiters(1, &word, FUTEX_WAIT);
  EXPECT_EQ(Futex(&word, kWake, 1), 0);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE, 1), 1);
}

TEST(Requeue, MovesWaiters) {
  std::atomic<uint32_t> from{0}, to{0};
  Waiters waiters(4, &from);
  EXPECT_ERRNO(FutexRequeue(&from, FUTEX_CMP_REQUEUE_PRIVATE, 1, 2, &to, 7), EAGAIN);
  EXPECT_EQ(FutexRequeue(&from, FUTEX_CMP_REQUEUE_PRIVATE, 1, 2, &to, 0), 3) << "woken and moved";
  EXPECT_TRUE(Eventually([&] { return waiters.woken == 1; }));
  EXPECT_EQ(Futex(&to, kWake, INT_MAX), 2);
  EXPECT_EQ(Futex(&from, kWake, INT_MAX), 1);
  EXPECT_ERRNO(FutexRequeue(&from, FUTEX_REQUEUE_PRIVATE, -1, 1, &to), EINVAL);
}

TEST(WakeOp, ChangesOneWordAndWakesBoth) {
  std::atomic<uint32_t> a{0}, b{0};
  Waiters on_a(1, &a), on_b(1, &b);
  // b = b + 5; wake a; if b was 0 wake b too.
  EXPECT_EQ(FutexRequeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)), 2);
  EXPECT_EQ(b, 5u);
  EXPECT_EQ(FutexRequeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_SET, 9, FUTEX_OP_CMP_GT, 100)), 0);
  EXPECT_EQ(b, 9u);
  EXPECT_ERRNO(FutexRequeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, BadPointer(), 0), EFAULT);
}

TEST(Shared, ProcessesMeetInSharedMemory) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* word = memory.as<std::atomic<uint32_t>>();
  pid_t pid = ForkChild([&] {
    while (*word == 0) Futex(word, FUTEX_WAIT, 0);
    CHILD_CHECK(*word == 1);
  });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  *word = 1;
  EXPECT_EQ(Futex(word, FUTEX_WAKE, 1), 1);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Shared, FileMappingsAtDifferentAddressesAreOneFutex) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_OK(ftruncate(fd.get(), kPage));
  Mapping a(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get()),
      b(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  ASSERT_NE(a.get(), b.get());
  Waiters waiters(1, a.as<std::atomic<uint32_t>>(), FUTEX_WAIT);
  EXPECT_EQ(Futex(b.get(), FUTEX_WAKE, 1), 1);
}

TEST(Shared, PrivateMemoryIsDifferentInAChild) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE);
  Waiters waiters(1, memory.as<std::atomic<uint32_t>>(), FUTEX_WAIT);
  EXPECT_EXITED(RunInChild([&] { CHILD_CHECK(Futex(memory.get(), FUTEX_WAKE, 1) == 0); }), 0);
  EXPECT_EQ(Futex(memory.get(), FUTEX_WAKE, 1), 1);
}

TEST(Pi, LocksAndUnlocks) {
  std::atomic<uint32_t> word{0};
  ASSERT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  EXPECT_EQ(word & FUTEX_TID_MASK, static_cast<uint32_t>(gettid()));
  EXPECT_ERRNO(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0), EDEADLK);
  std::atomic<bool> got{false};
  std::atomic<pid_t> tid{0};
  std::thread other([&] {
    tid = gettid();
    EXPECT_ERRNO(Futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0), EAGAIN);
    EXPECT_ERRNO(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0), EPERM);
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
    got = true;
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
  });
  EXPECT_TRUE(Eventually([&] { return tid != 0; }));
  EXPECT_TRUE(WaitUntilBlocked(tid));
  EXPECT_FALSE(got);
  EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
  other.join();
  EXPECT_TRUE(got);
  EXPECT_EQ(word & FUTEX_TID_MASK, 0u);
}

TEST(Robust, ADeadOwnersMutexCanBeRecovered) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* mutex = memory.as<pthread_mutex_t>();
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  ASSERT_EQ(pthread_mutex_init(mutex, &attr), 0);
  EXPECT_EXITED(RunInChild([&] { CHILD_CHECK(pthread_mutex_lock(mutex) == 0); }), 0);
  EXPECT_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(mutex), 0);
  EXPECT_EQ(pthread_mutex_unlock(mutex), 0);
  EXPECT_EQ(pthread_mutex_lock(mutex), 0);
}

TEST(Robust, AWaiterIsWokenByTheOwnersDeath) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* mutex = memory.as<pthread_mutex_t>();
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  ASSERT_EQ(pthread_mutex_init(mutex, &attr), 0);
  ChildGuard owner(ForkChild([&] {
    CHILD_CHECK(pthread_mutex_lock(mutex) == 0);
    memory.get()[1000] = 1;
    for (;;) pause();
  }));
  ASSERT_TRUE(Eventually([&] { return static_cast<volatile char*>(memory.get())[1000] == 1; }));
  pid_t waiter = ForkChild([&] { CHILD_CHECK(pthread_mutex_lock(mutex) == EOWNERDEAD); });
  ASSERT_TRUE(WaitUntilBlocked(waiter));
  kill(owner.pid(), SIGKILL);
  EXPECT_EXITED(WaitFor(waiter), 0);
}

TEST(Robust, ListCallsCheckTheirArguments) {
  void* head;
  size_t size;
  EXPECT_OK(syscall(SYS_get_robust_list, 0, &head, &size));
  EXPECT_EQ(size, sizeof(robust_list_head));
  EXPECT_ERRNO(syscall(SYS_set_robust_list, head, 7), EINVAL);
  EXPECT_OK(syscall(SYS_set_robust_list, head, size));
  EXPECT_ERRNO(syscall(SYS_get_robust_list, 0, BadPointer(), &size), EFAULT);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(syscall(SYS_get_robust_list, gone, &head, &size), ESRCH);
}

TEST(Stress, AMutexUnderContentionExcludes) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  long count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 2000; ++n) {
        pthread_mutex_lock(&mutex);
        ++count;
        pthread_mutex_unlock(&mutex);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(count, 16000);
}

}  // namespace
}  // namespace conformance
