// eventfd, timerfd, signalfd.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "support/support.h"

namespace conformance {
namespace {

short Ready(int fd, short events = POLLIN | POLLOUT) {
  pollfd p = {fd, events, 0};
  poll(&p, 1, 0);
  return p.revents;
}

uint64_t ReadCount(int fd) {
  uint64_t value = 0;
  EXPECT_EQ(read(fd, &value, 8), 8);
  return value;
}

TEST(Eventfd, AddsAndResets) {
  Fd fd(eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
  ASSERT_FD(fd);
  uint64_t value = 4;
  EXPECT_EQ(write(fd.get(), &value, 8), 8);
  EXPECT_EQ(ReadCount(fd.get()), 7u);
  EXPECT_ERRNO(read(fd.get(), &value, 8), EAGAIN);
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST(Eventfd, SemaphoreModeGivesOnes) {
  Fd fd(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  EXPECT_EQ(ReadCount(fd.get()), 1u);
  EXPECT_EQ(ReadCount(fd.get()), 1u);
  uint64_t value;
  EXPECT_ERRNO(read(fd.get(), &value, 8), EAGAIN);
}

TEST(Eventfd, ChecksItsArguments) {
  EXPECT_ERRNO(eventfd(0, 0x100), EINVAL);
  Fd fd(eventfd(0, EFD_NONBLOCK));
  uint64_t value = ~0ull;
  EXPECT_ERRNO(write(fd.get(), &value, 8), EINVAL);
  EXPECT_ERRNO(write(fd.get(), &value, 4), EINVAL);
  EXPECT_ERRNO(read(fd.get(), &value, 7), EINVAL);
  value = 1;
  ASSERT_EQ(write(fd.get(), &value, 8), 8);
  EXPECT_ERRNO(read(fd.get(), BadPointer(), 8), EFAULT);
  EXPECT_ERRNO(write(fd.get(), BadPointer(), 8), EFAULT);
}

TEST(Eventfd, FullMeansNotWritable) {
  Fd fd(eventfd(0, EFD_NONBLOCK));
  EXPECT_EQ(Ready(fd.get()), POLLOUT);
  uint64_t value = ~1ull;
  ASSERT_EQ(write(fd.get(), &value, 8), 8);
  EXPECT_EQ(Ready(fd.get()), POLLIN);
  value = 1;
  EXPECT_ERRNO(write(fd.get(), &value, 8), EAGAIN);
  EXPECT_EQ(ReadCount(fd.get()), ~1ull);
}

TEST(Timerfd, ExpiresOnceOrRepeatedly) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  ASSERT_FD(fd);
  itimerspec once = {{0, 0}, {0, 2'000'000}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &once, nullptr));
  EXPECT_EQ(ReadCount(fd.get()), 1u);
  itimerspec repeat = {{0, 2'000'000}, {0, 2'000'000}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &repeat, nullptr));
  SleepMs(20);
  EXPECT_GE(ReadCount(fd.get()), 5u);
  EXPECT_GE(ReadCount(fd.get()), 1u);
}

TEST(Timerfd, GettimeTellsWhatIsLeft) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  itimerspec spec = {{5, 6}, {100, 0}}, old = {}, now = {};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &spec, &old));
  EXPECT_EQ(old.it_value.tv_sec + old.it_value.tv_nsec, 0);
  ASSERT_OK(timerfd_gettime(fd.get(), &now));
  EXPECT_EQ(now.it_interval.tv_sec, 5);
  EXPECT_EQ(now.it_interval.tv_nsec, 6);
  EXPECT_GE(now.it_value.tv_sec, 90);
  EXPECT_LE(now.it_value.tv_sec, 100);
  uint64_t value;
  EXPECT_ERRNO(read(fd.get(), &value, 8), EAGAIN);
  itimerspec disarm = {};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &disarm, &old));
  EXPECT_GE(old.it_value.tv_sec, 90);
  ASSERT_OK(timerfd_gettime(fd.get(), &now));
  EXPECT_EQ(now.it_value.tv_sec, 0);
  EXPECT_EQ(now.it_value.tv_nsec, 0);
}

TEST(Timerfd, AbsoluteTimesOfBothClocks) {
  for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME}) {
    Fd fd(timerfd_create(clock, 0));
    ASSERT_FD(fd);
    itimerspec spec = {};
    clock_gettime(clock, &spec.it_value);
    ASSERT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &spec, nullptr)) << "the past expires at once";
    EXPECT_EQ(ReadCount(fd.get()), 1u);
  }
}

TEST(Timerfd, ChecksItsArguments) {
  EXPECT_ERRNO(timerfd_create(99, 0), EINVAL);
  EXPECT_ERRNO(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
  EXPECT_ERRNO(timerfd_create(CLOCK_MONOTONIC, 0x1), EINVAL);
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  itimerspec bad = {{0, 0}, {0, 1'000'000'000}}, negative = {{0, 0}, {-1, 0}}, good = {{0, 0}, {1, 0}};
  EXPECT_ERRNO(timerfd_settime(fd.get(), 0, &bad, nullptr), EINVAL);
  EXPECT_ERRNO(timerfd_settime(fd.get(), 0, &negative, nullptr), EINVAL);
  EXPECT_ERRNO(timerfd_settime(fd.get(), 0x100, &good, nullptr), EINVAL);
  EXPECT_ERRNO(timerfd_settime(0, 0, &good, nullptr), EINVAL);
  EXPECT_ERRNO(timerfd_settime(-1, 0, &good, nullptr), EBADF);
  EXPECT_ERRNO(syscall(SYS_timerfd_settime, fd.get(), 0, BadPointer(), nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_timerfd_gettime, fd.get(), BadPointer()), EFAULT);
  uint64_t value;
  EXPECT_ERRNO(read(fd.get(), &value, 4), EINVAL);
}

TEST(Timerfd, PollSeesTheExpiration) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec once = {{0, 0}, {0, 5'000'000}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &once, nullptr));
  EXPECT_EQ(Ready(fd.get()), 0);
  pollfd p = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 10'000), 1);
  EXPECT_EQ(p.revents, POLLIN);
  ReadCount(fd.get());
  EXPECT_EQ(Ready(fd.get()), 0);
}

TEST(Signalfd, ReadsPendingSignals) {
  ScopedBlock block({SIGUSR1, SIGRTMIN});
  sigset_t set = MakeSet({SIGUSR1, SIGRTMIN});
  Fd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  ASSERT_FD(fd);
  signalfd_siginfo info[3];
  EXPECT_ERRNO(read(fd.get(), info, sizeof(info)), EAGAIN);
  EXPECT_EQ(Ready(fd.get()), 0);
  kill(getpid(), SIGUSR1);
  sigval value;
  value.sival_int = 77;
  sigqueue(getpid(), SIGRTMIN, value);
  EXPECT_EQ(Ready(fd.get()), POLLIN);
  ASSERT_EQ(read(fd.get(), info, sizeof(info)), static_cast<ssize_t>(2 * sizeof(info[0])));
  EXPECT_EQ(info[0].ssi_signo, static_cast<uint32_t>(SIGUSR1));
  EXPECT_EQ(info[0].ssi_pid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(info[0].ssi_code, SI_USER);
  EXPECT_EQ(info[1].ssi_signo, static_cast<uint32_t>(SIGRTMIN));
  EXPECT_EQ(info[1].ssi_int, 77);
  EXPECT_EQ(info[1].ssi_code, SI_QUEUE);
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGUSR1));
}

TEST(Signalfd, MaskCanBeReplaced) {
  ScopedBlock block({SIGUSR1, SIGUSR2});
  sigset_t one = MakeSet({SIGUSR1}), two = MakeSet({SIGUSR2});
  Fd fd(signalfd(-1, &one, SFD_NONBLOCK));
  kill(getpid(), SIGUSR2);
  EXPECT_EQ(Ready(fd.get()), 0);
  EXPECT_EQ(signalfd(fd.get(), &two, 0), fd.get());
  EXPECT_EQ(Ready(fd.get()), POLLIN);
  signalfd_siginfo info;
  EXPECT_EQ(read(fd.get(), &info, sizeof(info)), static_cast<ssize_t>(sizeof(info)));
}

TEST(Signalfd, ChildrenReportTheirEnd) {
  ScopedBlock block({SIGCHLD});
  sigset_t set = MakeSet({SIGCHLD});
  Fd fd(signalfd(-1, &set, 0));
  pid_t pid = ForkChild([] { _exit(4); });
  signalfd_siginfo info;
  ASSERT_EQ(read(fd.get(), &info, sizeof(info)), static_cast<ssize_t>(sizeof(info)));
  EXPECT_EQ(info.ssi_pid, static_cast<uint32_t>(pid));
  EXPECT_EQ(info.ssi_status, 4);
  EXPECT_EQ(info.ssi_code, CLD_EXITED);
  WaitFor(pid);
}

TEST(Signalfd, ChecksItsArguments) {
  uint64_t set = 0;
  EXPECT_ERRNO(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_signalfd4, -1, &set, 8, 0x100), EINVAL);
  EXPECT_ERRNO(syscall(SYS_signalfd4, -1, BadPointer(), 8, 0), EFAULT);
  EXPECT_ERRNO(syscall(SYS_signalfd4, 0, &set, 8, 0), EINVAL) << "not a signalfd";
  EXPECT_ERRNO(syscall(SYS_signalfd4, 12345, &set, 8, 0), EBADF);
  Fd fd(syscall(SYS_signalfd4, -1, &set, 8, 0));
  char small[16];
  EXPECT_ERRNO(read(fd.get(), small, sizeof(small)), EINVAL);
}

// As long as nobody sets the clock, which a test cannot.
TEST(Timerfd, OneThatIsCancelledBySettingTheClockExpiresLikeOthers) {
  Fd fd(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  ASSERT_FD(fd);
  itimerspec spec = {};
  clock_gettime(CLOCK_REALTIME, &spec.it_value);
  spec.it_value.tv_sec += 3600;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec, nullptr));
    uint64_t ticks;
    EXPECT_ERRNO(read(fd.get(), &ticks, sizeof(ticks)), EAGAIN);
  }
  spec.it_value.tv_sec -= 3601;
  ASSERT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec, nullptr));
  uint64_t ticks = 0;
  EXPECT_TRUE(Eventually([&] { return read(fd.get(), &ticks, sizeof(ticks)) == sizeof(ticks); }));
  EXPECT_EQ(ticks, 1u);
}

}  // namespace
}  // namespace conformance
