// rt_sigprocmask(2), made so often that a kernel may find a short cut: no signal comes while it is blocked, none is
// lost when it is not, whoever sends it and however the thread is in the middle of the call.
#include <poll.h>
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

#include <atomic>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "support/tracee.h"

namespace {

using namespace conformance;

constexpr uint64_t Bit(int signo) { return uint64_t{1} << (signo - 1); }
constexpr uint64_t kUnblockable = Bit(SIGKILL) | Bit(SIGSTOP);
constexpr uint64_t kEverything = ~kUnblockable;
constexpr int kWarm = 100;

// Through one call site, which is hot after a while.
uint64_t Mask(int how, uint64_t set) {
  uint64_t old = ~uint64_t{0};
  EXPECT_EQ(syscall(SYS_rt_sigprocmask, how, &set, &old, 8), 0);
  return old;
}
uint64_t Mask() {
  uint64_t old = ~uint64_t{0};
  EXPECT_EQ(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &old, 8), 0);
  return old;
}
pid_t Tid() { return static_cast<pid_t>(syscall(SYS_gettid)); }

// Its own mask, restored at the end.
class HotMask : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = Mask();
    for (int i = 0; i < kWarm; ++i) Mask(SIG_SETMASK, i % 2 ? Bit(SIGUSR2) : 0);
    Mask(SIG_SETMASK, 0);
  }
  void TearDown() override { Mask(SIG_SETMASK, before_); }
  uint64_t before_ = 0;
};

TEST_F(HotMask, IsWhatWasAskedFor) {
  std::mt19937_64 random(1);
  uint64_t mask = 0;
  for (int i = 0; i < 3000; ++i) {
    const uint64_t set = random();
    const int how = static_cast<int>(random() % 3);
    ASSERT_EQ(Mask(how, set), mask);
    mask = (how == SIG_BLOCK ? mask | set : how == SIG_UNBLOCK ? mask & ~set : set) & kEverything;
    ASSERT_EQ(Mask(), mask);
    if (i % 50 == 0) Tid();
  }
  Mask(SIG_SETMASK, 0);
}

TEST_F(HotMask, RefusesWhatItAlwaysRefuses) {
  uint64_t set = Bit(SIGUSR1), old;
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 4), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 128), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, 3, &set, &old, 8), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, -1, &set, &old, 8), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BadPointer(), &old, 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, KernelPointer(), &old, 8), EFAULT);
  EXPECT_EQ(Mask(), 0u);
  // The mask is set before the old one is found to have no place (kernel/signal.c).
  for (char* bad : {BadPointer(), ReadOnlyPage(), KernelPointer()}) {
    EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, bad, 8), EFAULT);
    EXPECT_EQ(Mask(SIG_SETMASK, 0), set);
  }
  EXPECT_OK(syscall(SYS_rt_sigprocmask, 77, nullptr, nullptr, 8));
  // In one place.
  EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, &set, 8));
  EXPECT_EQ(set, 0u);
  EXPECT_EQ(Mask(SIG_SETMASK, 0), Bit(SIGUSR1));
}

TEST_F(HotMask, IsSeenByOthersAtOnce) {
  std::atomic<uint64_t> set{0};
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false}, ready{true};
  std::thread other([&] {
    tid = Tid();
    while (!stop) {
      if (ready) continue;
      Mask(SIG_SETMASK, set);
      ready = true;
    }
  });
  while (tid == 0) sched_yield();
  std::mt19937_64 random(2);
  for (int i = 0; i < 60; ++i) {
    const uint64_t mask = random() & kEverything;
    set = mask;
    ready = false;
    while (!ready) sched_yield();
    std::ifstream status("/proc/self/task/" + std::to_string(tid.load()) + "/status");
    std::string line;
    uint64_t seen = 0;
    while (std::getline(status, line)) {
      if (line.starts_with("SigBlk:")) seen = strtoull(line.c_str() + 7, nullptr, 16);
    }
    // The C library blocks some of its own for a moment when a thread begins or ends; not here.
    EXPECT_EQ(seen, mask);
  }
  set = 0;
  stop = true;
  other.join();
}

std::atomic<int> handled{0};
std::atomic<bool> too_early{false};
thread_local volatile bool blocked_here;

void Count(int) {
  if (blocked_here) too_early = true;
  ++handled;
}

// Blocks and unblocks SIGUSR1 until told to stop.
void Toggle(const std::atomic<bool>& stop) {
  std::mt19937 random(static_cast<uint32_t>(Tid()));
  while (!stop) {
    Mask(SIG_BLOCK, Bit(SIGUSR1));
    blocked_here = true;
    for (uint32_t n = random() % 64; n > 0; --n) __builtin_ia32_pause();
    if (random() % 16 == 0) Tid();
    blocked_here = false;
    Mask(SIG_UNBLOCK, Bit(SIGUSR1));
    for (uint32_t n = random() % 64; n > 0; --n) __builtin_ia32_pause();
  }
}

TEST_F(HotMask, NoSignalIsLostOrComesWhileItIsBlocked) {
  ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
  handled = 0;
  too_early = false;
  std::atomic<pid_t> tid{0};
  std::atomic<bool> stop{false};
  std::thread toggling([&] {
    tid = Tid();
    Toggle(stop);
  });
  while (tid == 0) sched_yield();
  for (int i = 1; i <= 400; ++i) {
    ASSERT_OK(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1));
    ASSERT_TRUE(Eventually([&] { return handled >= i; })) << i;
  }
  stop = true;
  toggling.join();
  EXPECT_EQ(handled, 400);
  EXPECT_FALSE(too_early);
}

TEST_F(HotMask, ASignalForTheProcessIsTakenByWhoeverDoesNotBlockIt) {
  ScopedHandler handler(SIGUSR1, Count, SA_RESTART);
  handled = 0;
  too_early = false;
  Mask(SIG_BLOCK, Bit(SIGUSR1));
  blocked_here = true;
  std::atomic<bool> stop{false};
  std::vector<std::thread> toggling;
  for (int i = 0; i < 3; ++i) toggling.emplace_back([&] { Toggle(stop); });
  for (int i = 1; i <= 400; ++i) {
    ASSERT_OK(kill(getpid(), SIGUSR1));
    ASSERT_TRUE(Eventually([&] { return handled >= i; })) << i;
  }
  stop = true;
  for (auto& thread : toggling) thread.join();
  blocked_here = false;
  EXPECT_EQ(handled, 400);
  EXPECT_FALSE(too_early);
}

TEST_F(HotMask, ATimersSignalsComeBetweenBlockAndUnblock) {
  ScopedHandler handler(
      SIGALRM, +[](int) {
        if (blocked_here) too_early = true;
        ++handled;
        // A handler's own changes end with it.
        Mask(SIG_BLOCK, Bit(SIGUSR2));
      });
  handled = 0;
  too_early = false;
  itimerval often = {{0, 300}, {0, 300}}, off = {};
  ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
  const int64_t end = NowNs() + 500'000'000;
  while (NowNs() < end || handled < 20) {
    for (int i = 0; i < 50; ++i) {
      const uint64_t before = Mask(SIG_BLOCK, Bit(SIGALRM) | Bit(SIGHUP));
      blocked_here = true;
      const uint64_t between = Mask();
      blocked_here = false;
      const uint64_t after = Mask(SIG_SETMASK, before);
      ASSERT_EQ(before, 0u);
      ASSERT_EQ(between, Bit(SIGALRM) | Bit(SIGHUP));
      ASSERT_EQ(after, between);
    }
  }
  ASSERT_OK(setitimer(ITIMER_REAL, &off, nullptr));
  EXPECT_FALSE(too_early);
}

TEST_F(HotMask, ASignalThatWasBlockedComesBeforeTheCallReturns) {
  ScopedHandler handler(SIGUSR1, Count);
  handled = 0;
  too_early = false;
  for (int i = 1; i <= 100; ++i) {
    Mask(SIG_BLOCK, Bit(SIGUSR1));
    blocked_here = true;
    ASSERT_OK(i % 2 ? kill(getpid(), SIGUSR1) : raise(SIGUSR1));
    // Others may change meanwhile.
    Mask(SIG_BLOCK, Bit(SIGUSR2));
    Mask(SIG_UNBLOCK, Bit(SIGUSR2));
    ASSERT_EQ(handled, i - 1);
    blocked_here = false;
    Mask(i % 3 ? SIG_UNBLOCK : SIG_SETMASK, i % 3 ? Bit(SIGUSR1) : 0);
    ASSERT_EQ(handled, i);
  }
  EXPECT_FALSE(too_early);
}

TEST_F(HotMask, AnIgnoredSignalThatIsBlockedStaysPending) {
  ScopedHandler ignore(SIGUSR1, SIG_IGN);
  std::atomic<int> step{0};
  std::thread sender([&] {
    Mask(SIG_BLOCK, Bit(SIGUSR1));
    while (step != 1) sched_yield();
    kill(getpid(), SIGUSR1);
    step = 2;
    while (step != 3) sched_yield();
  });
  Mask(SIG_BLOCK, Bit(SIGUSR1));
  step = 1;
  while (step != 2) sched_yield();
  uint64_t pending = 0;
  EXPECT_OK(syscall(SYS_rt_sigpending, &pending, 8));
  EXPECT_EQ(pending & Bit(SIGUSR1), Bit(SIGUSR1));
  timespec none = {};
  const uint64_t set = Bit(SIGUSR1);
  EXPECT_EQ(syscall(SYS_rt_sigtimedwait, &set, nullptr, &none, 8), SIGUSR1);
  step = 3;
  sender.join();
  Mask(SIG_SETMASK, 0);
}

TEST_F(HotMask, NobodyBlocksKillAndStop) {
  for (int signo : {SIGKILL, SIGSTOP}) {
    Mapping page(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    auto* ready = new (page.get()) std::atomic<bool>(false);
    ChildGuard child(ForkChild([&] {
      for (;;) {
        Mask(SIG_SETMASK, ~uint64_t{0});
        CHILD_CHECK(Mask() == kEverything);
        *ready = true;
      }
    }));
    ASSERT_TRUE(Eventually([&] { return ready->load(); }));
    ASSERT_OK(kill(child.pid(), signo));
    int status = 0;
    ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
    if (signo == SIGKILL) {
      EXPECT_SIGNALED(status, SIGKILL);
    } else {
      EXPECT_TRUE(WIFSTOPPED(status));
    }
  }
}

TEST_F(HotMask, ChildrenThreadsAndProgramsInheritIt) {
  const uint64_t mask = Bit(SIGUSR1) | Bit(SIGWINCH) | Bit(50);
  for (int i = 0; i < 5; ++i) {
    Mask(SIG_SETMASK, mask);
    EXPECT_EXITED(WaitFor(ForkChild([&] { CHILD_CHECK(Mask() == mask); })), 0);
    Mask(SIG_SETMASK, mask);
    uint64_t of_thread = 0;
    std::thread thread([&] { of_thread = Mask(); });
    thread.join();
    EXPECT_EQ(of_thread, mask);
    Mask(SIG_SETMASK, mask);
    const pid_t child = vfork();
    if (child == 0) _exit(Mask() == mask ? 0 : 1);
    EXPECT_EXITED(WaitFor(child), 0);
  }
  Mask(SIG_SETMASK, mask);
  Pipe pipe = MakePipe();
  const pid_t child = ForkChild([&] {
    dup2(pipe.write_end.get(), 1);
    Mask(SIG_BLOCK, Bit(SIGURG));
    execl("/proc/self/exe", "hot_mask_test", "--gtest_filter=HotMask.*", "--gtest_list_tests", nullptr);
  });
  EXPECT_EXITED(WaitFor(child), 0);
  Mask(SIG_SETMASK, 0);
}

TEST_F(HotMask, FramesAndTemporaryMasksHaveIt) {
  static std::atomic<uint64_t> in_frame, in_handler;
  ScopedHandler handler(
      SIGUSR1, +[](int, siginfo_t*, void* context) {
        uint64_t* mask = reinterpret_cast<uint64_t*>(&static_cast<ucontext_t*>(context)->uc_sigmask);
        in_frame = *mask;
        in_handler = Mask();
        *mask |= Bit(SIGURG);
        ++handled;
      });
  for (int i = 0; i < 20; ++i) {
    const uint64_t mask = i % 2 ? Bit(SIGWINCH) : Bit(SIGWINCH) | Bit(SIGHUP);
    Mask(SIG_SETMASK, mask);
    ASSERT_OK(raise(SIGUSR1));
    ASSERT_EQ(in_frame, mask);
    ASSERT_EQ(in_handler, mask | Bit(SIGUSR1));
    ASSERT_EQ(Mask(), mask | Bit(SIGURG));
    // sigsuspend and ppoll put it back.
    Mask(SIG_SETMASK, mask | Bit(SIGUSR1));
    ASSERT_OK(raise(SIGUSR1));
    const uint64_t open = mask;
    handled = 0;
    if (i % 3) {
      ASSERT_ERRNO(syscall(SYS_rt_sigsuspend, &open, 8), EINTR);
    } else {
      timespec long_time = {5, 0};
      ASSERT_ERRNO(syscall(SYS_ppoll, nullptr, 0, &long_time, &open, 8), EINTR);
    }
    ASSERT_EQ(handled, 1);
    ASSERT_EQ(in_frame, mask | Bit(SIGUSR1));
    ASSERT_EQ(Mask(), mask | Bit(SIGUSR1) | Bit(SIGURG));
  }
  Mask(SIG_SETMASK, 0);
}

TEST_F(HotMask, IsRestoredByALongJump) {
  static sigjmp_buf escape;
  ScopedHandler handler(
      SIGUSR1, +[](int) { siglongjmp(escape, 1); });
  for (int i = 0; i < 200; ++i) {
    Mask(SIG_SETMASK, Bit(SIGHUP));
    if (sigsetjmp(escape, 1) == 0) {
      Mask(SIG_BLOCK, Bit(SIGURG));
      raise(SIGUSR1);
      FAIL() << "no signal";
    }
    ASSERT_EQ(Mask(), Bit(SIGHUP));
  }
  Mask(SIG_SETMASK, 0);
}

TEST_F(HotMask, OneThatWaitsForASignalGetsItFromThreadsThatChangeTheirs) {
  std::atomic<bool> stop{false};
  Mask(SIG_BLOCK, Bit(SIGUSR2));
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; ++i) {
    busy.emplace_back([&] {
      while (!stop) {
        Mask(SIG_BLOCK, Bit(SIGHUP));
        Mask(SIG_UNBLOCK, Bit(SIGHUP));
      }
    });
  }
  std::atomic<int> got{0};
  std::thread waiting([&] {
    const uint64_t set = Bit(SIGUSR2);
    while (got < 100 && syscall(SYS_rt_sigtimedwait, &set, nullptr, nullptr, 8) == SIGUSR2) ++got;
  });
  for (int i = 1; i <= 100; ++i) {
    ASSERT_OK(kill(getpid(), SIGUSR2));
    ASSERT_TRUE(Eventually([&] { return got >= i; })) << i;
  }
  stop = true;
  for (auto& thread : busy) thread.join();
  waiting.join();
}

// A debugger sees the mask of a thread that has just changed it, and changes it.
TEST_F(HotMask, IsSeenAndSetByADebugger) {
  constexpr long kGetSigmask = 0x420a, kSetSigmask = 0x420b;  // PTRACE_GETSIGMASK, PTRACE_SETSIGMASK
  Mapping page(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  // What the child is to set, what it has set, and what it found afterwards, all in this order.
  struct Talk {
    std::atomic<uint64_t> want{0}, set{0}, found{0};
    std::atomic<bool> stop{false};
  };
  auto* talk = new (page.get()) Talk;
  ChildGuard child(ForkChild([&] {
    for (uint64_t last = 0; !talk->stop;) {
      const uint64_t want = talk->want;
      if (want == last) continue;
      last = want;
      Mask(SIG_SETMASK, want);
      talk->set = want;
      uint64_t now = want;
      while (now == want && !talk->stop) now = Mask();
      talk->found = now;
    }
  }));
  for (uint64_t set : {Bit(SIGHUP), Bit(SIGHUP) | Bit(SIGUSR1), Bit(40)}) {
    talk->found = 0;
    talk->want = set;
    ASSERT_TRUE(Eventually([&] { return talk->set == set; }));
    ASSERT_EQ(Ptrace(PTRACE_ATTACH_, child.pid()), 0);
    ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
    uint64_t seen = 0, other = Bit(SIGWINCH);
    ASSERT_EQ(Ptrace(kGetSigmask, child.pid(), 8, Address(&seen)), 0);
    EXPECT_EQ(seen, set);
    ASSERT_EQ(Ptrace(kSetSigmask, child.pid(), 8, Address(&other)), 0);
    ASSERT_EQ(Ptrace(PTRACE_DETACH_, child.pid()), 0);
    ASSERT_TRUE(Eventually([&] { return talk->found == other; }));
  }
  talk->stop = true;
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace
