// memfd_create with seals, fallocate in its modes, sparse files, fadvise, sync_file_range.
#include <linux/falloc.h>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Memfd, IsAFileWithoutAName) {
  Fd fd(memfd_create("a name", MFD_CLOEXEC));
  ASSERT_FD(fd);
  EXPECT_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
  ASSERT_EQ(write(fd.get(), "hello", 5), 5);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_EQ(st.st_size, 5);
  char link[64] = {};
  ASSERT_GT(readlink(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), link, sizeof(link) - 1), 0);
  EXPECT_STREQ(link, "/memfd:a name (deleted)");
  Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get());
  EXPECT_EQ(memcmp(map.get(), "hello", 5), 0);
  Fd again(open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY));
  EXPECT_TRUE(again.ok());
}

TEST(Memfd, ChecksItsArguments) {
  EXPECT_ERRNO(memfd_create("x", 0x1000), EINVAL);
  EXPECT_ERRNO(syscall(SYS_memfd_create, BadPointer(), 0), EFAULT);
  EXPECT_ERRNO(memfd_create(std::string(250, 'x').c_str(), 0), EINVAL);
  Fd longest(memfd_create(std::string(249, 'x').c_str(), 0));
  EXPECT_TRUE(longest.ok());
}

TEST(Seals, ForbidWhatTheySay) {
  Fd fd(memfd_create("x", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd.get(), kPage));
  EXPECT_EQ(fcntl(fd.get(), F_GET_SEALS), 0);
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK));
  EXPECT_ERRNO(ftruncate(fd.get(), 10), EPERM);
  EXPECT_OK(ftruncate(fd.get(), 2 * kPage));
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW));
  EXPECT_ERRNO(ftruncate(fd.get(), 3 * kPage), EPERM);
  EXPECT_ERRNO(pwrite(fd.get(), "x", 1, 2 * kPage), EPERM);
  EXPECT_EQ(pwrite(fd.get(), "x", 1, 0), 1);
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE));
  EXPECT_ERRNO(pwrite(fd.get(), "x", 1, 0), EPERM);
  EXPECT_ERRNO((long)mmap(nullptr, kPage, PROT_WRITE, MAP_SHARED, fd.get(), 0), EPERM);
  Mapping rd(kPage, PROT_READ, MAP_SHARED, fd.get());
  // Before Linux 6.7 it could not be mapped shared at all.
  if (rd.ok()) {
    EXPECT_ERRNO(mprotect(rd.get(), kPage, PROT_READ | PROT_WRITE), EACCES);
  }
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL));
  EXPECT_ERRNO(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), EPERM);
  EXPECT_EQ(fcntl(fd.get(), F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

TEST(Seals, AreRefusedWhereTheyMakeNoSense) {
  Fd plain(memfd_create("x", 0));
  EXPECT_EQ(fcntl(plain.get(), F_GET_SEALS), F_SEAL_SEAL);
  EXPECT_ERRNO(fcntl(plain.get(), F_ADD_SEALS, F_SEAL_WRITE), EPERM);
  Fd mapped(memfd_create("x", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(mapped.get(), kPage));
  Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.get());
  EXPECT_ERRNO(fcntl(mapped.get(), F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  EXPECT_ERRNO(fcntl(mapped.get(), F_ADD_SEALS, 0x1000), EINVAL);
  Pipe p = MakePipe();
  EXPECT_ERRNO(fcntl(p.read_end.get(), F_GET_SEALS), EINVAL);
}

class Fallocate : public ::testing::Test {
 protected:
  Fallocate() : fd_(open((dir_ / "f").c_str(), O_RDWR | O_CREAT, 0644)) {}
  off_t Size() {
    struct stat st;
    return fstat(fd_.get(), &st) == 0 ? st.st_size : -1;
  }
  blkcnt_t Blocks() {
    struct stat st;
    return fstat(fd_.get(), &st) == 0 ? st.st_blocks : -1;
  }
  TempDir dir_;
  Fd fd_;
};

TEST_F(Fallocate, ReservesAndGrows) {
  ASSERT_OK(fallocate(fd_.get(), 0, 0, 10 * kPage));
  EXPECT_EQ(Size(), static_cast<off_t>(10 * kPage));
  EXPECT_GE(Blocks(), 80);
  ASSERT_OK(fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, 0, 20 * kPage));
  EXPECT_EQ(Size(), static_cast<off_t>(10 * kPage));
  char buffer[16];
  memset(buffer, 1, sizeof(buffer));
  ASSERT_EQ(pread(fd_.get(), buffer, 16, 5 * kPage), 16);
  EXPECT_EQ(buffer[0], 0);
}

TEST_F(Fallocate, PunchesHoles) {
  std::string data(8 * kPage, 'd');
  ASSERT_EQ(write(fd_.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
  const blkcnt_t before = Blocks();
  ASSERT_OK(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * kPage, 4 * kPage));
  EXPECT_EQ(Size(), static_cast<off_t>(8 * kPage));
  EXPECT_LT(Blocks(), before);
  std::string now = ReadFile(dir_ / "f");
  EXPECT_EQ(now.substr(0, 2 * kPage), std::string(2 * kPage, 'd'));
  EXPECT_EQ(now.substr(2 * kPage, 4 * kPage), std::string(4 * kPage, '\0'));
  EXPECT_EQ(now.substr(6 * kPage), std::string(2 * kPage, 'd'));
  // Parts of pages are zeroed.
  ASSERT_OK(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10, 20));
  EXPECT_EQ(ReadFile(dir_ / "f").substr(0, 40), std::string(10, 'd') + std::string(20, '\0') + std::string(10, 'd'));
}

TEST_F(Fallocate, AMappingSeesThePunchedHole) {
  std::string data(2 * kPage, 'd');
  ASSERT_EQ(write(fd_.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
  Mapping map(2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get());
  EXPECT_EQ(map.get()[0], 'd');
  ASSERT_OK(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage));
  EXPECT_EQ(static_cast<volatile char*>(map.get())[0], 0);
  EXPECT_EQ(map.get()[kPage], 'd');
}

TEST_F(Fallocate, FailsAsDocumented) {
  EXPECT_ERRNO(fallocate(fd_.get(), 0, -1, 10), EINVAL);
  EXPECT_ERRNO(fallocate(fd_.get(), 0, 0, 0), EINVAL);
  EXPECT_ERRNO(fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP) << "it needs KEEP_SIZE";
  EXPECT_ERRNO(fallocate(fd_.get(), 0x10000, 0, 10), EOPNOTSUPP);
  EXPECT_ERRNO(fallocate(-1, 0, 0, 10), EBADF);
  Fd rd(open((dir_ / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(fallocate(rd.get(), 0, 0, 10), EBADF);
  Pipe p = MakePipe();
  EXPECT_ERRNO(fallocate(p.write_end.get(), 0, 0, 10), ESPIPE);
  EXPECT_EQ(posix_fallocate(fd_.get(), 0, 100), 0);
}

TEST_F(Fallocate, AdviceIsAccepted) {
  for (int advice : {POSIX_FADV_NORMAL, POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM, POSIX_FADV_WILLNEED,
                     POSIX_FADV_DONTNEED, POSIX_FADV_NOREUSE}) {
    EXPECT_EQ(posix_fadvise(fd_.get(), 0, 0, advice), 0);
  }
  EXPECT_EQ(posix_fadvise(fd_.get(), 0, 0, 99), EINVAL);
  EXPECT_EQ(posix_fadvise(-1, 0, 0, 0), EBADF);
  Pipe p = MakePipe();
  EXPECT_EQ(posix_fadvise(p.read_end.get(), 0, 0, POSIX_FADV_NORMAL), ESPIPE);
  EXPECT_OK(sync_file_range(fd_.get(), 0, 0, SYNC_FILE_RANGE_WRITE));
  EXPECT_ERRNO(sync_file_range(fd_.get(), 0, 0, 0x100), EINVAL);
  EXPECT_OK(readahead(fd_.get(), 0, 4096));
}

TEST(Sparse, FilesReachTheEndOfOffsets) {
  Fd fd(memfd_create("sparse", 0));
  const off_t far = 1ll << 62;
  ASSERT_EQ(pwrite(fd.get(), "far", 3, far), 3);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_size, far + 3);
  EXPECT_LT(st.st_blocks, 100);
  char buffer[4] = {};
  EXPECT_EQ(pread(fd.get(), buffer, 3, far), 3);
  EXPECT_STREQ(buffer, "far");
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_DATA), far & ~static_cast<off_t>(kPage - 1));
  EXPECT_EQ(pread(fd.get(), buffer, 3, far / 2), 3);
  EXPECT_EQ(buffer[0], 0);
  Mapping map(kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), far);
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(memcmp(map.get(), "far", 3), 0);
  EXPECT_ERRNO(pwrite(fd.get(), "x", 1, INT64_MAX), EINVAL) << "the end cannot be told";
}

}  // namespace
}  // namespace conformance
