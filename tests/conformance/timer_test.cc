// setitimer, getitimer, alarm, and POSIX timers.
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include <atomic>

#include "support/support.h"

namespace conformance {
namespace {

std::atomic<int> g_count;
siginfo_t g_info;
void Count(int) { ++g_count; }
void Record(int, siginfo_t* info, void*) {
  g_info = *info;
  ++g_count;
}

class Timer : public ::testing::Test {
 protected:
  Timer() { g_count = 0; }
};

TEST_F(Timer, RealItimerFiresOnceOrRepeatedly) {
  ScopedHandler handler(SIGALRM, Count);
  itimerval once = {{0, 0}, {0, 2000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &once, nullptr));
  EXPECT_TRUE(Eventually([] { return g_count == 1; }));
  itimerval repeat = {{0, 2000}, {0, 2000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &repeat, nullptr));
  EXPECT_TRUE(Eventually([] { return g_count >= 6; }));
  itimerval off = {}, old;
  ASSERT_OK(setitimer(ITIMER_REAL, &off, &old));
  EXPECT_EQ(old.it_interval.tv_usec, 2000);
  const int now = g_count;
  SleepMs(10);
  EXPECT_EQ(g_count, now);
}

TEST_F(Timer, GetitimerTellsWhatIsLeft) {
  ScopedHandler handler(SIGALRM, Count);
  itimerval spec = {{7, 8}, {100, 0}}, now;
  ASSERT_OK(setitimer(ITIMER_REAL, &spec, nullptr));
  ASSERT_OK(getitimer(ITIMER_REAL, &now));
  EXPECT_EQ(now.it_interval.tv_sec, 7);
  EXPECT_EQ(now.it_interval.tv_usec, 8);
  EXPECT_GE(now.it_value.tv_sec, 90);
  EXPECT_LE(now.it_value.tv_sec, 100);
  EXPECT_EXITED(RunInChild([] {
                  itimerval mine;
                  CHILD_CHECK(getitimer(ITIMER_REAL, &mine) == 0);
                  CHILD_CHECK(mine.it_value.tv_sec == 0 && mine.it_value.tv_usec == 0);  // Not inherited.
                }),
                0);
  itimerval off = {};
  setitimer(ITIMER_REAL, &off, nullptr);
}

TEST_F(Timer, ProfilingTimersCountCpuTime) {
  for (const auto which : {ITIMER_VIRTUAL, ITIMER_PROF}) {
    g_count = 0;
    ScopedHandler handler(which == ITIMER_PROF ? SIGPROF : SIGVTALRM, Count, SA_RESTART);
    itimerval spec = {{0, 0}, {0, 20'000}};
    ASSERT_OK(setitimer(which, &spec, nullptr));
    SleepMs(60);
    EXPECT_EQ(g_count, 0) << "sleeping uses no CPU time";
    const int64_t end = NowNs() + 20'000'000'000;
    while (g_count == 0 && NowNs() < end) {
    }
    EXPECT_EQ(g_count, 1);
  }
}

TEST_F(Timer, AlarmReplacesAndTellsTheRest) {
  ScopedHandler handler(SIGALRM, Count);
  EXPECT_EQ(alarm(100), 0u);
  EXPECT_GE(alarm(50), 90u);
  EXPECT_GE(alarm(0), 40u);
  EXPECT_EQ(alarm(0), 0u);
  EXPECT_EQ(g_count, 0);
}

TEST_F(Timer, TheDefaultActionOfAnAlarmEndsTheProcess) {
  EXPECT_SIGNALED(RunInChild([] {
                    ualarm(1000, 0);
                    for (;;) pause();
                  }),
                  SIGALRM);
}

TEST_F(Timer, ItimersFailAsDocumented) {
  itimerval bad = {{0, 0}, {0, 1'000'000}}, good = {};
  EXPECT_ERRNO(setitimer(ITIMER_REAL, &bad, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_setitimer, 99, &good, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getitimer, 99, &good), EINVAL);
  EXPECT_ERRNO(syscall(SYS_setitimer, ITIMER_REAL, BadPointer(), nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_getitimer, ITIMER_REAL, BadPointer()), EFAULT);
}

TEST_F(Timer, PosixTimerCarriesItsValue) {
  ScopedHandler handler(SIGRTMIN, Record);
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_int = 99;
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  itimerspec spec = {{0, 0}, {0, 2'000'000}};
  ASSERT_OK(timer_settime(timer, 0, &spec, nullptr));
  EXPECT_TRUE(Eventually([] { return g_count == 1; }));
  EXPECT_EQ(g_info.si_code, SI_TIMER);
  EXPECT_EQ(g_info.si_value.sival_int, 99);
  itimerspec now;
  ASSERT_OK(timer_gettime(timer, &now));
  EXPECT_EQ(now.it_value.tv_sec + now.it_value.tv_nsec, 0);
  EXPECT_OK(timer_delete(timer));
  EXPECT_ERRNO(timer_gettime(timer, &now), EINVAL);
}

TEST_F(Timer, OverrunsAreCounted) {
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  ScopedBlock block({SIGRTMIN});
  itimerspec spec = {{0, 1'000'000}, {0, 1'000'000}};
  ASSERT_OK(timer_settime(timer, 0, &spec, nullptr));
  SleepMs(30);
  sigset_t set = MakeSet({SIGRTMIN});
  siginfo_t info;
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
  EXPECT_GE(info.si_overrun, 5);
  EXPECT_GE(timer_getoverrun(timer), 5);
  EXPECT_OK(timer_delete(timer));
  timespec zero = {};
  while (sigtimedwait(&set, &info, &zero) > 0) {
  }
}

TEST_F(Timer, ThreadDirectedTimersReachTheirThread) {
  static std::atomic<pid_t> seen;
  seen = 0;
  ScopedHandler handler(
      SIGRTMIN, +[](int) { seen = gettid(); });
  sigevent event = {};
  event.sigev_notify = 4;  // SIGEV_THREAD_ID
  event.sigev_signo = SIGRTMIN;
  event._sigev_un._tid = gettid();
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  itimerspec spec = {{0, 0}, {0, 1'000'000}};
  ASSERT_OK(timer_settime(timer, 0, &spec, nullptr));
  EXPECT_TRUE(Eventually([] { return seen == gettid(); }));
  timer_delete(timer);
}

TEST_F(Timer, AbsoluteTimesInThePastFireAtOnce) {
  ScopedHandler handler(SIGALRM, Count);
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_REALTIME, nullptr, &timer));
  itimerspec spec = {{0, 0}, {1, 0}};
  ASSERT_OK(timer_settime(timer, TIMER_ABSTIME, &spec, nullptr));
  EXPECT_TRUE(Eventually([] { return g_count == 1; }));
  timer_delete(timer);
}

TEST_F(Timer, PosixTimersFailAsDocumented) {
  timer_t timer;
  sigevent event = {};
  event.sigev_notify = 77;
  EXPECT_ERRNO(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = 1000;
  EXPECT_ERRNO(timer_create(CLOCK_MONOTONIC, &event, &timer), EINVAL);
  EXPECT_ERRNO(timer_create(99, nullptr, &timer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, BadPointer(), &timer), EFAULT);
  EXPECT_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, BadPointer()), EFAULT);
  int id = 12345;
  itimerspec spec = {{0, 0}, {0, 1'000'000'000}};
  EXPECT_ERRNO(syscall(SYS_timer_settime, id, 0, &spec, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_timer_delete, id), EINVAL);
  EXPECT_ERRNO(syscall(SYS_timer_getoverrun, id), EINVAL);
}

}  // namespace
}  // namespace conformance
