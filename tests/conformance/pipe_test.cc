// pipe, pipe2, FIFOs: capacity, atomicity, ends that close, non-blocking ends, SIGPIPE.
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Pipe, CarriesBytesInOrder) {
  Pipe p = MakePipe();
  ASSERT_EQ(write(p.write_end.get(), "abc", 3), 3);
  ASSERT_EQ(write(p.write_end.get(), "def", 3), 3);
  char buffer[16] = {};
  EXPECT_EQ(read(p.read_end.get(), buffer, 2), 2);
  EXPECT_EQ(read(p.read_end.get(), buffer + 2, 14), 4);
  EXPECT_STREQ(buffer, "abcdef");
}

TEST(Pipe, EndOfFileComesWhenTheLastWriterHasGone) {
  Pipe p = MakePipe();
  Fd copy(dup(p.write_end.get()));
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  p.write_end.Close();
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 1);
  ASSERT_OK(fcntl(p.read_end.get(), F_SETFL, O_NONBLOCK));
  EXPECT_ERRNO(read(p.read_end.get(), &c, 1), EAGAIN);
  copy.Close();
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 0);
}

TEST(Pipe, WritingWithoutReadersRaisesSIGPIPE) {
  Pipe p = MakePipe();
  p.read_end.Close();
  {
    ScopedHandler ignore(SIGPIPE, SIG_IGN);
    EXPECT_ERRNO(write(p.write_end.get(), "x", 1), EPIPE);
    EXPECT_EQ(write(p.write_end.get(), "x", 0), 0);
  }
  int status = RunInChild([&] { CHILD_CHECK(write(p.write_end.get(), "x", 1) == 0); });
  EXPECT_SIGNALED(status, SIGPIPE);
}

TEST(Pipe, HoldsSixteenPagesAndNoMore) {
  Pipe p = MakePipe(O_NONBLOCK);
  std::vector<char> page(4096, 'p');
  int pages = 0;
  while (write(p.write_end.get(), page.data(), page.size()) == 4096) ++pages;
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(pages, 16);
  int queued;
  ASSERT_OK(ioctl(p.read_end.get(), FIONREAD, &queued));
  EXPECT_EQ(queued, 65536);
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 1);
  EXPECT_ERRNO(write(p.write_end.get(), page.data(), 4096), EAGAIN) << "an atomic write does not fit";
  EXPECT_EQ(read(p.read_end.get(), page.data(), 4095), 4095);
  EXPECT_EQ(write(p.write_end.get(), page.data(), 4096), 4096);
}

TEST(Pipe, ALargeNonblockingWriteIsPartial) {
  Pipe p = MakePipe(O_NONBLOCK);
  std::vector<char> data(100'000, 'x');
  EXPECT_EQ(write(p.write_end.get(), data.data(), data.size()), 65536);
}

TEST(Pipe, SmallWritesAreAtomic) {
  // PIPE_BUF: writers of 512 bytes never interleave.
  Pipe p = MakePipe();
  constexpr int kWriters = 4, kRecords = 100;
  pid_t writers[kWriters];
  for (int i = 0; i < kWriters; ++i) {
    writers[i] = ForkChild([&] {
      std::vector<char> record(512, static_cast<char>('a' + i));
      for (int n = 0; n < kRecords; ++n) CHILD_CHECK(write(p.write_end.get(), record.data(), 512) == 512);
    });
  }
  p.write_end.Close();
  int records = 0;
  for (;;) {
    char record[512];
    size_t have = 0;
    while (have < 512) {
      ssize_t n = read(p.read_end.get(), record + have, 512 - have);
      if (n <= 0) break;
      have += n;
    }
    if (have == 0) break;
    ASSERT_EQ(have, 512u);
    ASSERT_EQ(std::count(record, record + 512, record[0]), 512);
    ++records;
  }
  EXPECT_EQ(records, kWriters * kRecords);
  for (pid_t pid : writers) EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Pipe, AMegabyteBetweenProcessesArrivesWhole) {
  Pipe p = MakePipe();
  pid_t pid = ForkChild([&] {
    p.read_end.Close();
    std::vector<uint32_t> data(1 << 18);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint32_t>(i * 2654435761u);
    const char* at = reinterpret_cast<char*>(data.data());
    for (size_t left = data.size() * 4; left > 0;) {
      ssize_t n = write(p.write_end.get(), at, std::min<size_t>(left, 70'001));
      CHILD_CHECK(n > 0);
      at += n;
      left -= n;
    }
  });
  p.write_end.Close();
  std::vector<char> all;
  char buffer[9999];
  ssize_t n;
  while ((n = read(p.read_end.get(), buffer, sizeof(buffer))) > 0) all.insert(all.end(), buffer, buffer + n);
  ASSERT_EQ(all.size(), 1u << 20);
  for (size_t i = 0; i < all.size() / 4; ++i) {
    ASSERT_EQ(reinterpret_cast<uint32_t*>(all.data())[i], static_cast<uint32_t>(i * 2654435761u));
  }
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Pipe2, ChecksItsArguments) {
  int fds[2];
  EXPECT_ERRNO(pipe2(fds, O_RDWR), EINVAL);
  EXPECT_ERRNO(syscall(SYS_pipe2, BadPointer(), 0), EFAULT);
  EXPECT_ERRNO(syscall(SYS_pipe, ReadOnlyPage()), EFAULT);
  ASSERT_OK(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
  Fd a(fds[0]), b(fds[1]);
  EXPECT_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(fds[1], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(fcntl(fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
  EXPECT_EQ(fcntl(fds[1], F_GETFL) & O_ACCMODE, O_WRONLY);
}

TEST(Pipe2, AFailedCallLeavesNoDescriptors) {
  Fd probe(dup(0));
  const int next = probe.get();
  probe.Close();
  EXPECT_ERRNO(syscall(SYS_pipe2, BadPointer(), 0), EFAULT);
  Fd after(dup(0));
  EXPECT_EQ(after.get(), next);
}

TEST(Pipe2, DirectKeepsPackets) {
  Pipe p = MakePipe(O_DIRECT);
  if (!p.read_end.ok()) GTEST_SKIP() << "no packet mode";
  ASSERT_EQ(write(p.write_end.get(), "one", 3), 3);
  ASSERT_EQ(write(p.write_end.get(), "three", 5), 5);
  char buffer[100];
  EXPECT_EQ(read(p.read_end.get(), buffer, 100), 3);
  EXPECT_EQ(read(p.read_end.get(), buffer, 2), 2) << "the rest of a packet is lost";
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EQ(read(p.read_end.get(), buffer, 100), 1);
}

TEST(Pipe, PollSeesBothEnds) {
  Pipe p = MakePipe(O_NONBLOCK);
  pollfd fds[2] = {{p.read_end.get(), POLLIN, 0}, {p.write_end.get(), POLLOUT, 0}};
  EXPECT_EQ(poll(fds, 2, 0), 1);
  EXPECT_EQ(fds[0].revents, 0);
  EXPECT_EQ(fds[1].revents, POLLOUT);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  poll(fds, 2, 0);
  EXPECT_EQ(fds[0].revents, POLLIN);
  p.write_end.Close();
  poll(fds, 1, 0);
  EXPECT_EQ(fds[0].revents, POLLIN | POLLHUP);
  Pipe q = MakePipe();
  q.read_end.Close();
  pollfd w = {q.write_end.get(), POLLOUT, 0};
  poll(&w, 1, 0);
  EXPECT_EQ(w.revents, POLLOUT | POLLERR);
}

TEST(Pipe, ReopensThroughProc) {
  Pipe p = MakePipe();
  Fd writer(open(("/proc/self/fd/" + std::to_string(p.read_end.get())).c_str(), O_WRONLY));
  ASSERT_FD(writer);
  ASSERT_EQ(write(writer.get(), "x", 1), 1);
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 1);
}

TEST(Fifo, MeetsByName) {
  TempDir dir;
  ASSERT_OK(mkfifo((dir / "f").c_str(), 0600));
  pid_t pid = ForkChild([&] {
    Fd w(open((dir / "f").c_str(), O_WRONLY));
    CHILD_CHECK(write(w.get(), "hello", 5) == 5);
  });
  Fd r(open((dir / "f").c_str(), O_RDONLY));
  ASSERT_FD(r);
  char buffer[16] = {};
  ssize_t n, have = 0;
  while ((n = read(r.get(), buffer + have, 15 - have)) > 0) have += n;
  EXPECT_STREQ(buffer, "hello");
  EXPECT_EXITED(WaitFor(pid), 0);
  struct stat st;
  ASSERT_OK(stat((dir / "f").c_str(), &st));
  EXPECT_EQ(st.st_size, 0);
  Fd both(open((dir / "f").c_str(), O_RDWR));
  EXPECT_TRUE(both.ok()) << "O_RDWR never blocks";
  EXPECT_ERRNO(lseek(both.get(), 0, SEEK_SET), ESPIPE);
}

TEST(Pipe, WakesEveryReaderThatCanBeServed) {
  Pipe p = MakePipe();
  pid_t readers[5];
  for (pid_t& pid : readers) {
    pid = ForkChild([&] {
      char c;
      CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1);
    });
  }
  for (pid_t pid : readers) ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_EQ(write(p.write_end.get(), "abcde", 5), 5);
  for (pid_t pid : readers) EXPECT_EXITED(WaitFor(pid), 0);
}

}  // namespace
}  // namespace conformance
