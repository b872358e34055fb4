// sendfile, splice, tee, vmsplice, copy_file_range.
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#include <string>

#include "support/support.h"

namespace conformance {
namespace {

std::string Pattern(size_t n) {
  std::string s(n, '\0');
  for (size_t i = 0; i < n; ++i) s[i] = (char)(i * 31 + i / 4096);
  return s;
}

class Copying : public ::testing::Test {
 protected:
  Fd Make(const char* name, const std::string& content, int flags = O_RDWR) {
    EXPECT_TRUE(WriteFile(dir_ / name, content));
    return Fd(open((dir_ / name).c_str(), flags));
  }
  std::string Content(const char* name) { return ReadFile(dir_ / name); }
  TempDir dir_;
};

using Sendfile = Copying;
using Splice = Copying;
using CopyFileRange = Copying;

TEST_F(Sendfile, CopiesFromThePositionOrAnOffset) {
  std::string data = Pattern(300'000);
  Fd in = Make("in", data), out = Make("out", "");
  ASSERT_EQ(sendfile(out.get(), in.get(), nullptr, 100'000), 100'000);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 100'000);
  off_t offset = 250'000;
  ASSERT_EQ(sendfile(out.get(), in.get(), &offset, 100'000), 50'000) << "to the end";
  EXPECT_EQ(offset, 300'000);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 100'000) << "the position does not move with an offset";
  EXPECT_EQ(sendfile(out.get(), in.get(), &offset, 10), 0);
  EXPECT_EQ(Content("out"), data.substr(0, 100'000) + data.substr(250'000));
}

TEST_F(Sendfile, FeedsAPipe) {
  Fd in = Make("in", "hello world");
  Pipe p = MakePipe();
  off_t offset = 6;
  ASSERT_EQ(sendfile(p.write_end.get(), in.get(), &offset, 100), 5);
  char buffer[10];
  ASSERT_EQ(read(p.read_end.get(), buffer, 10), 5);
  EXPECT_EQ(std::string(buffer, 5), "world");
}

TEST_F(Sendfile, FailsAsDocumented) {
  Fd in = Make("in", "x"), out = Make("out", "");
  Fd append(open((dir_ / "out").c_str(), O_WRONLY | O_APPEND));
  Fd write_only(open((dir_ / "in").c_str(), O_WRONLY));
  Pipe p = MakePipe();
  EXPECT_ERRNO(sendfile(out.get(), -1, nullptr, 1), EBADF);
  EXPECT_ERRNO(sendfile(-1, in.get(), nullptr, 1), EBADF);
  EXPECT_ERRNO(sendfile(out.get(), write_only.get(), nullptr, 1), EBADF);
  EXPECT_ERRNO(sendfile(append.get(), in.get(), nullptr, 1), EINVAL);
  EXPECT_ERRNO(sendfile(out.get(), in.get(), (off_t*)BadPointer(), 1), EFAULT);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_ERRNO(sendfile(out.get(), p.read_end.get(), nullptr, 1), EINVAL);
  off_t negative = -1;
  EXPECT_ERRNO(sendfile(out.get(), in.get(), &negative, 1), EINVAL);
}

TEST_F(Splice, MovesBetweenAFileAndAPipe) {
  std::string data = Pattern(20'000);
  Fd in = Make("in", data), out = Make("out", "");
  Pipe p = MakePipe();
  loff_t offset = 5'000;
  ASSERT_EQ(splice(in.get(), &offset, p.write_end.get(), nullptr, 10'000, 0), 10'000);
  EXPECT_EQ(offset, 15'000);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 0);
  loff_t to = 100;
  size_t done = 0;
  while (done < 10'000) {
    ssize_t n = splice(p.read_end.get(), nullptr, out.get(), &to, 10'000 - done, SPLICE_F_MOVE);
    ASSERT_GT(n, 0);
    done += n;
  }
  EXPECT_EQ(to, 10'100);
  EXPECT_EQ(Content("out"), std::string(100, '\0') + data.substr(5'000, 10'000));
}

TEST_F(Splice, MovesBetweenPipes) {
  Pipe a = MakePipe(), b = MakePipe();
  ASSERT_EQ(write(a.write_end.get(), "abcdef", 6), 6);
  ASSERT_EQ(splice(a.read_end.get(), nullptr, b.write_end.get(), nullptr, 4, 0), 4);
  char buffer[16];
  ASSERT_EQ(read(b.read_end.get(), buffer, 16), 4);
  EXPECT_EQ(std::string(buffer, 4), "abcd");
  ASSERT_EQ(read(a.read_end.get(), buffer, 16), 2);
  EXPECT_EQ(std::string(buffer, 2), "ef");
}

TEST_F(Splice, WaitsUnlessToldNotTo) {
  Pipe a = MakePipe(), b = MakePipe();
  EXPECT_ERRNO(splice(a.read_end.get(), nullptr, b.write_end.get(), nullptr, 4, SPLICE_F_NONBLOCK), EAGAIN);
  Fd out = Make("out", "");
  EXPECT_ERRNO(splice(a.read_end.get(), nullptr, out.get(), nullptr, 4, SPLICE_F_NONBLOCK), EAGAIN);
  pid_t pid = ForkChild([&] { CHILD_CHECK(splice(a.read_end.get(), nullptr, b.write_end.get(), nullptr, 4, 0) == 2); });
  ChildGuard guard(pid);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_EQ(write(a.write_end.get(), "xy", 2), 2);
  EXPECT_EXITED(guard.Wait(), 0);
  a.write_end.Close();
  EXPECT_EQ(splice(a.read_end.get(), nullptr, b.write_end.get(), nullptr, 4, 0), 0) << "the end";
}

TEST_F(Splice, FailsAsDocumented) {
  Fd file = Make("f", "data");
  Fd append(open((dir_ / "f").c_str(), O_WRONLY | O_APPEND));
  Pipe p = MakePipe();
  loff_t offset = 0;
  EXPECT_ERRNO(splice(file.get(), nullptr, file.get(), nullptr, 1, 0), EINVAL);
  EXPECT_ERRNO(splice(p.read_end.get(), &offset, file.get(), nullptr, 1, 0), ESPIPE);
  EXPECT_ERRNO(splice(p.read_end.get(), nullptr, p.write_end.get(), nullptr, 1, 0), EINVAL);
  EXPECT_ERRNO(splice(-1, nullptr, p.write_end.get(), nullptr, 1, 0), EBADF);
  EXPECT_ERRNO(splice(file.get(), nullptr, p.read_end.get(), nullptr, 1, 0), EBADF);
  EXPECT_ERRNO(splice(file.get(), nullptr, p.write_end.get(), nullptr, 1, 0x100), EINVAL);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_ERRNO(splice(p.read_end.get(), nullptr, append.get(), nullptr, 1, 0), EINVAL);
  EXPECT_EQ(splice(p.read_end.get(), nullptr, file.get(), nullptr, 0, 0), 0);
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  p.read_end.Close();
  EXPECT_ERRNO(splice(file.get(), nullptr, p.write_end.get(), nullptr, 1, 0), EPIPE);
}

TEST(Tee, CopiesWithoutTaking) {
  Pipe a = MakePipe(), b = MakePipe();
  ASSERT_EQ(write(a.write_end.get(), "abc", 3), 3);
  ASSERT_EQ(tee(a.read_end.get(), b.write_end.get(), 100, 0), 3);
  // What is written now must not change what was shared.
  ASSERT_EQ(write(a.write_end.get(), "DEF", 3), 3);
  char buffer[16];
  ASSERT_EQ(read(b.read_end.get(), buffer, 16), 3);
  EXPECT_EQ(std::string(buffer, 3), "abc");
  ASSERT_EQ(read(a.read_end.get(), buffer, 16), 6);
  EXPECT_EQ(std::string(buffer, 6), "abcDEF");
  EXPECT_ERRNO(tee(a.read_end.get(), b.write_end.get(), 1, SPLICE_F_NONBLOCK), EAGAIN);
  EXPECT_ERRNO(tee(a.read_end.get(), a.write_end.get(), 1, 0), EINVAL);
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_ERRNO(tee(a.read_end.get(), null.get(), 1, 0), EINVAL);
}

TEST(Vmsplice, GathersIntoAPipeAndScattersOutOfIt) {
  Pipe p = MakePipe();
  char a[] = "ab", b[] = "cde";
  iovec out[] = {{a, 2}, {b, 3}};
  ASSERT_EQ(vmsplice(p.write_end.get(), out, 2, 0), 5);
  char x[2], y[10];
  iovec in[] = {{x, 2}, {y, 10}};
  ASSERT_EQ(vmsplice(p.read_end.get(), in, 2, 0), 5);
  EXPECT_EQ(std::string(x, 2) + std::string(y, 3), "abcde");
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_ERRNO(vmsplice(null.get(), out, 1, 0), EBADF);
  EXPECT_ERRNO(vmsplice(p.read_end.get(), in, 1, SPLICE_F_NONBLOCK), EAGAIN);
}

TEST_F(CopyFileRange, CopiesWithinAndBetweenFiles) {
  std::string data = Pattern(200'000);
  Fd in = Make("in", data), out = Make("out", "");
  loff_t from = 1000, to = 50;
  ASSERT_EQ(copy_file_range(in.get(), &from, out.get(), &to, 100'000, 0), 100'000);
  EXPECT_EQ(from, 101'000);
  EXPECT_EQ(to, 100'050);
  EXPECT_EQ(Content("out"), std::string(50, '\0') + data.substr(1000, 100'000));
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 0);
  ASSERT_OK(lseek(in.get(), 190'000, SEEK_SET));
  ASSERT_EQ(copy_file_range(in.get(), nullptr, out.get(), nullptr, 100'000, 0), 10'000);
  EXPECT_EQ(lseek(in.get(), 0, SEEK_CUR), 200'000);
  EXPECT_EQ(lseek(out.get(), 0, SEEK_CUR), 10'000);
  EXPECT_EQ(copy_file_range(in.get(), nullptr, out.get(), nullptr, 1, 0), 0);
  from = 0;
  to = 200'000;
  ASSERT_EQ(copy_file_range(in.get(), &from, in.get(), &to, 1000, 0), 1000);
  EXPECT_EQ(Content("in"), data + data.substr(0, 1000));
}

TEST_F(CopyFileRange, FailsAsDocumented) {
  Fd in = Make("in", Pattern(10'000)), out = Make("out", "");
  Fd append(open((dir_ / "out").c_str(), O_WRONLY | O_APPEND));
  Fd read_only(open((dir_ / "out").c_str(), O_RDONLY));
  Fd dir(open(dir_.path().c_str(), O_RDONLY));
  Pipe p = MakePipe();
  EXPECT_ERRNO(copy_file_range(in.get(), nullptr, out.get(), nullptr, 1, 1), EINVAL);
  EXPECT_ERRNO(copy_file_range(in.get(), nullptr, append.get(), nullptr, 1, 0), EBADF);
  EXPECT_ERRNO(copy_file_range(in.get(), nullptr, read_only.get(), nullptr, 1, 0), EBADF);
  EXPECT_ERRNO(copy_file_range(dir.get(), nullptr, out.get(), nullptr, 1, 0), EISDIR);
  EXPECT_ERRNO(copy_file_range(p.read_end.get(), nullptr, out.get(), nullptr, 1, 0), EINVAL);
  EXPECT_ERRNO(copy_file_range(-1, nullptr, out.get(), nullptr, 1, 0), EBADF);
  loff_t from = 0, to = 50;
  EXPECT_ERRNO(copy_file_range(in.get(), &from, in.get(), &to, 100, 0), EINVAL) << "overlap";
}

}  // namespace
}  // namespace conformance
