// POSIX message queues. (man 7 mq_overview) Through the system calls: names have no slash there.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <time.h>

#include "support/support.h"

namespace conformance {
namespace {

long Open(const char* name, int flags, int mode = 0600, const mq_attr* attr = nullptr) {
  return syscall(SYS_mq_open, name, flags, mode, attr);
}
long Send(int q, const char* text, size_t size, unsigned priority = 0, const timespec* t = nullptr) {
  return syscall(SYS_mq_timedsend, q, text, size, priority, t);
}
long Receive(int q, char* text, size_t size, unsigned* priority = nullptr, const timespec* t = nullptr) {
  return syscall(SYS_mq_timedreceive, q, text, size, priority, t);
}
long Unlink(const char* name) { return syscall(SYS_mq_unlink, name); }
long Notify(int q, const sigevent* event) { return syscall(SYS_mq_notify, q, event); }
long GetSet(int q, const mq_attr* set, mq_attr* old) { return syscall(SYS_mq_getsetattr, q, set, old); }

// A queue of four messages of up to 16 bytes, unlinked at the end.
struct Queue {
  std::string name = "conformance." + std::to_string(getpid());
  Fd fd;
  explicit Queue(int flags = O_RDWR, int mode = 0600) {
    mq_attr attr = {};
    attr.mq_maxmsg = 4;
    attr.mq_msgsize = 16;
    fd = Fd(static_cast<int>(Open(name.c_str(), flags | O_CREAT | O_EXCL, mode, &attr)));
  }
  ~Queue() { Unlink(name.c_str()); }
  int get() const { return fd.get(); }
};

timespec In(int ms) {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_nsec += ms * 1'000'000L;
  t.tv_sec += t.tv_nsec / 1'000'000'000;
  t.tv_nsec %= 1'000'000'000;
  return t;
}

TEST(Mqueue, OpenMakesFindsAndRefuses) {
  EXPECT_ERRNO(Open("conformance.none", O_RDWR), ENOENT);
  EXPECT_ERRNO(Open("", O_RDWR | O_CREAT), ENOENT);
  EXPECT_ERRNO(Open("a/b", O_RDWR | O_CREAT), EACCES);
  EXPECT_ERRNO(Open(std::string(NAME_MAX + 1, 'x').c_str(), O_RDWR | O_CREAT), ENAMETOOLONG);
  EXPECT_ERRNO(Open(BadPointer(), O_RDWR), EFAULT);
  Queue queue;
  ASSERT_FD(queue.fd);
  EXPECT_EQ(fcntl(queue.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_ERRNO(Open(queue.name.c_str(), O_RDWR | O_CREAT | O_EXCL), EEXIST);
  Fd other(static_cast<int>(Open(queue.name.c_str(), O_RDONLY)));
  ASSERT_FD(other);
  EXPECT_ERRNO(Send(other.get(), "x", 1), EBADF);
  mq_attr attr = {};
  attr.mq_maxmsg = 0;
  attr.mq_msgsize = 10;
  EXPECT_ERRNO(Open("conformance.bad", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
  attr.mq_maxmsg = 1 << 20;
  EXPECT_ERRNO(Open("conformance.bad", O_RDWR | O_CREAT, 0600, &attr), EINVAL);
  EXPECT_OK(Unlink(queue.name.c_str()));
  EXPECT_ERRNO(Unlink(queue.name.c_str()), ENOENT);
  EXPECT_OK(Send(queue.get(), "x", 1));  // lives on without its name
}

TEST(Mqueue, HasDefaults) {
  const std::string name = "conformance.default." + std::to_string(getpid());
  Fd queue(static_cast<int>(Open(name.c_str(), O_RDWR | O_CREAT)));
  ASSERT_FD(queue);
  EXPECT_OK(Unlink(name.c_str()));
  mq_attr attr = {};
  EXPECT_OK(GetSet(queue.get(), nullptr, &attr));
  EXPECT_EQ(attr.mq_maxmsg, 10);
  EXPECT_EQ(attr.mq_msgsize, 8192);
  EXPECT_EQ(attr.mq_flags, 0);
}

TEST(Mqueue, PriorityThenOrder) {
  Queue queue;
  ASSERT_OK(Send(queue.get(), "low1", 5, 1));
  ASSERT_OK(Send(queue.get(), "high", 5, 9));
  ASSERT_OK(Send(queue.get(), "low2", 5, 1));
  ASSERT_OK(Send(queue.get(), "", 0, 32767));
  mq_attr attr = {};
  EXPECT_OK(GetSet(queue.get(), nullptr, &attr));
  EXPECT_EQ(attr.mq_curmsgs, 4);
  char text[16];
  unsigned priority;
  EXPECT_EQ(Receive(queue.get(), text, sizeof(text), &priority), 0);
  EXPECT_EQ(priority, 32767u);
  EXPECT_EQ(Receive(queue.get(), text, sizeof(text), &priority), 5);
  EXPECT_STREQ(text, "high");
  EXPECT_EQ(Receive(queue.get(), text, sizeof(text)), 5);
  EXPECT_STREQ(text, "low1");
  EXPECT_EQ(Receive(queue.get(), text, sizeof(text)), 5);
  EXPECT_STREQ(text, "low2");
}

TEST(Mqueue, Errors) {
  Queue queue;
  char text[17];
  EXPECT_ERRNO(Send(queue.get(), text, 17), EMSGSIZE);
  EXPECT_ERRNO(Receive(queue.get(), text, 15), EMSGSIZE);
  EXPECT_ERRNO(Send(queue.get(), "x", 1, 32768), EINVAL);
  EXPECT_ERRNO(Send(queue.get(), BadPointer(), 1), EFAULT);
  EXPECT_ERRNO(Send(-1, "x", 1), EBADF);
  Pipe pipe = MakePipe();
  EXPECT_ERRNO(Send(pipe.write_end.get(), "x", 1), EBADF);
  timespec bad = {0, 1'000'000'000};
  EXPECT_ERRNO(Receive(queue.get(), text, 16, nullptr, &bad), EINVAL);
  timespec soon = In(5);
  EXPECT_ERRNO(Receive(queue.get(), text, 16, nullptr, &soon), ETIMEDOUT);
  for (int i = 0; i < 4; ++i) ASSERT_OK(Send(queue.get(), "x", 1));
  soon = In(5);
  EXPECT_ERRNO(Send(queue.get(), "x", 1, 0, &soon), ETIMEDOUT);
}

TEST(Mqueue, NonblockingIsOfTheDescription) {
  Queue queue(O_RDWR | O_NONBLOCK);
  char text[16];
  EXPECT_ERRNO(Receive(queue.get(), text, 16), EAGAIN);
  for (int i = 0; i < 4; ++i) ASSERT_OK(Send(queue.get(), "x", 1));
  EXPECT_ERRNO(Send(queue.get(), "x", 1), EAGAIN);
  mq_attr attr = {}, old = {};
  EXPECT_OK(GetSet(queue.get(), &attr, &old));
  EXPECT_EQ(old.mq_flags, O_NONBLOCK);
  EXPECT_EQ(fcntl(queue.get(), F_GETFL) & O_NONBLOCK, 0);
  attr.mq_flags = O_APPEND;
  EXPECT_ERRNO(GetSet(queue.get(), &attr, nullptr), EINVAL);
}

TEST(Mqueue, WaitersAreWoken) {
  Queue queue;
  ChildGuard receiver(ForkChild([&] {
    char text[16];
    CHILD_CHECK(Receive(queue.get(), text, 16) == 3);
  }));
  ASSERT_TRUE(WaitUntilBlocked(receiver.pid()));
  EXPECT_OK(Send(queue.get(), "abc", 3));
  EXPECT_EXITED(receiver.Wait(), 0);
  for (int i = 0; i < 4; ++i) ASSERT_OK(Send(queue.get(), "x", 1));
  ChildGuard sender(ForkChild([&] { CHILD_CHECK(Send(queue.get(), "y", 1) == 0); }));
  ASSERT_TRUE(WaitUntilBlocked(sender.pid()));
  char text[16];
  EXPECT_EQ(Receive(queue.get(), text, 16), 1);
  EXPECT_EXITED(sender.Wait(), 0);
}

TEST(Mqueue, SignalsInterrupt) {
  Queue queue;
  ChildGuard child(ForkChild([&] {
    ScopedHandler handler(SIGUSR1, [](int) {});
    char text[16];
    CHILD_CHECK(Receive(queue.get(), text, 16) == -1 && errno == EINTR);
  }));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  kill(child.pid(), SIGUSR1);
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(Mqueue, PollShowsRoomAndMessages) {
  Queue queue;
  auto now = [&] {
    pollfd p = {queue.get(), POLLIN | POLLOUT, 0};
    poll(&p, 1, 0);
    return p.revents;
  };
  EXPECT_EQ(now(), POLLOUT);
  for (int i = 0; i < 3; ++i) ASSERT_OK(Send(queue.get(), "x", 1));
  EXPECT_EQ(now(), POLLIN | POLLOUT);
  ASSERT_OK(Send(queue.get(), "x", 1));
  EXPECT_EQ(now(), POLLIN);
  char text[128] = {};
  EXPECT_GT(read(queue.get(), text, sizeof(text) - 1), 0);
  EXPECT_EQ(std::string(text).rfind("QSIZE:4 ", 0), 0u) << text;
}

siginfo_t g_info;
volatile sig_atomic_t g_count;

TEST(Mqueue, NotifiesOnceOfTheFirstMessage) {
  Queue queue;
  g_count = 0;
  ScopedHandler handler(SIGUSR1, [](int, siginfo_t* info, void*) {
    g_info = *info;
    g_count = g_count + 1;
  });
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  event.sigev_value.sival_int = 77;
  ASSERT_OK(Notify(queue.get(), &event));
  EXPECT_ERRNO(Notify(queue.get(), &event), EBUSY);
  int status = RunInChild([&] {
    CHILD_CHECK(Notify(queue.get(), &event) == -1 && errno == EBUSY);
    CHILD_CHECK(Send(queue.get(), "x", 1) == 0);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_code, SI_MESGQ);
  EXPECT_EQ(g_info.si_value.sival_int, 77);
  EXPECT_NE(g_info.si_pid, 0);
  ASSERT_OK(Notify(queue.get(), &event));
  ASSERT_OK(Send(queue.get(), "x", 1));  // not the first: nothing
  EXPECT_EQ(g_count, 1);
  ASSERT_OK(Notify(queue.get(), nullptr));
  event.sigev_signo = 999;
  EXPECT_ERRNO(Notify(queue.get(), &event), EINVAL);
  event.sigev_notify = SIGEV_NONE;
  EXPECT_OK(Notify(queue.get(), &event));
}

TEST(Mqueue, PermissionsAreChecked) {
  Queue queue(O_RDWR, 0604);
  int status = RunInChild([&] {
    CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
    CHILD_CHECK(Open(queue.name.c_str(), O_RDWR) == -1 && errno == EACCES);
    CHILD_CHECK(Open(queue.name.c_str(), O_RDONLY) >= 0);
    CHILD_CHECK(Unlink(queue.name.c_str()) == -1 && errno == EPERM);
    mq_attr attr = {};
    attr.mq_maxmsg = 11;
    attr.mq_msgsize = 10;
    CHILD_CHECK(Open("conformance.bad", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EINVAL);
    rlimit limit = {100, 100};
    CHILD_CHECK(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
    attr.mq_maxmsg = 10;
    CHILD_CHECK(Open("conformance.bad", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EMFILE);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Mqueue, AMountShowsTheQueuesAsFiles) {
  Queue queue(O_RDWR, 0640);
  TempDir dir;
  int status = RunInChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
    CHILD_CHECK(mount("mqueue", dir.path().c_str(), "mqueue", 0, nullptr) == 0);
    struct statfs fs;
    CHILD_CHECK(statfs(dir.path().c_str(), &fs) == 0 && fs.f_type == 0x19800202);
    struct stat st;
    CHILD_CHECK(stat(dir.path().c_str(), &st) == 0 && (st.st_mode & 07777) == 01777);
    const std::string path = dir / queue.name;
    CHILD_CHECK(stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640);
    CHILD_CHECK(st.st_size == 80);
    bool listed = false;
    DIR* list = opendir(dir.path().c_str());
    while (dirent* entry = readdir(list)) listed = listed || queue.name == entry->d_name;
    closedir(list);
    CHILD_CHECK(listed);
    CHILD_CHECK(Send(queue.get(), "hello", 5) == 0);
    CHILD_CHECK(ReadFile(path).rfind("QSIZE:5 ", 0) == 0);
    // A descriptor of the file is one of the queue.
    Fd file(open(path.c_str(), O_RDONLY));
    char text[16];
    CHILD_CHECK(file.ok() && Receive(file.get(), text, sizeof(text)) == 5);
    // touch(1) makes a queue, rm(1) takes it away; directories are not possible.
    const std::string made = path + ".made";
    Fd created(open(made.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
    CHILD_CHECK(created.ok());
    CHILD_CHECK(Open((queue.name + ".made").c_str(), O_RDONLY) >= 0);
    CHILD_CHECK(unlink(made.c_str()) == 0);
    CHILD_CHECK(Open((queue.name + ".made").c_str(), O_RDONLY) == -1 && errno == ENOENT);
    CHILD_CHECK(mkdir(made.c_str(), 0700) == -1 && errno == EPERM);
    CHILD_CHECK(unlink(path.c_str()) == 0 && stat(path.c_str(), &st) == -1 && errno == ENOENT);
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
