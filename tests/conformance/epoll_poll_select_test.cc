// epoll, poll, ppoll, select, pselect6.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

class Epoll : public ::testing::Test {
 protected:
  Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC)), pipe_(MakePipe(O_NONBLOCK)) {}
  int Control(int op, int fd, uint32_t events = 0, uint64_t data = 0) {
    epoll_event event = {events, {.u64 = data}};
    return epoll_ctl(fd_.get(), op, fd, &event);
  }
  int Wait(int timeout_ms = 0, int max = 8) { return epoll_wait(fd_.get(), events_, max, timeout_ms); }
  void Fill() { ASSERT_EQ(write(pipe_.write_end.get(), "x", 1), 1); }
  void Drain() {
    char buffer[64];
    while (read(pipe_.read_end.get(), buffer, sizeof(buffer)) > 0) {
    }
  }
  int rd() const { return pipe_.read_end.get(); }

  Fd fd_;
  Pipe pipe_;
  epoll_event events_[8] = {};
};

TEST_F(Epoll, LevelTriggeredReportsAsLongAsItHolds) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN, 0x123456789abc));
  EXPECT_EQ(Wait(), 0);
  Fill();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(Wait(), 1);
    EXPECT_EQ(events_[0].events, static_cast<uint32_t>(EPOLLIN));
    EXPECT_EQ(events_[0].data.u64, 0x123456789abcull);
  }
  Drain();
  EXPECT_EQ(Wait(), 0);
}

TEST_F(Epoll, EdgeTriggeredReportsOncePerEvent) {
  Fill();
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN | EPOLLET));
  EXPECT_EQ(Wait(), 1) << "what is there already counts";
  EXPECT_EQ(Wait(), 0);
  Fill();
  EXPECT_EQ(Wait(), 1) << "new data is a new event, although the old was not read";
  EXPECT_EQ(Wait(), 0);
}

TEST_F(Epoll, OneshotNeedsRearming) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN | EPOLLONESHOT));
  Fill();
  EXPECT_EQ(Wait(), 1);
  EXPECT_EQ(Wait(), 0);
  ASSERT_OK(Control(EPOLL_CTL_MOD, rd(), EPOLLIN | EPOLLONESHOT));
  EXPECT_EQ(Wait(), 1);
}

TEST_F(Epoll, ModAndDelTakeEffect) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN, 1));
  Fill();
  ASSERT_OK(Control(EPOLL_CTL_MOD, rd(), 0, 2));
  EXPECT_EQ(Wait(), 0);
  ASSERT_OK(Control(EPOLL_CTL_MOD, rd(), EPOLLIN, 3));
  ASSERT_EQ(Wait(), 1);
  EXPECT_EQ(events_[0].data.u64, 3u);
  ASSERT_OK(Control(EPOLL_CTL_DEL, rd()));
  EXPECT_EQ(Wait(), 0);
}

TEST_F(Epoll, HangupAndErrorAreAlwaysReported) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), 0));
  pipe_.write_end.Close();
  ASSERT_EQ(Wait(), 1);
  EXPECT_EQ(events_[0].events, static_cast<uint32_t>(EPOLLHUP));
}

TEST_F(Epoll, ClosedDescriptorsLeaveTheSet) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN));
  Fill();
  EXPECT_EQ(Wait(), 1);
  Fd copy(dup(rd()));
  pipe_.read_end.Close();
  EXPECT_EQ(Wait(), 1) << "the description lives on in the copy";
  copy.Close();
  EXPECT_EQ(Wait(), 0);
}

TEST_F(Epoll, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "x"));
  Fd file(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(Control(EPOLL_CTL_ADD, file.get(), EPOLLIN), EPERM) << "regular files cannot be waited for";
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN));
  EXPECT_ERRNO(Control(EPOLL_CTL_ADD, rd(), EPOLLIN), EEXIST);
  EXPECT_ERRNO(Control(EPOLL_CTL_MOD, pipe_.write_end.get(), EPOLLIN), ENOENT);
  EXPECT_ERRNO(Control(EPOLL_CTL_DEL, pipe_.write_end.get()), ENOENT);
  EXPECT_ERRNO(Control(EPOLL_CTL_ADD, fd_.get(), EPOLLIN), EINVAL);
  EXPECT_ERRNO(Control(99, rd(), EPOLLIN), EINVAL);
  EXPECT_ERRNO(Control(EPOLL_CTL_ADD, -1, EPOLLIN), EBADF);
  epoll_event event = {};
  EXPECT_ERRNO(epoll_ctl(-1, EPOLL_CTL_ADD, rd(), &event), EBADF);
  EXPECT_ERRNO(epoll_ctl(rd(), EPOLL_CTL_ADD, pipe_.write_end.get(), &event), EINVAL);
  EXPECT_ERRNO(syscall(SYS_epoll_ctl, fd_.get(), EPOLL_CTL_MOD, rd(), BadPointer()), EFAULT);
  EXPECT_ERRNO(Wait(0, 0), EINVAL);
  EXPECT_ERRNO(Wait(0, -1), EINVAL);
  EXPECT_ERRNO(syscall(SYS_epoll_wait, rd(), events_, 8, 0), EINVAL);
  Fill();
  EXPECT_ERRNO(syscall(SYS_epoll_wait, fd_.get(), BadPointer(), 8, 0), EFAULT);
  EXPECT_ERRNO(epoll_create1(0x100), EINVAL);
  EXPECT_ERRNO(epoll_create(0), EINVAL);
}

TEST_F(Epoll, SetsNest) {
  Fd outer(epoll_create1(0));
  epoll_event event = {EPOLLIN, {}};
  ASSERT_OK(epoll_ctl(outer.get(), EPOLL_CTL_ADD, fd_.get(), &event));
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN));
  EXPECT_EQ(epoll_wait(outer.get(), events_, 8, 0), 0);
  Fill();
  EXPECT_EQ(epoll_wait(outer.get(), events_, 8, 0), 1);
  pollfd p = {outer.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_ERRNO(Control(EPOLL_CTL_ADD, outer.get(), EPOLLIN), ELOOP);
}

TEST_F(Epoll, ManyDescriptorsShareTheTurns) {
  std::vector<Fd> fds;
  for (int i = 0; i < 20; ++i) {
    fds.emplace_back(eventfd(1, 0));
    ASSERT_OK(Control(EPOLL_CTL_ADD, fds.back().get(), EPOLLIN, i));
  }
  // With room for 8 at a time, all 20 must come up within three calls.
  uint32_t seen = 0;
  for (int i = 0; i < 3; ++i) {
    int n = Wait();
    EXPECT_EQ(n, 8);
    for (int k = 0; k < n; ++k) seen |= 1u << events_[k].data.u64;
  }
  EXPECT_EQ(seen, (1u << 20) - 1);
}

TEST_F(Epoll, TimeoutIsKept) {
  const int64_t start = NowNs();
  EXPECT_EQ(Wait(20), 0);
  EXPECT_GE(NowNs() - start, 20'000'000);
  timespec time = {0, 5'000'000};
  EXPECT_EQ(syscall(441 /* epoll_pwait2 */, fd_.get(), events_, 8, &time, nullptr, 8), 0);
  timespec bad = {0, -1};
  EXPECT_ERRNO(syscall(441, fd_.get(), events_, 8, &bad, nullptr, 8), EINVAL);
}

TEST_F(Epoll, WakesAWaiter) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN));
  pid_t pid = ForkChild([&] { CHILD_CHECK(Wait(10'000) == 1); });
  ASSERT_TRUE(WaitUntilBlocked(pid));
  Fill();
  EXPECT_EXITED(WaitFor(pid), 0);
}

// man 2 epoll_ctl, EPOLLEXCLUSIVE: one or more of the epolls are woken; not one for which nobody waits alone.
TEST_F(Epoll, ExclusiveEventsReachWhoWaits) {
  Fd idle(epoll_create1(EPOLL_CLOEXEC));
  ASSERT_FD(idle);
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;
  ASSERT_OK(epoll_ctl(idle.get(), EPOLL_CTL_ADD, rd(), &event));
  for (int i = 0; i < 3; ++i) {
    pid_t pid = ForkChild([&] {
      Fd own(epoll_create1(EPOLL_CLOEXEC));
      CHILD_CHECK(epoll_ctl(own.get(), EPOLL_CTL_ADD, rd(), &event) == 0);
      epoll_event got;
      CHILD_CHECK(epoll_wait(own.get(), &got, 1, 10'000) == 1);
    });
    ASSERT_TRUE(WaitUntilBlocked(pid));
    Fill();
    EXPECT_EXITED(WaitFor(pid), 0);
    Drain();
  }
}

TEST_F(Epoll, PwaitReplacesTheMask) {
  static volatile int handled;
  handled = 0;
  ScopedHandler handler(
      SIGUSR1, +[](int) { handled = 1; });
  ScopedBlock block({SIGUSR1});
  kill(getpid(), SIGUSR1);
  sigset_t none;
  sigemptyset(&none);
  EXPECT_ERRNO(epoll_pwait(fd_.get(), events_, 8, 10'000, &none), EINTR);
  EXPECT_EQ(handled, 1);
}

// A mask that a call takes is its own: afterwards the old one is there, however the call ended.
TEST_F(Epoll, TheMaskOfACallEndsWithIt) {
  ASSERT_OK(Control(EPOLL_CTL_ADD, rd(), EPOLLIN));
  sigset_t all, old;
  sigfillset(&all);
  ScopedBlock block({SIGUSR1});
  struct {
    const sigset_t* mask;
    size_t bytes;
  } argument = {&all, 8};
  timespec time = {};
  pollfd p = {rd(), POLLIN, 0};
  auto check = [&](const char* what, long result, long expected, int error = 0) {
    EXPECT_EQ(result, expected) << what;
    if (result < 0) {
      EXPECT_EQ(errno, error) << what;
    }
    ASSERT_EQ(sigprocmask(SIG_BLOCK, nullptr, &old), 0);
    EXPECT_TRUE(sigismember(&old, SIGUSR1)) << what;
    EXPECT_FALSE(sigismember(&old, SIGUSR2)) << what;
  };
  auto round = [&](const char* state, long ready) {
    SCOPED_TRACE(state);
    check("epoll_pwait", syscall(SYS_epoll_pwait, fd_.get(), events_, 8, 1, &all, 8), ready);
    check("epoll_pwait2", syscall(441, fd_.get(), events_, 8, &time, &all, 8), ready);
    check("ppoll", syscall(SYS_ppoll, &p, 1, &time, &all, 8), ready);
    fd_set in;
    FD_ZERO(&in);
    FD_SET(rd(), &in);
    check("pselect6", syscall(SYS_pselect6, rd() + 1, &in, nullptr, nullptr, &time, &argument), ready);
  };
  round("nothing", 0);
  Fill();
  round("ready", 1);
  check("EFAULT", syscall(SYS_epoll_pwait, fd_.get(), BadPointer(), 8, 1, &all, 8), -1, EFAULT);
  check("EINVAL", syscall(SYS_epoll_pwait, fd_.get(), events_, -1, 1, &all, 8), -1, EINVAL);
  check("EBADF", syscall(SYS_epoll_pwait, 12345, events_, 8, 1, &all, 8), -1, EBADF);
  check("ppoll EFAULT", syscall(SYS_ppoll, BadPointer(), 1, &time, &all, 8), -1, EFAULT);
}

TEST_F(Epoll, SocketsReportWritabilityAndPeerShutdown) {
  SocketPair s = MakeSocketPair();
  ASSERT_OK(Control(EPOLL_CTL_ADD, s.a.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP));
  ASSERT_EQ(Wait(), 1);
  EXPECT_EQ(events_[0].events, static_cast<uint32_t>(EPOLLOUT));
  ASSERT_OK(shutdown(s.b.get(), SHUT_WR));
  ASSERT_EQ(Wait(), 1);
  EXPECT_EQ(events_[0].events, static_cast<uint32_t>(EPOLLIN | EPOLLOUT | EPOLLRDHUP));
  s.b.Close();
  ASSERT_EQ(Wait(), 1);
  EXPECT_TRUE(events_[0].events & EPOLLHUP);
}

TEST(Poll, ReportsBadAndNegativeDescriptors) {
  pollfd fds[3] = {{12345, POLLIN, 0}, {-1, POLLIN, 77}, {0, 0, 0}};
  fds[2].fd = -7;
  EXPECT_EQ(poll(fds, 3, 0), 1);
  EXPECT_EQ(fds[0].revents, POLLNVAL);
  EXPECT_EQ(fds[1].revents, 0);
}

TEST(Poll, RegularFilesAreAlwaysReady) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644));
  pollfd p = {fd.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLOUT);
}

TEST(Poll, FailsAsDocumented) {
  EXPECT_ERRNO(syscall(SYS_poll, BadPointer(), 1, 0), EFAULT);
  EXPECT_EQ(syscall(SYS_poll, BadPointer(), 0, 0), 0);
  int status = RunInChild([] {
    rlimit limit = {16, 16};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    std::vector<pollfd> many(17);
    CHILD_CHECK(poll(many.data(), 17, 0) == -1 && errno == EINVAL);
  });
  EXPECT_EXITED(status, 0);
  timespec bad = {0, 1'000'000'000};
  EXPECT_ERRNO(ppoll(nullptr, 0, &bad, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_ppoll, nullptr, 0, nullptr, BadPointer(), 8), EFAULT);
  uint64_t mask = 0;
  EXPECT_ERRNO(syscall(SYS_ppoll, nullptr, 0, nullptr, &mask, 4), EINVAL);
}

TEST(Poll, PpollUpdatesItsTimeout) {
  Pipe p = MakePipe();
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  pollfd fd = {p.read_end.get(), POLLIN, 0};
  timespec time = {100, 0};
  EXPECT_EQ(syscall(SYS_ppoll, &fd, 1, &time, nullptr, 8), 1);
  EXPECT_LE(time.tv_sec, 100);
  EXPECT_GE(time.tv_sec, 90);
}

TEST(Select, ReportsReadyDescriptors) {
  Pipe p = MakePipe();
  fd_set rd, wr, ex;
  auto reset = [&] {
    FD_ZERO(&rd);
    FD_ZERO(&wr);
    FD_ZERO(&ex);
    FD_SET(p.read_end.get(), &rd);
    FD_SET(p.write_end.get(), &wr);
    FD_SET(p.read_end.get(), &ex);
  };
  const int n = std::max(p.read_end.get(), p.write_end.get()) + 1;
  timeval zero = {};
  reset();
  EXPECT_EQ(select(n, &rd, &wr, &ex, &zero), 1);
  EXPECT_FALSE(FD_ISSET(p.read_end.get(), &rd));
  EXPECT_TRUE(FD_ISSET(p.write_end.get(), &wr));
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  reset();
  EXPECT_EQ(select(n, &rd, &wr, &ex, &zero), 2);
  EXPECT_TRUE(FD_ISSET(p.read_end.get(), &rd));
  EXPECT_FALSE(FD_ISSET(p.read_end.get(), &ex));
}

TEST(Select, FailsAsDocumented) {
  fd_set set;
  FD_ZERO(&set);
  Fd closed(dup(0));
  const int number = closed.get();
  closed.Close();
  FD_SET(number, &set);
  timeval zero = {}, negative = {-1, 0};
  EXPECT_ERRNO(select(number + 1, &set, nullptr, nullptr, &zero), EBADF);
  EXPECT_ERRNO(select(-1, nullptr, nullptr, nullptr, &zero), EINVAL);
  EXPECT_ERRNO(syscall(SYS_select, 0, nullptr, nullptr, nullptr, &negative), EINVAL);
  EXPECT_ERRNO(syscall(SYS_select, 10, BadPointer(), nullptr, nullptr, &zero), EFAULT);
  EXPECT_ERRNO(syscall(SYS_select, 0, nullptr, nullptr, nullptr, BadPointer()), EFAULT);
}

TEST(Select, LeavesTheRemainingTime) {
  timeval time = {0, 5000};
  EXPECT_EQ(syscall(SYS_select, 0, nullptr, nullptr, nullptr, &time), 0);
  EXPECT_EQ(time.tv_sec, 0);
  EXPECT_EQ(time.tv_usec, 0);
  Pipe p = MakePipe();
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  fd_set rd;
  FD_ZERO(&rd);
  FD_SET(p.read_end.get(), &rd);
  time = {100, 0};
  EXPECT_EQ(syscall(SYS_select, p.read_end.get() + 1, &rd, nullptr, nullptr, &time), 1);
  EXPECT_GE(time.tv_sec, 90);
}

}  // namespace
}  // namespace conformance
