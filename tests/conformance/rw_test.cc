// read, write, readv, writev, pread64, pwrite64, preadv, pwritev, preadv2, pwritev2, lseek, truncate, ftruncate, fsync.
#include <limits.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

class FileTest : public ::testing::Test {
 protected:
  FileTest() : fd_(open((dir_ / "file").c_str(), O_RDWR | O_CREAT, 0644)) {}
  std::string Content() { return ReadFile(dir_ / "file"); }
  void Fill(const std::string& content) {
    ASSERT_OK(ftruncate(fd_.get(), 0));
    ASSERT_EQ(pwrite(fd_.get(), content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  }
  TempDir dir_;
  Fd fd_;
};

using Read = FileTest;
using Write = FileTest;
using Vector = FileTest;
using Positioned = FileTest;
using Seek = FileTest;
using Truncate = FileTest;

TEST_F(Read, ReturnsWhatIsThereThenZero) {
  Fill("hello");
  char buffer[16] = {};
  EXPECT_EQ(read(fd_.get(), buffer, 2), 2);
  EXPECT_STREQ(buffer, "he");
  EXPECT_EQ(read(fd_.get(), buffer, sizeof(buffer)), 3);
  EXPECT_EQ(read(fd_.get(), buffer, sizeof(buffer)), 0);
  EXPECT_EQ(read(fd_.get(), buffer, 0), 0);
}

TEST_F(Read, FailsWithEBADF) {
  char c;
  EXPECT_ERRNO(read(-1, &c, 1), EBADF);
  EXPECT_ERRNO(read(54321, &c, 1), EBADF);
  EXPECT_ERRNO(read(-1, BadPointer(), 1), EBADF);
}

TEST_F(Read, FailsWithEFAULTOnABadBuffer) {
  Fill("hello");
  EXPECT_ERRNO(read(fd_.get(), BadPointer(), 5), EFAULT);
  EXPECT_ERRNO(read(fd_.get(), ReadOnlyPage(), 5), EFAULT);
  EXPECT_ERRNO(read(fd_.get(), KernelPointer(), 5), EFAULT);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 0) << "a failed read does not move the offset";
  EXPECT_EQ(read(fd_.get(), BadPointer(), 0), 0);
}

TEST_F(Read, IsShortWhenMemoryEnds) {
  Fill(std::string(100, 'x'));
  char* end = EndOfMemory(10);
  EXPECT_EQ(read(fd_.get(), end, 100), 10);
  EXPECT_EQ(std::string(end, 10), std::string(10, 'x'));
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 10);
}

TEST_F(Read, FailsWithEISDIROnADirectory) {
  Fd d(open(dir_.path().c_str(), O_RDONLY));
  char c;
  EXPECT_ERRNO(read(d.get(), &c, 1), EISDIR);
  EXPECT_ERRNO(pread(d.get(), &c, 1, 0), EISDIR);
}

TEST_F(Read, HugeLengthIsCutAndNotRefused) {
  Fill("hello");
  // Not on the stack: that may lie within 2 GiB of the end of the address space.
  static char buffer[16];
  EXPECT_EQ(syscall(SYS_read, fd_.get(), buffer, 0x7fffffffull), 5);
  ASSERT_EQ(lseek(fd_.get(), 0, SEEK_SET), 0);
  EXPECT_ERRNO(syscall(SYS_read, fd_.get(), buffer, ~0ull), EFAULT) << "the range leaves the address space";
}

TEST_F(Write, ExtendsTheFileAndFillsHolesWithZeros) {
  ASSERT_EQ(lseek(fd_.get(), 3, SEEK_SET), 3);
  EXPECT_EQ(write(fd_.get(), "abc", 3), 3);
  EXPECT_EQ(Content(), std::string("\0\0\0abc", 6));
}

TEST_F(Write, FailsWithEFAULTOnABadBuffer) {
  EXPECT_ERRNO(write(fd_.get(), BadPointer(), 5), EFAULT);
  EXPECT_ERRNO(write(fd_.get(), KernelPointer(), 5), EFAULT);
  EXPECT_EQ(write(fd_.get(), BadPointer(), 0), 0);
  EXPECT_EQ(Content(), "");
}

TEST_F(Write, IsShortWhenMemoryEnds) {
  char* end = EndOfMemory(10);
  memset(end, 'y', 10);
  EXPECT_EQ(write(fd_.get(), end, 5000), 10);
  EXPECT_EQ(Content(), std::string(10, 'y'));
}

TEST_F(Write, FailsWithEBADF) {
  EXPECT_ERRNO(write(-1, "x", 1), EBADF);
  EXPECT_ERRNO(write(54321, "x", 1), EBADF);
}

TEST_F(Write, FileSizeLimitRaisesSIGXFSZ) {
  int status = RunInChild([&] {
    rlimit limit = {10, 10};
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    signal(SIGXFSZ, SIG_IGN);
    CHILD_CHECK(write(fd_.get(), "0123456789abcdef", 16) == 10);
    CHILD_CHECK(write(fd_.get(), "x", 1) == -1 && errno == EFBIG);
    CHILD_CHECK(ftruncate(fd_.get(), 11) == -1 && errno == EFBIG);
    signal(SIGXFSZ, SIG_DFL);
    rlimit core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    ssize_t ignored = write(fd_.get(), "x", 1);
    (void)ignored;
  });
  EXPECT_SIGNALED(status, SIGXFSZ);
}

TEST_F(Write, LargeTransfersComeBackWhole) {
  std::string data(3 << 20, 0);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 4096);
  ASSERT_EQ(write(fd_.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
  EXPECT_TRUE(Content() == data);
}

TEST_F(Vector, ReadvAndWritevScatterAndGather) {
  char a[3] = {'a', 'b', 'c'}, b[2] = {'d', 'e'};
  iovec out[3] = {{a, 3}, {nullptr, 0}, {b, 2}};
  EXPECT_EQ(writev(fd_.get(), out, 3), 5);
  EXPECT_EQ(Content(), "abcde");
  ASSERT_EQ(lseek(fd_.get(), 0, SEEK_SET), 0);
  char x[2], y[10];
  iovec in[2] = {{x, 2}, {y, 10}};
  EXPECT_EQ(readv(fd_.get(), in, 2), 5);
  EXPECT_EQ(std::string(x, 2) + std::string(y, 3), "abcde");
}

TEST_F(Vector, ChecksItsArguments) {
  char c;
  iovec one = {&c, 1};
  EXPECT_ERRNO(readv(fd_.get(), &one, -1), EINVAL);
  EXPECT_ERRNO(writev(fd_.get(), &one, IOV_MAX + 1), EINVAL);
  EXPECT_EQ(writev(fd_.get(), &one, 0), 0);
  EXPECT_EQ(readv(fd_.get(), reinterpret_cast<iovec*>(BadPointer()), 0), 0);
  EXPECT_ERRNO(readv(fd_.get(), reinterpret_cast<iovec*>(BadPointer()), 1), EFAULT);
  EXPECT_ERRNO(readv(-1, &one, 1), EBADF);
  iovec negative[2] = {{&c, 1}, {&c, static_cast<size_t>(-1)}};
  EXPECT_ERRNO(writev(fd_.get(), negative, 2), EINVAL);
  std::vector<iovec> many(IOV_MAX, one);
  EXPECT_EQ(writev(fd_.get(), many.data(), IOV_MAX), IOV_MAX);
}

TEST_F(Vector, StopsAtTheFirstBadSegment) {
  char good[4] = {'g', 'o', 'o', 'd'};
  iovec v[2] = {{good, 4}, {BadPointer(), 4}};
  EXPECT_EQ(writev(fd_.get(), v, 2), 4);
  iovec first_bad[2] = {{BadPointer(), 4}, {good, 4}};
  EXPECT_ERRNO(writev(fd_.get(), first_bad, 2), EFAULT);
}

TEST_F(Positioned, DoesNotMoveTheOffset) {
  Fill("abcdef");
  char buffer[4] = {};
  EXPECT_EQ(pread(fd_.get(), buffer, 3, 2), 3);
  EXPECT_STREQ(buffer, "cde");
  EXPECT_EQ(pwrite(fd_.get(), "XY", 2, 5), 2);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 0);
  EXPECT_EQ(Content(), "abcdeXY");
  EXPECT_EQ(pread(fd_.get(), buffer, 3, 100), 0);
}

TEST_F(Positioned, FailsWithEINVALOnNegativeOffsetsAndESPIPEOnPipes) {
  char c = 0;
  EXPECT_ERRNO(pread(fd_.get(), &c, 1, -1), EINVAL);
  EXPECT_ERRNO(pwrite(fd_.get(), &c, 1, -1), EINVAL);
  Pipe p = MakePipe();
  EXPECT_ERRNO(pread(p.read_end.get(), &c, 1, 0), ESPIPE);
  EXPECT_ERRNO(pwrite(p.write_end.get(), &c, 1, 0), ESPIPE);
  EXPECT_ERRNO(pread(-1, &c, 1, 0), EBADF);
}

TEST_F(Positioned, VectorFormsTakeAnOffset) {
  Fill("abcdef");
  char a[2], b[2];
  iovec v[2] = {{a, 2}, {b, 2}};
  EXPECT_EQ(preadv(fd_.get(), v, 2, 1), 4);
  EXPECT_EQ(std::string(a, 2) + std::string(b, 2), "bcde");
  EXPECT_EQ(pwritev(fd_.get(), v, 2, 6), 4);
  EXPECT_EQ(Content(), "abcdefbcde");
  EXPECT_ERRNO(preadv(fd_.get(), v, 2, -1), EINVAL);
}

TEST_F(Positioned, Preadv2UsesTheFileOffsetForMinusOne) {
  Fill("abcdef");
  char a[2];
  iovec v = {a, 2};
  EXPECT_EQ(preadv2(fd_.get(), &v, 1, -1, 0), 2);
  EXPECT_EQ(std::string(a, 2), "ab");
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 2);
  EXPECT_ERRNO(preadv2(fd_.get(), &v, 1, 0, 1 << 30), EOPNOTSUPP);
  EXPECT_EQ(pwritev2(fd_.get(), &v, 1, 0, RWF_APPEND), 2);
  EXPECT_EQ(Content(), "abcdefab");
}

TEST_F(Seek, MovesFromStartCurrentAndEnd) {
  Fill("abcdef");
  EXPECT_EQ(lseek(fd_.get(), 4, SEEK_SET), 4);
  EXPECT_EQ(lseek(fd_.get(), -1, SEEK_CUR), 3);
  EXPECT_EQ(lseek(fd_.get(), 10, SEEK_END), 16);
  EXPECT_ERRNO(lseek(fd_.get(), -1, SEEK_SET), EINVAL);
  EXPECT_ERRNO(lseek(fd_.get(), -100, SEEK_END), EINVAL);
  EXPECT_ERRNO(lseek(fd_.get(), 0, 99), EINVAL);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_CUR), 16) << "failures leave the offset alone";
  EXPECT_ERRNO(lseek(-1, 0, SEEK_SET), EBADF);
  Pipe p = MakePipe();
  EXPECT_ERRNO(lseek(p.read_end.get(), 0, SEEK_SET), ESPIPE);
  SocketPair s = MakeSocketPair();
  EXPECT_ERRNO(lseek(s.a.get(), 0, SEEK_SET), ESPIPE);
}

TEST_F(Seek, FindsDataAndHoles) {
  // Two pages of data around a hole of a megabyte; how a file system rounds is its business, the order is not.
  std::string page(4096, 'd');
  ASSERT_EQ(pwrite(fd_.get(), page.data(), page.size(), 0), 4096);
  ASSERT_EQ(pwrite(fd_.get(), page.data(), page.size(), 1 << 20), 4096);
  EXPECT_EQ(lseek(fd_.get(), 0, SEEK_DATA), 0);
  off_t hole = lseek(fd_.get(), 0, SEEK_HOLE);
  EXPECT_GE(hole, 4096);
  EXPECT_LE(hole, (1 << 20) + 4096);
  const off_t size = (1 << 20) + 4096;
  EXPECT_EQ(lseek(fd_.get(), 1 << 20, SEEK_HOLE), size) << "there is a virtual hole at the end";
  EXPECT_ERRNO(lseek(fd_.get(), size, SEEK_DATA), ENXIO);
  EXPECT_ERRNO(lseek(fd_.get(), size, SEEK_HOLE), ENXIO);
  EXPECT_ERRNO(lseek(fd_.get(), size + 1, SEEK_DATA), ENXIO);
}

TEST_F(Truncate, ShrinksAndGrowsWithZeros) {
  Fill("abcdef");
  EXPECT_OK(ftruncate(fd_.get(), 3));
  EXPECT_OK(ftruncate(fd_.get(), 5));
  EXPECT_EQ(Content(), std::string("abc\0\0", 5));
  EXPECT_OK(truncate((dir_ / "file").c_str(), 1));
  EXPECT_EQ(Content(), "a");
}

TEST_F(Truncate, ClearsTheRestOfAPageThatComesBack) {
  Fill(std::string(10000, 'x'));
  ASSERT_OK(ftruncate(fd_.get(), 4100));
  ASSERT_OK(ftruncate(fd_.get(), 10000));
  EXPECT_EQ(Content(), std::string(4100, 'x') + std::string(5900, '\0'));
}

TEST_F(Truncate, FailsAsDocumented) {
  EXPECT_ERRNO(ftruncate(fd_.get(), -1), EINVAL);
  EXPECT_ERRNO(ftruncate(-1, 0), EBADF);
  EXPECT_ERRNO(truncate((dir_ / "file").c_str(), -1), EINVAL);
  EXPECT_ERRNO(truncate((dir_ / "absent").c_str(), 0), ENOENT);
  EXPECT_ERRNO(truncate(dir_.path().c_str(), 0), EISDIR);
  EXPECT_ERRNO(truncate((dir_ / "file/x").c_str(), 0), ENOTDIR);
  EXPECT_ERRNO(truncate(BadPointer(), 0), EFAULT);
  Pipe p = MakePipe();
  EXPECT_ERRNO(ftruncate(p.write_end.get(), 0), EINVAL);
}

TEST_F(Truncate, SparseFilesCanBeEnormous) {
  const off_t huge = 1ll << 40;
  ASSERT_OK(ftruncate(fd_.get(), huge));
  struct stat st;
  ASSERT_OK(fstat(fd_.get(), &st));
  EXPECT_EQ(st.st_size, huge);
  EXPECT_LT(st.st_blocks, 1000);
  EXPECT_EQ(pwrite(fd_.get(), "end", 3, huge - 3), 3);
  char buffer[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_EQ(pread(fd_.get(), buffer, 8, huge - 8), 8);
  EXPECT_EQ(std::string(buffer, 8), std::string("\0\0\0\0\0end", 8));
}

TEST_F(Write, FsyncAndFdatasyncAcceptFilesAndRefusePipes) {
  Fill("x");
  EXPECT_OK(fsync(fd_.get()));
  EXPECT_OK(fdatasync(fd_.get()));
  EXPECT_ERRNO(fsync(-1), EBADF);
  Pipe p = MakePipe();
  EXPECT_ERRNO(fsync(p.read_end.get()), EINVAL);
  EXPECT_OK(syncfs(fd_.get()));
}

TEST(Device, NullSwallowsAndZeroGives) {
  Fd null(open("/dev/null", O_RDWR));
  ASSERT_FD(null);
  char buffer[8] = {1, 2, 3};
  EXPECT_EQ(write(null.get(), buffer, 8), 8);
  EXPECT_EQ(read(null.get(), buffer, 8), 0);
  Fd zero(open("/dev/zero", O_RDWR));
  ASSERT_FD(zero);
  EXPECT_EQ(read(zero.get(), buffer, 8), 8);
  EXPECT_EQ(buffer[0], 0);
  EXPECT_ERRNO(read(zero.get(), BadPointer(), 1), EFAULT);
  Fd full(open("/dev/full", O_RDWR));
  ASSERT_FD(full);
  EXPECT_ERRNO(write(full.get(), "x", 1), ENOSPC);
  EXPECT_EQ(read(full.get(), buffer, 8), 8);
}

TEST(Device, RandomIsRandom) {
  for (const char* name : {"/dev/urandom", "/dev/random"}) {
    Fd fd(open(name, O_RDONLY));
    ASSERT_FD(fd);
    char a[32], b[32];
    ASSERT_EQ(read(fd.get(), a, 32), 32);
    ASSERT_EQ(read(fd.get(), b, 32), 32);
    EXPECT_NE(memcmp(a, b, 32), 0);
  }
}

}  // namespace
}  // namespace conformance
