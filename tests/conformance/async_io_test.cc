// Signal-driven I/O (O_ASYNC, F_SETOWN, F_SETSIG) and leases (F_SETLEASE). (man 2 fcntl)
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <atomic>
#include <thread>

#include "support/support.h"

namespace conformance {
namespace {

std::atomic<int> g_count{0};
siginfo_t g_info;
void Count(int, siginfo_t* info, void*) {
  g_info = *info;
  ++g_count;
}

int Async(int fd, bool on = true) {
  int flags = fcntl(fd, F_GETFL);
  return fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~O_ASYNC);
}

class AsyncIo : public ::testing::Test {
 protected:
  void SetUp() override { g_count = 0; }
  ScopedHandler handler_{SIGIO, Count, SA_RESTART};
};

TEST_F(AsyncIo, APipeSignalsItsReader) {
  Pipe pipe = MakePipe();
  const int fd = pipe.read_end.get();
  ASSERT_OK(Async(fd));
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_ASYNC, O_ASYNC);
  EXPECT_EQ(fcntl(fd, F_GETOWN), 0);
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_EQ(g_count, 0);  // nobody owns it
  ASSERT_OK(fcntl(fd, F_SETOWN, getpid()));
  EXPECT_EQ(fcntl(fd, F_GETOWN), getpid());
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_signo, SIGIO);
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
  ASSERT_OK(Async(fd, false));
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_EQ(g_count, 1);
}

TEST_F(AsyncIo, FIOASYNCIsTheSame) {
  Pipe pipe = MakePipe();
  int on = 1;
  ASSERT_OK(ioctl(pipe.read_end.get(), FIOASYNC, &on));
  EXPECT_EQ(fcntl(pipe.read_end.get(), F_GETFL) & O_ASYNC, O_ASYNC);
  ASSERT_OK(fcntl(pipe.read_end.get(), F_SETOWN, getpid()));
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_EQ(g_count, 1);
  TempDir dir;
  Fd file(open((dir / "f").c_str(), O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ioctl(file.get(), FIOASYNC, &on), ENOTTY);
}

TEST_F(AsyncIo, SetsigGivesDetails) {
  SocketPair pair = MakeSocketPair();
  const int fd = pair.a.get();
  ScopedHandler handler(SIGRTMIN + 3, Count, SA_RESTART);
  EXPECT_EQ(fcntl(fd, F_GETSIG), 0);
  ASSERT_OK(fcntl(fd, F_SETSIG, SIGRTMIN + 3));
  EXPECT_EQ(fcntl(fd, F_GETSIG), SIGRTMIN + 3);
  EXPECT_ERRNO(fcntl(fd, F_SETSIG, 99), EINVAL);
  ASSERT_OK(fcntl(fd, F_SETOWN, getpid()));
  ASSERT_OK(Async(fd));
  ASSERT_EQ(write(pair.b.get(), "x", 1), 1);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_signo, SIGRTMIN + 3);
  EXPECT_EQ(g_info.si_code, POLL_IN);
  EXPECT_EQ(g_info.si_fd, fd);
  EXPECT_EQ(g_info.si_band, POLLIN | POLLRDNORM);
  ASSERT_OK(Async(fd, false));  // the other end is closed without the handler
}

TEST_F(AsyncIo, OwnersCanBeThreadsAndGroups) {
  struct OwnerEx {
    int type, pid;
  };
  Pipe pipe = MakePipe();
  const int fd = pipe.read_end.get();
  ASSERT_OK(Async(fd));
  static std::atomic<pid_t> tid{0}, got{0};
  static std::atomic<bool> stop{false};
  tid = got = 0;
  stop = false;
  ScopedHandler handler(
      SIGIO, [](int) { got = static_cast<pid_t>(syscall(SYS_gettid)); }, SA_RESTART);
  std::thread thread([] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    while (!stop) SleepMs(1);
  });
  ASSERT_TRUE(Eventually([] { return tid != 0; }));
  OwnerEx owner = {F_OWNER_TID, tid};
  EXPECT_OK(fcntl(fd, F_SETOWN_EX, &owner));
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_TRUE(Eventually([] { return got == tid; }));
  owner = {};
  EXPECT_OK(fcntl(fd, F_GETOWN_EX, &owner));
  EXPECT_EQ(owner.type, F_OWNER_TID);
  EXPECT_EQ(owner.pid, tid);
  stop = true;
  thread.join();
  got = 0;
  EXPECT_OK(fcntl(fd, F_SETOWN, -getpgrp()));
  EXPECT_EQ(fcntl(fd, F_GETOWN), -getpgrp());
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_TRUE(Eventually([] { return got == getpid(); }));
  EXPECT_OK(fcntl(fd, F_SETOWN, 0));
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(fcntl(fd, F_SETOWN, gone), ESRCH);
}

TEST_F(AsyncIo, AnotherProcessIsTold) {
  Pipe pipe = MakePipe(), ready = MakePipe();
  ChildGuard child(ForkChild([&] {
    sigset_t set = MakeSet({SIGIO});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    CHILD_CHECK(Async(pipe.read_end.get()) == 0);
    CHILD_CHECK(fcntl(pipe.read_end.get(), F_SETOWN, getpid()) == 0);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    timespec t = {10, 0};
    CHILD_CHECK(sigtimedwait(&set, nullptr, &t) == SIGIO);
  }));
  char c;
  ASSERT_EQ(read(ready.read_end.get(), &c, 1), 1);
  ASSERT_EQ(write(pipe.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

TEST_F(AsyncIo, TerminalsSignalInput) {
  int master, slave;
  ASSERT_OK(openpty(&master, &slave, nullptr, nullptr, nullptr));
  Fd m(master), s(slave);
  termios t;
  tcgetattr(slave, &t);
  cfmakeraw(&t);
  tcsetattr(slave, TCSANOW, &t);
  ASSERT_OK(fcntl(slave, F_SETOWN, getpid()));
  ASSERT_OK(Async(slave));
  ASSERT_EQ(write(master, "x", 1), 1);
  EXPECT_TRUE(Eventually([] { return g_count >= 1; }));
}

TEST_F(AsyncIo, ListeningSocketsSignalConnections) {
  Fd listener(socket(AF_UNIX, SOCK_STREAM, 0)), client(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr address = {AF_UNIX, {}};
  ASSERT_OK(bind(listener.get(), &address, sizeof(sa_family_t)));
  ASSERT_OK(listen(listener.get(), 5));
  ASSERT_OK(fcntl(listener.get(), F_SETOWN, getpid()));
  ASSERT_OK(Async(listener.get()));
  sockaddr_storage name;
  socklen_t length = sizeof(name);
  ASSERT_OK(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length));
  ASSERT_OK(connect(client.get(), reinterpret_cast<sockaddr*>(&name), length));
  EXPECT_GE(g_count, 1);
}

// --- Leases.

class Lease : public AsyncIo {
 protected:
  void SetUp() override {
    AsyncIo::SetUp();
    path_ = dir_ / "f";
    ASSERT_TRUE(WriteFile(path_, "hello"));
  }
  TempDir dir_;
  std::string path_;
};

TEST_F(Lease, AreGivenWhenNobodyElseIsInTheWay) {
  Fd reader(open(path_.c_str(), O_RDONLY));
  EXPECT_EQ(fcntl(reader.get(), F_GETLEASE), F_UNLCK);
  EXPECT_ERRNO(fcntl(reader.get(), F_SETLEASE, F_UNLCK), EAGAIN);
  EXPECT_OK(fcntl(reader.get(), F_SETLEASE, F_RDLCK));
  EXPECT_EQ(fcntl(reader.get(), F_GETLEASE), F_RDLCK);
  EXPECT_OK(fcntl(reader.get(), F_SETLEASE, F_WRLCK));
  EXPECT_EQ(fcntl(reader.get(), F_GETLEASE), F_WRLCK);
  EXPECT_OK(fcntl(reader.get(), F_SETLEASE, F_UNLCK));
  EXPECT_ERRNO(fcntl(reader.get(), F_SETLEASE, 77), EINVAL);
  Fd writer(open(path_.c_str(), O_RDWR));
  EXPECT_ERRNO(fcntl(reader.get(), F_SETLEASE, F_RDLCK), EAGAIN);
  EXPECT_ERRNO(fcntl(writer.get(), F_SETLEASE, F_RDLCK), EAGAIN);
  EXPECT_ERRNO(fcntl(writer.get(), F_SETLEASE, F_WRLCK), EAGAIN);
  reader.Close();
  EXPECT_OK(fcntl(writer.get(), F_SETLEASE, F_WRLCK));
  Pipe pipe = MakePipe();
  EXPECT_ERRNO(fcntl(pipe.read_end.get(), F_SETLEASE, F_RDLCK), EINVAL);
}

TEST_F(Lease, ANonblockingOpenBreaksAndFails) {
  Fd holder(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
  Fd other(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_FD(other);  // readers do not break a read lease
  EXPECT_EQ(g_count, 0);
  EXPECT_ERRNO(open(path_.c_str(), O_WRONLY | O_NONBLOCK), EWOULDBLOCK);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(fcntl(holder.get(), F_GETLEASE), F_UNLCK);
  EXPECT_ERRNO(open(path_.c_str(), O_WRONLY | O_NONBLOCK), EWOULDBLOCK);
  EXPECT_EQ(g_count, 1);  // told once
  EXPECT_OK(fcntl(holder.get(), F_SETLEASE, F_UNLCK));
  Fd writer(open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_FD(writer);
}

TEST_F(Lease, AWriteLeaseBecomesAReadLease) {
  Fd holder(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_WRLCK));
  EXPECT_ERRNO(open(path_.c_str(), O_RDONLY | O_NONBLOCK), EWOULDBLOCK);
  EXPECT_EQ(fcntl(holder.get(), F_GETLEASE), F_RDLCK);
  EXPECT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
  Fd other(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_FD(other);
}

TEST_F(Lease, OpensWaitForTheHolder) {
  Fd holder(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
  for (bool cut : {false, true}) {
    g_count = 0;
    ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
    ChildGuard child(ForkChild([&] {
      if (cut) {
        CHILD_CHECK(truncate(path_.c_str(), 1) == 0);
      } else {
        CHILD_CHECK(open(path_.c_str(), O_WRONLY) >= 0);
      }
    }));
    ASSERT_TRUE(Eventually([] { return g_count == 1; }));
    ASSERT_TRUE(WaitUntilBlocked(child.pid()));
    EXPECT_ERRNO(fcntl(holder.get(), F_SETLEASE, F_RDLCK), EAGAIN) << "who waits is a writer";
    EXPECT_OK(fcntl(holder.get(), F_SETLEASE, F_UNLCK));
    EXPECT_EXITED(child.Wait(), 0);
  }
}

TEST_F(Lease, EndsWithTheDescription) {
  Fd holder(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
  ChildGuard child(ForkChild([&] {
    holder.Close();  // the description is the parent's as well
    CHILD_CHECK(open(path_.c_str(), O_WRONLY) >= 0);
  }));
  ASSERT_TRUE(Eventually([] { return g_count == 1; }));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  holder.Close();
  EXPECT_EXITED(child.Wait(), 0);
}

TEST_F(Lease, SetsigTellsWhichFile) {
  ScopedHandler handler(SIGRTMIN + 3, Count, SA_RESTART);
  Fd holder(open(path_.c_str(), O_RDONLY));
  ASSERT_OK(fcntl(holder.get(), F_SETSIG, SIGRTMIN + 3));
  ASSERT_OK(fcntl(holder.get(), F_SETLEASE, F_RDLCK));
  EXPECT_ERRNO(open(path_.c_str(), O_RDWR | O_NONBLOCK), EWOULDBLOCK);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_fd, holder.get());
  EXPECT_EQ(g_info.si_code, POLL_MSG);
}

TEST_F(Lease, OthersFilesNeedTheCapability) {
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  ASSERT_OK(chmod(path_.c_str(), 0644));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
    int fd = open(path_.c_str(), O_RDONLY);
    CHILD_CHECK(fd >= 0);
    CHILD_CHECK(fcntl(fd, F_SETLEASE, F_RDLCK) == -1 && errno == EACCES);
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
