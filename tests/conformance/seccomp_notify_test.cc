// The listener of a filter (seccomp_unotify(2)): who asks, who answers, and what interrupts them.
#include <linux/audit.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "support/seccomp.h"

namespace conformance {
namespace {

volatile sig_atomic_t g_count;  // signals

// A child whose getppid and openat go to a listener, which the test has.
class Asked {
 public:
  explicit Asked(const std::function<void()>& body, unsigned flags = 0, int number = SYS_getppid) {
    SocketPair pair = MakeSocketPair();
    child_ = ForkChild([&] {
      NoNewPrivs();
      long listener = Install(For(number, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER | flags);
      CHILD_CHECK(listener >= 0);
      CHILD_CHECK(fcntl(static_cast<int>(listener), F_GETFD) == FD_CLOEXEC);
      Send(pair.b.get(), static_cast<int>(listener));
      close(static_cast<int>(listener));
      body();
    });
    listener_ = Fd(Receive(pair.a.get()));
  }
  ~Asked() {
    if (child_ > 0) {
      kill(child_, SIGKILL);
      WaitFor(child_);
    }
  }
  int fd() const { return listener_.get(); }
  pid_t child() const { return child_; }
  int Wait() { return WaitFor(std::exchange(child_, -1)); }
  void CloseListener() { listener_.Close(); }
  seccomp_notif Next() {
    seccomp_notif n = {};
    EXPECT_OK(ioctl(fd(), SECCOMP_IOCTL_NOTIF_RECV, &n));
    return n;
  }
  void Answer(uint64_t id, int64_t value, int error = 0, uint32_t flags = 0) {
    seccomp_notif_resp response = {id, value, error, flags};
    EXPECT_OK(ioctl(fd(), SECCOMP_IOCTL_NOTIF_SEND, &response));
  }

 private:
  static void Send(int socket, int fd) {
    char c = 'x';
    iovec iov = {&c, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    CHILD_CHECK(sendmsg(socket, &message, 0) == 1);
  }
  static int Receive(int socket) {
    char c;
    iovec iov = {&c, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    if (recvmsg(socket, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return fd;
  }
  pid_t child_;
  Fd listener_;
};

short PollNow(int fd) {
  pollfd p = {fd, POLLIN | POLLOUT, 0};
  poll(&p, 1, 0);
  return p.revents;
}

TEST(SeccompNotify, TheListenerDecides) {
  Asked asked([] {
    CHILD_CHECK(syscall(SYS_getppid, 11, 12, 13, 14, 15, 16) == 4711);
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == EXDEV);
    CHILD_CHECK(syscall(SYS_getppid) > 0);  // CONTINUE
  });
  ASSERT_GE(asked.fd(), 0);
  seccomp_notif n = asked.Next();
  EXPECT_EQ(static_cast<pid_t>(n.pid), asked.child());
  EXPECT_EQ(n.data.nr, SYS_getppid);
  EXPECT_EQ(n.data.arch, uint32_t{AUDIT_ARCH_X86_64});
  for (int i = 0; i < 6; ++i) EXPECT_EQ(n.data.args[i], 11u + i);
  EXPECT_EQ(PollNow(asked.fd()), POLLOUT);
  EXPECT_OK(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
  asked.Answer(n.id, 4711);
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), ENOENT);
  uint64_t before = n.id;
  n = asked.Next();
  EXPECT_NE(n.id, before);
  asked.Answer(n.id, 0, -EXDEV);
  n = asked.Next();
  asked.Answer(n.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
  EXPECT_EXITED(asked.Wait(), 0);
}

TEST(SeccompNotify, PollTellsOfQuestionsAndOfTheEnd) {
  Asked asked([] { syscall(SYS_getppid); });
  EXPECT_TRUE(Eventually([&] { return PollNow(asked.fd()) == POLLIN; }));
  seccomp_notif n = asked.Next();
  asked.Answer(n.id, 1);
  EXPECT_EXITED(asked.Wait(), 0);
  EXPECT_TRUE(Eventually([&] { return PollNow(asked.fd()) & POLLHUP; }));
}

TEST(SeccompNotify, BadUsesFail) {
  Asked asked([] { CHILD_CHECK(syscall(SYS_getppid) == 5); });
  seccomp_notif n = {};
  n.pid = 1;
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_RECV, &n), EINVAL);
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_RECV, BadPointer()), EFAULT);
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_SEND, BadPointer()), EFAULT);
  n = asked.Next();
  seccomp_notif_resp r = {n.id + 1, 0, 0, 0};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_SEND, &r), ENOENT);
  r = {n.id, 0, 0, 0x80};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
  r = {n.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
  EXPECT_ERRNO(ioctl(asked.fd(), 0x1234, 0), EINVAL);
  char c;
  EXPECT_ERRNO(read(asked.fd(), &c, 1), EINVAL);
  asked.Answer(n.id, 5);
  EXPECT_EXITED(asked.Wait(), 0);
}

TEST(SeccompNotify, AListenerThatGoesIsENOSYS) {
  Asked asked([] {
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS);
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS);
  });
  (void)asked.Next();
  asked.CloseListener();
  EXPECT_EXITED(asked.Wait(), 0);
}

TEST(SeccompNotify, ASignalInterruptsTheQuestion) {
  Asked asked([] {
    ScopedHandler handler(SIGUSR1, [](int) { g_count = g_count + 1; });
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == EINTR);
    CHILD_CHECK(g_count == 1);
  });
  seccomp_notif n = asked.Next();
  kill(asked.child(), SIGUSR1);
  EXPECT_EXITED(asked.Wait(), 0);
  seccomp_notif_resp r = {n.id, 0, 0, 0};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_SEND, &r), ENOENT);
}

TEST(SeccompNotify, AskedAgainAfterASignalWithRestart) {
  Asked asked([] {
    ScopedHandler handler(
        SIGUSR1, [](int) { g_count = g_count + 1; }, SA_RESTART);
    CHILD_CHECK(syscall(SYS_getppid) == 7);
    CHILD_CHECK(g_count == 1);
  });
  seccomp_notif n = asked.Next();
  kill(asked.child(), SIGUSR1);
  seccomp_notif again = asked.Next();
  EXPECT_NE(n.id, again.id);
  asked.Answer(again.id, 7);
  EXPECT_EXITED(asked.Wait(), 0);
}

TEST(SeccompNotify, WaitKillableOutlastsSignals) {
  Asked asked(
      [] {
        ScopedHandler handler(SIGUSR1, [](int) { g_count = g_count + 1; });
        CHILD_CHECK(syscall(SYS_getppid) == 7);
        CHILD_CHECK(g_count == 1);
      },
      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  seccomp_notif n = asked.Next();
  kill(asked.child(), SIGUSR1);
  SleepMs(20);  // nothing can be waited for: the point is that nothing happens
  EXPECT_OK(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
  asked.Answer(n.id, 7);
  EXPECT_EXITED(asked.Wait(), 0);
}

TEST(SeccompNotify, WaitKillableStillDiesOfSIGKILL) {
  Asked asked([] { syscall(SYS_getppid); }, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  (void)asked.Next();
  kill(asked.child(), SIGKILL);
  EXPECT_SIGNALED(asked.Wait(), SIGKILL);
}

TEST(SeccompNotify, AddFdPutsADescriptorIntoTheAsker) {
  Fd event(eventfd(0, EFD_NONBLOCK));
  ASSERT_FD(event);
  Asked asked([] {
    long fd = syscall(SYS_getppid);
    CHILD_CHECK(fd >= 0);
    uint64_t one = 1;
    CHILD_CHECK(write(static_cast<int>(fd), &one, sizeof(one)) == sizeof(one));
    CHILD_CHECK(fcntl(static_cast<int>(fd), F_GETFD) == FD_CLOEXEC);
    fd = syscall(SYS_getppid);  // ADDFD with SEND
    CHILD_CHECK(write(static_cast<int>(fd), &one, sizeof(one)) == sizeof(one));
    CHILD_CHECK(syscall(SYS_getppid) == 50);
    CHILD_CHECK(write(50, &one, sizeof(one)) == sizeof(one));
  });
  seccomp_notif n = asked.Next();
  seccomp_notif_addfd add = {n.id, 0, static_cast<uint32_t>(event.get()), 0, O_CLOEXEC};
  add.newfd_flags = 1;
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add), EINVAL);
  add = {n.id, 0, static_cast<uint32_t>(event.get()), 7, 0};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add), EINVAL);
  add = {n.id, 0, 999, 0, 0};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add), EBADF);
  add = {n.id + 1, 0, static_cast<uint32_t>(event.get()), 0, 0};
  EXPECT_ERRNO(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add), ENOENT);
  add = {n.id, 0, static_cast<uint32_t>(event.get()), 0, O_CLOEXEC};
  int there = ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  ASSERT_GE(there, 0);
  asked.Answer(n.id, there);
  n = asked.Next();
  add = {n.id, SECCOMP_ADDFD_FLAG_SEND, static_cast<uint32_t>(event.get()), 0, 0};
  EXPECT_OK(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add));
  n = asked.Next();
  add = {n.id, SECCOMP_ADDFD_FLAG_SETFD, static_cast<uint32_t>(event.get()), 50, 0};
  EXPECT_EQ(ioctl(asked.fd(), SECCOMP_IOCTL_NOTIF_ADDFD, &add), 50);
  asked.Answer(n.id, 50);
  EXPECT_EXITED(asked.Wait(), 0);
  uint64_t count = 0;
  EXPECT_EQ(read(event.get(), &count, sizeof(count)), ssize_t{sizeof(count)});
  EXPECT_EQ(count, 3u);
}

TEST(SeccompNotify, OneListenerPerTree) {
  int status = RunInChild([] {
    NoNewPrivs();
    long listener = Install({Ret(SECCOMP_RET_ALLOW)}, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    CHILD_CHECK(listener >= 0);
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}, SECCOMP_FILTER_FLAG_NEW_LISTENER) == -1 && errno == EBUSY);
    CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == 0);
    char link[64] = {};
    CHILD_CHECK(readlink(("/proc/self/fd/" + std::to_string(listener)).c_str(), link, sizeof(link)) > 0);
    CHILD_CHECK(std::string(link) == "anon_inode:seccomp notify");
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
