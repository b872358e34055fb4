// stat, fstat, lstat, newfstatat, statx, statfs, access, faccessat2, chmod, chown, utimensat, umask, readlink.
#include <linux/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Stat, DescribesARegularFile) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "hello", 0600));
  struct stat st;
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  EXPECT_EQ(st.st_nlink, 1u);
  EXPECT_EQ(st.st_uid, geteuid());
  EXPECT_EQ(st.st_size, 5);
  EXPECT_GT(st.st_blksize, 0);
  EXPECT_NE(st.st_ino, 0u);
  EXPECT_GT(st.st_mtime, 1'600'000'000);
}

TEST(Stat, LinkCountOfADirectoryCountsItsSubdirectories) {
  TempDir dir;
  struct stat st;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(stat((dir / "a").c_str(), &st));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
  const nlink_t before = st.st_nlink;
  ASSERT_OK(mkdir((dir / "a/b").c_str(), 0755));
  ASSERT_OK(stat((dir / "a").c_str(), &st));
  // A file system that does not count reports 1 (btrfs and some overlays); then it stays 1.
  EXPECT_EQ(st.st_nlink, before == 1 ? 1 : before + 1);
}

TEST(Stat, DescriptorPathAndLinkAgree) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "hello"));
  ASSERT_OK(symlink("file", (dir / "link").c_str()));
  Fd fd(open((dir / "file").c_str(), O_RDONLY));
  struct stat a, b, c, l;
  ASSERT_OK(fstat(fd.get(), &a));
  ASSERT_OK(stat((dir / "file").c_str(), &b));
  ASSERT_OK(stat((dir / "link").c_str(), &c));
  ASSERT_OK(lstat((dir / "link").c_str(), &l));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_dev, b.st_dev);
  EXPECT_EQ(a.st_ino, c.st_ino);
  EXPECT_NE(a.st_ino, l.st_ino);
  EXPECT_TRUE(S_ISLNK(l.st_mode));
  EXPECT_EQ(l.st_mode & 0777, 0777u);
  EXPECT_EQ(l.st_size, 4);
}

TEST(Stat, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  struct stat st;
  EXPECT_ERRNO(syscall(SYS_stat, (dir / "absent").c_str(), &st), ENOENT);
  EXPECT_ERRNO(syscall(SYS_stat, "", &st), ENOENT);
  EXPECT_ERRNO(syscall(SYS_stat, (dir / "file/x").c_str(), &st), ENOTDIR);
  EXPECT_ERRNO(syscall(SYS_stat, BadPointer(), &st), EFAULT);
  EXPECT_ERRNO(syscall(SYS_stat, dir.path().c_str(), BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_stat, dir.path().c_str(), ReadOnlyPage()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_lstat, dir.path().c_str(), BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_fstat, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_fstat, -1, &st), EBADF);
  EXPECT_ERRNO(syscall(SYS_stat, (dir / std::string(256, 'x')).c_str(), &st), ENAMETOOLONG);
  // The structure must fit whole.
  EXPECT_ERRNO(syscall(SYS_fstat, 0, EndOfMemory(sizeof(st) - 1)), EFAULT);
  EXPECT_OK(syscall(SYS_fstat, 0, EndOfMemory(sizeof(st))));
}

TEST(FstatAt, TakesADirectoryAnEmptyPathAndFlags) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  ASSERT_OK(symlink("file", (dir / "link").c_str()));
  Fd d(open(dir.path().c_str(), O_RDONLY));
  Fd f(open((dir / "file").c_str(), O_RDONLY));
  struct stat st;
  EXPECT_OK(syscall(SYS_newfstatat, d.get(), "file", &st, 0));
  EXPECT_OK(syscall(SYS_newfstatat, d.get(), "link", &st, AT_SYMLINK_NOFOLLOW));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  EXPECT_OK(syscall(SYS_newfstatat, f.get(), "", &st, AT_EMPTY_PATH));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_ERRNO(syscall(SYS_newfstatat, f.get(), "", &st, 0), ENOENT);
  EXPECT_ERRNO(syscall(SYS_newfstatat, f.get(), "x", &st, 0), ENOTDIR);
  EXPECT_ERRNO(syscall(SYS_newfstatat, -5, "x", &st, 0), EBADF);
  EXPECT_ERRNO(syscall(SYS_newfstatat, d.get(), "file", &st, 0x40000000), EINVAL);
  EXPECT_OK(syscall(SYS_newfstatat, AT_FDCWD, "", &st, AT_EMPTY_PATH));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
}

TEST(Statx, ReportsTheBasicFields) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "hello", 0640));
  struct statx stx;
  struct stat st;
  ASSERT_OK(syscall(SYS_statx, AT_FDCWD, (dir / "file").c_str(), 0, STATX_BASIC_STATS, &stx));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  EXPECT_EQ(stx.stx_size, 5u);
  EXPECT_EQ(stx.stx_mode, st.st_mode);
  EXPECT_EQ(stx.stx_ino, st.st_ino);
  EXPECT_EQ(makedev(stx.stx_dev_major, stx.stx_dev_minor), st.st_dev);
  EXPECT_EQ(stx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
  EXPECT_EQ(stx.stx_mtime.tv_nsec, static_cast<uint32_t>(st.st_mtim.tv_nsec));
}

TEST(Statx, ChecksItsArguments) {
  struct statx stx;
  EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, "/", 0, 0x80000000u, &stx), EINVAL);
  EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, "/", 0x6000, 0, &stx), EINVAL);  // Both sync types at once.
  EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, "/", 0, 0, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_statx, AT_FDCWD, BadPointer(), 0, 0, &stx), EFAULT);
  EXPECT_ERRNO(syscall(SYS_statx, -5, "x", 0, 0, &stx), EBADF);
  EXPECT_OK(syscall(SYS_statx, AT_FDCWD, "", AT_EMPTY_PATH, STATX_ALL, &stx));
}

TEST(Stat, DevicesHaveTheirNumbers) {
  const struct {
    const char* path;
    unsigned major, minor;
  } kDevices[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                  {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0}};
  for (const auto& device : kDevices) {
    struct stat st;
    ASSERT_OK(stat(device.path, &st)) << device.path;
    EXPECT_TRUE(S_ISCHR(st.st_mode)) << device.path;
    EXPECT_EQ(major(st.st_rdev), device.major) << device.path;
    EXPECT_EQ(minor(st.st_rdev), device.minor) << device.path;
  }
}

TEST(Stat, PipesAndSocketsHaveTheirTypes) {
  Pipe p = MakePipe();
  SocketPair s = MakeSocketPair();
  struct stat st;
  ASSERT_OK(fstat(p.read_end.get(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  ASSERT_OK(fstat(s.a.get(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
}

TEST(Access, ChecksTheRealUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "file", "x", 0600));
  EXPECT_OK(access((dir / "file").c_str(), R_OK | W_OK));
  EXPECT_ERRNO(access((dir / "file").c_str(), X_OK), EACCES);  // Not even root runs what nobody may run.
  EXPECT_ERRNO(access((dir / "absent").c_str(), F_OK), ENOENT);
  EXPECT_ERRNO(access((dir / "file").c_str(), 8), EINVAL);
  EXPECT_ERRNO(access(BadPointer(), F_OK), EFAULT);
  EXPECT_ERRNO(access((dir / "file/x").c_str(), F_OK), ENOTDIR);
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 0, 0) == 0);
    CHILD_CHECK(access((dir / "file").c_str(), R_OK) == -1 && errno == EACCES);
    CHILD_CHECK(access((dir / "file").c_str(), F_OK) == 0);
    CHILD_CHECK(faccessat(AT_FDCWD, (dir / "file").c_str(), R_OK, AT_EACCESS) == 0);
    CHILD_CHECK(syscall(439 /* faccessat2 */, AT_FDCWD, (dir / "file").c_str(), R_OK, AT_EACCESS) == 0);
    CHILD_CHECK(syscall(439, AT_FDCWD, (dir / "file").c_str(), R_OK, 0x4000) == -1 && errno == EINVAL);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Chmod, ChangesThePermissionBits) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  struct stat st;
  EXPECT_OK(chmod((dir / "file").c_str(), 04755));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_mode & 07777, 04755u);
  Fd fd(open((dir / "file").c_str(), O_RDONLY));
  EXPECT_OK(fchmod(fd.get(), 0600));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  EXPECT_OK(fchmodat(AT_FDCWD, (dir / "file").c_str(), 0640, 0));
  EXPECT_ERRNO(chmod((dir / "absent").c_str(), 0), ENOENT);
  EXPECT_ERRNO(chmod(BadPointer(), 0), EFAULT);
  EXPECT_ERRNO(fchmod(-1, 0), EBADF);
}

TEST(Chmod, OnlyTheOwnerMay) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  ASSERT_TRUE(WriteFile(dir / "file", "x", 0666));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    CHILD_CHECK(chmod((dir / "file").c_str(), 0777) == -1 && errno == EPERM);
    CHILD_CHECK(chown((dir / "file").c_str(), 1234, -1) == -1 && errno == EPERM);
    CHILD_CHECK(utimensat(AT_FDCWD, (dir / "file").c_str(), nullptr, 0) == 0);  // Writable: "now" is allowed.
    timespec times[2] = {{1, 0}, {2, 0}};
    CHILD_CHECK(utimensat(AT_FDCWD, (dir / "file").c_str(), times, 0) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Chown, ChangesOwnersAndDropsSetuid) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x", 0755));
  struct stat st;
  ASSERT_OK(chmod((dir / "file").c_str(), 06755));
  EXPECT_OK(chown((dir / "file").c_str(), 1000, 2000));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 2000u);
  EXPECT_EQ(st.st_mode & 07777, 0755u) << "chown clears setuid and setgid, also for root";
  EXPECT_OK(chown((dir / "file").c_str(), -1, 3000));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 3000u);
  ASSERT_OK(symlink("file", (dir / "link").c_str()));
  EXPECT_OK(lchown((dir / "link").c_str(), 5, 6));
  ASSERT_OK(lstat((dir / "link").c_str(), &st));
  EXPECT_EQ(st.st_uid, 5u);
  Fd fd(open((dir / "file").c_str(), O_RDONLY));
  EXPECT_OK(fchown(fd.get(), 7, 8));
  EXPECT_OK(fchownat(fd.get(), "", 9, 10, AT_EMPTY_PATH));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_uid, 9u);
  EXPECT_ERRNO(fchownat(AT_FDCWD, (dir / "file").c_str(), 0, 0, 0x4000), EINVAL);
  EXPECT_ERRNO(chown((dir / "absent").c_str(), 0, 0), ENOENT);
  EXPECT_ERRNO(fchown(-1, 0, 0), EBADF);
}

TEST(Write, ByAnotherUserDropsSetuid) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  ASSERT_TRUE(WriteFile(dir / "file", "x", 0777));
  ASSERT_OK(chmod((dir / "file").c_str(), 06777));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    Fd fd(open((dir / "file").c_str(), O_WRONLY));
    CHILD_CHECK(write(fd.get(), "y", 1) == 1);
  });
  EXPECT_EXITED(status, 0);
  struct stat st;
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_mode & 07777, 0777u);
}

TEST(Utimens, SetsOmitsAndTakesNow) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  struct stat st;
  timespec times[2] = {{1000, 123456789}, {2000, 987654321}};
  EXPECT_OK(utimensat(AT_FDCWD, (dir / "file").c_str(), times, 0));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_sec, 1000);
  EXPECT_EQ(st.st_atim.tv_nsec, 123456789);
  EXPECT_EQ(st.st_mtim.tv_sec, 2000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 987654321);
  timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  EXPECT_OK(utimensat(AT_FDCWD, (dir / "file").c_str(), omit, 0));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_sec, 1000);
  EXPECT_GT(st.st_mtim.tv_sec, 1'600'000'000);
  Fd fd(open((dir / "file").c_str(), O_RDONLY));
  EXPECT_OK(futimens(fd.get(), times));
  timespec bad[2] = {{0, 1'000'000'000}, {0, 0}};
  EXPECT_ERRNO(utimensat(AT_FDCWD, (dir / "file").c_str(), bad, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_utimensat, AT_FDCWD, (dir / "file").c_str(), BadPointer(), 0), EFAULT);
  EXPECT_ERRNO(utimensat(AT_FDCWD, (dir / "absent").c_str(), times, 0), ENOENT);
  timeval tv[2] = {{5, 6}, {7, 8}};
  EXPECT_OK(utimes((dir / "file").c_str(), tv));
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_nsec, 6000);
}

TEST(Times, MoveAsOperationsSay) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  timespec old[2] = {{1000, 0}, {1000, 0}};
  struct stat st;
  Fd fd(open((dir / "file").c_str(), O_RDWR));
  ASSERT_OK(futimens(fd.get(), old));
  ASSERT_EQ(write(fd.get(), "y", 1), 1);
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_GT(st.st_mtim.tv_sec, 1000) << "write moves mtime";
  ASSERT_OK(futimens(fd.get(), old));
  ASSERT_OK(fchmod(fd.get(), 0600));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 1000) << "chmod does not";
  EXPECT_GT(st.st_ctim.tv_sec, 1000);
  ASSERT_OK(ftruncate(fd.get(), 0));
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_GT(st.st_mtim.tv_sec, 1000) << "truncation moves mtime";
  ASSERT_OK(utimensat(AT_FDCWD, dir.path().c_str(), old, 0));
  ASSERT_TRUE(WriteFile(dir / "new", ""));
  ASSERT_OK(stat(dir.path().c_str(), &st));
  EXPECT_GT(st.st_mtim.tv_sec, 1000) << "a new name moves the directory's mtime";
}

TEST(Readlink, ReturnsTheTargetWithoutNul) {
  TempDir dir;
  ASSERT_OK(symlink("target", (dir / "link").c_str()));
  char buffer[16];
  memset(buffer, '#', sizeof(buffer));
  EXPECT_EQ(readlink((dir / "link").c_str(), buffer, sizeof(buffer)), 6);
  EXPECT_EQ(std::string(buffer, 7), "target#");
  EXPECT_EQ(readlink((dir / "link").c_str(), buffer, 3), 3);
  EXPECT_ERRNO(syscall(SYS_readlink, (dir / "link").c_str(), buffer, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_readlink, (dir / "link").c_str(), buffer, -1), EINVAL);
  EXPECT_ERRNO(readlink((dir / "absent").c_str(), buffer, 3), ENOENT);
  EXPECT_ERRNO(readlink(dir.path().c_str(), buffer, 3), EINVAL);
  EXPECT_ERRNO(syscall(SYS_readlink, (dir / "link").c_str(), BadPointer(), 6), EFAULT);
  Fd path(open((dir / "link").c_str(), O_PATH | O_NOFOLLOW));
  EXPECT_EQ(readlinkat(path.get(), "", buffer, sizeof(buffer)), 6);
}

TEST(Statfs, DescribesTheFileSystem) {
  struct statfs st;
  ASSERT_OK(statfs("/tmp", &st));
  EXPECT_GT(st.f_bsize, 0);
  EXPECT_EQ(st.f_namelen, 255);
  ASSERT_OK(statfs("/proc", &st));
  EXPECT_EQ(st.f_type, 0x9fa0);
  Fd fd(open("/", O_RDONLY));
  EXPECT_OK(fstatfs(fd.get(), &st));
  EXPECT_ERRNO(statfs("/absent/path", &st), ENOENT);
  EXPECT_ERRNO(statfs("/", reinterpret_cast<struct statfs*>(BadPointer())), EFAULT);
  EXPECT_ERRNO(fstatfs(-1, &st), EBADF);
}

}  // namespace
}  // namespace conformance
