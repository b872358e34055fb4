// Named pipes: who waits for whom. (man 7 fifo)
#include <poll.h>
#include <sys/ioctl.h>

#include <string>

#include "support/support.h"

namespace conformance {
namespace {

class Fifo : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(mkfifo(path_.c_str(), 0644)); }
  Fd Open(int flags) { return Fd(open(path_.c_str(), flags)); }
  TempDir dir_;
  std::string path_ = dir_ / "fifo";
};

short Events(int fd, short events) {
  pollfd p = {fd, events, 0};
  poll(&p, 1, 0);
  return p.revents;
}

TEST_F(Fifo, AReaderWaitsForAWriter) {
  pid_t pid = ForkChild([&] {
    Fd r = Open(O_RDONLY);
    CHILD_CHECK(r.ok());
    char buffer[8];
    CHILD_CHECK(read(r.get(), buffer, 8) == 3);
    CHILD_CHECK(read(r.get(), buffer, 8) == 0);
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  Fd w = Open(O_WRONLY);
  ASSERT_FD(w);
  ASSERT_EQ(write(w.get(), "abc", 3), 3);
  w.Close();
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST_F(Fifo, AWriterWaitsForAReaderEvenOneThatLeavesAtOnce) {
  pid_t pid = ForkChild([&] {
    Fd w = Open(O_WRONLY);
    CHILD_CHECK(w.ok());
  });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  Fd r = Open(O_RDONLY | O_NONBLOCK);
  ASSERT_FD(r);
  r.Close();
  EXPECT_EXITED(guard.Wait(), 0);
}

TEST_F(Fifo, NonblockingReadersOpenAtOnceAndWritersNeedAReader) {
  EXPECT_ERRNO(open(path_.c_str(), O_WRONLY | O_NONBLOCK), ENXIO);
  Fd r = Open(O_RDONLY | O_NONBLOCK);
  ASSERT_FD(r);
  char c;
  EXPECT_EQ(read(r.get(), &c, 1), 0);
  Fd w = Open(O_WRONLY | O_NONBLOCK);
  ASSERT_FD(w);
  EXPECT_ERRNO(read(r.get(), &c, 1), EAGAIN);
}

TEST_F(Fifo, HangsUpOnlyAfterTheFirstWriter) {
  Fd r = Open(O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(Events(r.get(), POLLIN), 0);
  Fd w = Open(O_WRONLY);
  EXPECT_EQ(Events(r.get(), POLLIN), 0);
  w.Close();
  EXPECT_EQ(Events(r.get(), POLLIN), POLLHUP);
}

TEST_F(Fifo, ReadWriteNeverWaits) {
  Fd both = Open(O_RDWR);
  ASSERT_FD(both);
  ASSERT_EQ(write(both.get(), "xy", 2), 2);
  EXPECT_EQ(Events(both.get(), POLLIN | POLLOUT), POLLIN | POLLOUT);
  int n = 0;
  ASSERT_OK(ioctl(both.get(), FIONREAD, &n));
  EXPECT_EQ(n, 2);
  char buffer[4];
  EXPECT_EQ(read(both.get(), buffer, 4), 2);
}

TEST_F(Fifo, KeepsDataWhileAnyEndIsOpenAndNoLonger) {
  Fd r = Open(O_RDONLY | O_NONBLOCK), w = Open(O_WRONLY);
  ASSERT_EQ(write(w.get(), "abc", 3), 3);
  r.Close();
  r = Open(O_RDONLY | O_NONBLOCK);
  char buffer[4];
  EXPECT_EQ(read(r.get(), buffer, 1), 1);
  r.Close();
  w.Close();
  r = Open(O_RDONLY | O_NONBLOCK);
  EXPECT_EQ(read(r.get(), buffer, 4), 0);
}

TEST_F(Fifo, LinksAndRenamesAreTheSamePipe) {
  ASSERT_OK(link(path_.c_str(), (dir_ / "other").c_str()));
  Fd r = Open(O_RDONLY | O_NONBLOCK);
  Fd w(open((dir_ / "other").c_str(), O_WRONLY));
  ASSERT_FD(w);
  ASSERT_OK(unlink(path_.c_str()));
  ASSERT_EQ(write(w.get(), "x", 1), 1);
  char c;
  EXPECT_EQ(read(r.get(), &c, 1), 1);
  struct stat st;
  ASSERT_OK(fstat(r.get(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

void Nothing(int) {}

TEST_F(Fifo, AnOpenThatWaitsIsInterrupted) {
  for (int flags : {O_RDONLY, O_WRONLY}) {
    pid_t pid = ForkChild([&] {
      ScopedHandler handler(SIGUSR1, Nothing);
      CHILD_CHECK(open(path_.c_str(), flags) == -1 && errno == EINTR);
    });
    ChildGuard guard(pid);
    ASSERT_TRUE(WaitUntilBlocked(pid));
    kill(pid, SIGUSR1);
    EXPECT_EXITED(guard.Wait(), 0);
    // It left nothing behind: there is no reader, and no writer.
    EXPECT_ERRNO(open(path_.c_str(), O_WRONLY | O_NONBLOCK), ENXIO);
  }
}

TEST_F(Fifo, HasNoPositionsAndNoSize) {
  Fd both = Open(O_RDWR);
  char c;
  EXPECT_ERRNO(lseek(both.get(), 0, SEEK_CUR), ESPIPE);
  EXPECT_ERRNO(pread(both.get(), &c, 1, 0), ESPIPE);
  EXPECT_ERRNO(pwrite(both.get(), &c, 1, 0), ESPIPE);
  EXPECT_ERRNO(ftruncate(both.get(), 0), EINVAL);
  EXPECT_ERRNO(fsync(both.get()), EINVAL);
  EXPECT_ERRNO(fallocate(both.get(), 0, 0, 1), ESPIPE);
}

TEST_F(Fifo, PermissionsApply) {
  if (geteuid() != 0) GTEST_SKIP();
  ASSERT_OK(chmod(path_.c_str(), 0600));
  ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  EXPECT_EXITED(RunInChild([&] {
                  CHILD_CHECK(setuid(12345) == 0);
                  CHILD_CHECK(open(path_.c_str(), O_RDONLY | O_NONBLOCK) == -1 && errno == EACCES);
                }),
                0);
}

}  // namespace
}  // namespace conformance
