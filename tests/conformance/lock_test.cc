// flock(2), record locks of fcntl(2): POSIX and open file description.
#include <sys/file.h>

#include <string>

#include "support/support.h"

#ifndef F_OFD_SETLK
#define F_OFD_GETLK 36
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#endif

namespace conformance {
namespace {

struct flock Range(short type, off_t start, off_t length) {
  struct flock f = {};
  f.l_type = type;
  f.l_whence = SEEK_SET;
  f.l_start = start;
  f.l_len = length;
  return f;
}

int Set(int fd, short type, off_t start, off_t length, int command = F_SETLK) {
  struct flock f = Range(type, start, length);
  return fcntl(fd, command, &f);
}

struct flock Get(int fd, short type, off_t start, off_t length, int command = F_GETLK) {
  struct flock f = Range(type, start, length);
  EXPECT_EQ(fcntl(fd, command, &f), 0) << strerror(errno);
  return f;
}

class Locks : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(WriteFile(path_, std::string(1000, 'x'))); }
  Fd Open(int flags = O_RDWR) { return Fd(open(path_.c_str(), flags)); }
  TempDir dir_;
  std::string path_ = dir_ / "file";
};
using Flock = Locks;
using Posix = Locks;
using Ofd = Locks;

TEST_F(Flock, SharedLocksShareAndExclusiveOnesDoNot) {
  Fd a = Open(), b = Open(), c = Open(O_RDONLY);
  EXPECT_OK(flock(a.get(), LOCK_SH));
  EXPECT_OK(flock(b.get(), LOCK_SH | LOCK_NB));
  EXPECT_ERRNO(flock(c.get(), LOCK_EX | LOCK_NB), EWOULDBLOCK);
  EXPECT_OK(flock(a.get(), LOCK_UN));
  EXPECT_OK(flock(b.get(), LOCK_EX | LOCK_NB)) << "conversion";
  EXPECT_ERRNO(flock(a.get(), LOCK_SH | LOCK_NB), EWOULDBLOCK);
  b.Close();
  EXPECT_OK(flock(a.get(), LOCK_EX | LOCK_NB));
}

TEST_F(Flock, BelongsToTheDescription) {
  Fd a = Open(), b = Open();
  ASSERT_OK(flock(a.get(), LOCK_EX));
  Fd copy(dup(a.get()));
  a.Close();
  EXPECT_ERRNO(flock(b.get(), LOCK_EX | LOCK_NB), EWOULDBLOCK);
  EXPECT_EXITED(RunInChild([&] { CHILD_CHECK(flock(copy.get(), LOCK_UN) == 0); }), 0);
  EXPECT_OK(flock(b.get(), LOCK_EX | LOCK_NB));
}

TEST_F(Flock, WaitsForItsTurn) {
  Fd a = Open();
  ASSERT_OK(flock(a.get(), LOCK_EX));
  pid_t pid = ForkChild([&] {
    Fd mine = Open();
    CHILD_CHECK(flock(mine.get(), LOCK_EX) == 0);
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_OK(flock(a.get(), LOCK_UN));
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST_F(Flock, FailsAsDocumented) {
  Fd a = Open();
  EXPECT_ERRNO(flock(-1, LOCK_SH), EBADF);
  EXPECT_ERRNO(flock(a.get(), 0), EINVAL);
  EXPECT_ERRNO(flock(a.get(), LOCK_SH | LOCK_EX), EINVAL);
  Fd path(open(path_.c_str(), O_PATH));
  EXPECT_ERRNO(flock(path.get(), LOCK_SH), EBADF);
}

TEST_F(Posix, ConflictsBetweenProcessesAreReported) {
  Fd a = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 10, 20));
  ASSERT_OK(Set(a.get(), F_RDLCK, 100, 0));
  EXPECT_EQ(Get(a.get(), F_WRLCK, 0, 0).l_type, F_UNLCK) << "one's own locks are no conflict";
  pid_t parent = getpid();
  EXPECT_EXITED(RunInChild([&] {
                  struct flock f = Get(a.get(), F_RDLCK, 0, 50);
                  CHILD_CHECK(f.l_type == F_WRLCK && f.l_start == 10 && f.l_len == 20 && f.l_pid == parent);
                  CHILD_CHECK(f.l_whence == SEEK_SET);
                  CHILD_CHECK(Get(a.get(), F_RDLCK, 30, 10).l_type == F_UNLCK);
                  f = Get(a.get(), F_WRLCK, 200, 1);
                  CHILD_CHECK(f.l_type == F_RDLCK && f.l_start == 100 && f.l_len == 0);
                  CHILD_CHECK(Set(a.get(), F_RDLCK, 500, 1) == 0);
                  CHILD_CHECK(Set(a.get(), F_WRLCK, 500, 1) == -1 && errno == EAGAIN);
                  CHILD_CHECK(Set(a.get(), F_WRLCK, 29, 1) == -1 && errno == EAGAIN);
                  CHILD_CHECK(Set(a.get(), F_WRLCK, 30, 70) == 0);
                }),
                0);
}

TEST_F(Posix, SplitAndMerge) {
  Fd a = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 0, 100));
  ASSERT_OK(Set(a.get(), F_UNLCK, 40, 20));
  ASSERT_OK(Set(a.get(), F_RDLCK, 60, 10));
  EXPECT_EXITED(RunInChild([&] {
                  struct flock f = Get(a.get(), F_WRLCK, 0, 0);
                  CHILD_CHECK(f.l_type == F_WRLCK && f.l_start == 0 && f.l_len == 40);
                  CHILD_CHECK(Get(a.get(), F_WRLCK, 40, 20).l_type == F_UNLCK);
                  f = Get(a.get(), F_WRLCK, 60, 10);
                  CHILD_CHECK(f.l_type == F_RDLCK && f.l_start == 60 && f.l_len == 10);
                  f = Get(a.get(), F_WRLCK, 70, 100);
                  CHILD_CHECK(f.l_type == F_WRLCK && f.l_start == 70 && f.l_len == 30);
                }),
                0);
  ASSERT_OK(Set(a.get(), F_WRLCK, 40, 30));
  EXPECT_EXITED(RunInChild([&] {
                  struct flock f = Get(a.get(), F_WRLCK, 50, 1);
                  CHILD_CHECK(f.l_type == F_WRLCK && f.l_start == 0 && f.l_len == 100);
                }),
                0);
}

TEST_F(Posix, AnyCloseReleasesThemAll) {
  Fd a = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 0, 0));
  Fd b = Open(O_RDONLY);
  b.Close();
  EXPECT_EXITED(RunInChild([&] { CHILD_CHECK(Set(a.get(), F_WRLCK, 0, 0) == 0); }), 0);
}

TEST_F(Posix, AreNotInheritedAndEndWithTheProcess) {
  Fd a = Open();
  Pipe ready = MakePipe();
  pid_t pid = ForkChild([&] {
    CHILD_CHECK(Set(a.get(), F_WRLCK, 0, 0) == 0);
    CHILD_CHECK(RunInChild([&] { CHILD_CHECK(Set(a.get(), F_WRLCK, 0, 0) == -1 && errno == EAGAIN); }) == 0);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    for (;;) pause();
  });
  ChildGuard guard(pid);
  char byte;
  ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
  EXPECT_ERRNO(Set(a.get(), F_RDLCK, 0, 1), EAGAIN);
  kill(pid, SIGKILL);
  guard.Wait();
  EXPECT_OK(Set(a.get(), F_RDLCK, 0, 1));
}

TEST_F(Posix, WaitsAndFindsDeadlocks) {
  Fd a = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 0, 1));
  Pipe ready = MakePipe();
  pid_t pid = ForkChild([&] {
    CHILD_CHECK(Set(a.get(), F_WRLCK, 1, 1) == 0);
    CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
    CHILD_CHECK(Set(a.get(), F_WRLCK, 0, 1, F_SETLKW) == 0);
  });
  ChildGuard guard(pid);
  char byte;
  ASSERT_EQ(read(ready.read_end.get(), &byte, 1), 1);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  EXPECT_ERRNO(Set(a.get(), F_WRLCK, 1, 1, F_SETLKW), EDEADLK);
  ASSERT_OK(Set(a.get(), F_UNLCK, 0, 1));
  EXPECT_EXITED(guard.Wait(), 0);
}

void Nothing(int) {}

TEST_F(Posix, AWaitIsInterrupted) {
  Fd a = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 0, 1));
  pid_t pid = ForkChild([&] {
    ScopedHandler handler(SIGUSR1, Nothing);
    CHILD_CHECK(Set(a.get(), F_WRLCK, 0, 1, F_SETLKW) == -1 && errno == EINTR);
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  kill(pid, SIGUSR1);
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST_F(Posix, FailsAsDocumented) {
  Fd read_only = Open(O_RDONLY), write_only = Open(O_WRONLY);
  EXPECT_ERRNO(Set(read_only.get(), F_WRLCK, 0, 1), EBADF);
  EXPECT_ERRNO(Set(write_only.get(), F_RDLCK, 0, 1), EBADF);
  EXPECT_ERRNO(Set(read_only.get(), 77, 0, 1), EINVAL);
  EXPECT_ERRNO(Set(read_only.get(), F_RDLCK, -1, 1), EINVAL);
  EXPECT_ERRNO(Set(read_only.get(), F_RDLCK, 5, -6), EINVAL);
  EXPECT_OK(Set(read_only.get(), F_RDLCK, 5, -5));
  EXPECT_ERRNO(fcntl(read_only.get(), F_SETLK, BadPointer()), EFAULT);
  struct flock f = Range(F_UNLCK, 0, 1);
  EXPECT_ERRNO(fcntl(read_only.get(), F_GETLK, &f), EINVAL);
  f = Range(F_RDLCK, 0, 1);
  f.l_whence = 9;
  EXPECT_ERRNO(fcntl(read_only.get(), F_SETLK, &f), EINVAL);
}

TEST_F(Posix, RangesAreRelativeToPositionAndEnd) {
  Fd a = Open();
  ASSERT_OK(lseek(a.get(), 100, SEEK_SET));
  struct flock f = Range(F_WRLCK, -10, 5);
  f.l_whence = SEEK_CUR;
  ASSERT_OK(fcntl(a.get(), F_SETLK, &f));
  f = Range(F_WRLCK, -10, 0);
  f.l_whence = SEEK_END;
  ASSERT_OK(fcntl(a.get(), F_SETLK, &f));
  EXPECT_EXITED(RunInChild([&] {
                  struct flock g = Get(a.get(), F_RDLCK, 0, 500);
                  CHILD_CHECK(g.l_start == 90 && g.l_len == 5);
                  g = Get(a.get(), F_RDLCK, 500, 0);
                  CHILD_CHECK(g.l_start == 990 && g.l_len == 0);
                }),
                0);
}

TEST_F(Ofd, BelongToTheDescription) {
  Fd a = Open(), b = Open();
  ASSERT_OK(Set(a.get(), F_WRLCK, 0, 10, F_OFD_SETLK));
  EXPECT_ERRNO(Set(b.get(), F_WRLCK, 0, 10, F_OFD_SETLK), EAGAIN);
  struct flock f = Get(b.get(), F_RDLCK, 0, 0, F_OFD_GETLK);
  EXPECT_EQ(f.l_type, F_WRLCK);
  EXPECT_EQ(f.l_pid, -1);
  EXPECT_ERRNO(Set(b.get(), F_WRLCK, 5, 1), EAGAIN) << "they meet POSIX locks";
  Fd c = Open();
  c.Close();
  EXPECT_ERRNO(Set(b.get(), F_WRLCK, 0, 10, F_OFD_SETLK), EAGAIN) << "another close does not release them";
  a.Close();
  EXPECT_OK(Set(b.get(), F_WRLCK, 0, 10, F_OFD_SETLK));
  f = Range(F_WRLCK, 0, 1);
  f.l_pid = 5;
  EXPECT_ERRNO(fcntl(b.get(), F_OFD_SETLK, &f), EINVAL);
}

}  // namespace
}  // namespace conformance
