// open, openat, openat2, creat, close, close_range, dup, dup2, dup3 and the descriptor side of fcntl.
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "support/support.h"

namespace conformance {
namespace {

long OpenAt2(int dirfd, const char* path, open_how how, size_t size = sizeof(open_how)) {
  return syscall(SYS_openat2, dirfd, path, &how, size);
}

TEST(Open, ReturnsTheLowestFreeDescriptor) {
  Fd a(open("/", O_RDONLY | O_DIRECTORY));
  ASSERT_FD(a);
  const int freed = a.get();
  Fd b(open("/", O_RDONLY | O_DIRECTORY));
  ASSERT_FD(b);
  a.Close();
  Fd c(open("/", O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(c.get(), freed);
}

TEST(Open, FailsWithENOENTWhenTheFileIsAbsent) {
  TempDir dir;
  EXPECT_ERRNO(open((dir / "absent").c_str(), O_RDONLY), ENOENT);
  EXPECT_ERRNO(open((dir / "absent/below").c_str(), O_RDONLY | O_CREAT, 0644), ENOENT);
  EXPECT_ERRNO(open("", O_RDONLY), ENOENT);
  EXPECT_ERRNO(open("", O_RDONLY | O_CREAT, 0644), ENOENT);
}

TEST(Open, FailsWithEFAULTOnABadPath) {
  EXPECT_ERRNO(open(BadPointer(), O_RDONLY), EFAULT);
  EXPECT_ERRNO(open(nullptr, O_RDONLY), EFAULT);
  EXPECT_ERRNO(open(KernelPointer(), O_RDONLY), EFAULT);
  // A string that runs into unmapped memory before its NUL.
  char* end = EndOfMemory(4);
  memcpy(end, "/tmp", 4);
  EXPECT_ERRNO(open(end, O_RDONLY), EFAULT);
}

TEST(Open, ReadsAPathThatEndsWhereMemoryEnds) {
  char* end = EndOfMemory(5);
  memcpy(end, "/tmp", 5);
  Fd fd(open(end, O_RDONLY | O_DIRECTORY));
  EXPECT_TRUE(fd.ok());
}

TEST(Open, FailsWithENAMETOOLONGOnLongNamesAndPaths) {
  TempDir dir;
  std::string name(255, 'n');
  Fd fd(open((dir / name).c_str(), O_RDWR | O_CREAT, 0644));
  EXPECT_TRUE(fd.ok());
  EXPECT_ERRNO(open((dir / (name + "n")).c_str(), O_RDWR | O_CREAT, 0644), ENAMETOOLONG);
  std::string slashes(4095, '/');
  Fd root(open(slashes.c_str(), O_RDONLY));
  EXPECT_TRUE(root.ok());
  EXPECT_ERRNO(open((slashes + "/").c_str(), O_RDONLY), ENAMETOOLONG);
}

TEST(Open, FailsWithENOTDIRBehindAFile) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  EXPECT_ERRNO(open((dir / "file/below").c_str(), O_RDONLY), ENOTDIR);
  EXPECT_ERRNO(open((dir / "file/").c_str(), O_RDONLY), ENOTDIR);
  EXPECT_ERRNO(open((dir / "file/.").c_str(), O_RDONLY), ENOTDIR);
  EXPECT_ERRNO(open((dir / "file").c_str(), O_RDONLY | O_DIRECTORY), ENOTDIR);
}

TEST(Open, FailsWithEISDIRWhenADirectoryIsOpenedForWriting) {
  TempDir dir;
  EXPECT_ERRNO(open(dir.path().c_str(), O_WRONLY), EISDIR);
  EXPECT_ERRNO(open(dir.path().c_str(), O_RDWR), EISDIR);
  EXPECT_ERRNO(open(dir.path().c_str(), O_RDONLY | O_CREAT, 0644), EISDIR);
  EXPECT_ERRNO(open(dir.path().c_str(), O_RDONLY | O_TRUNC), EISDIR);
  EXPECT_ERRNO(open((dir / "new/").c_str(), O_RDWR | O_CREAT, 0644), EISDIR);
}

TEST(Open, FailsWithEEXISTWhenAnExclusiveFileExists) {
  TempDir dir;
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_CREAT | O_EXCL, 0644));
  ASSERT_FD(fd);
  EXPECT_ERRNO(open((dir / "file").c_str(), O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
  ASSERT_OK(symlink("dangling", (dir / "link").c_str()));
  EXPECT_ERRNO(open((dir / "link").c_str(), O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
  EXPECT_ERRNO(open(dir.path().c_str(), O_RDONLY | O_CREAT | O_EXCL, 0644), EEXIST);
}

TEST(Open, FailsWithELOOPOnASymlinkCycle) {
  TempDir dir;
  ASSERT_OK(symlink("b", (dir / "a").c_str()));
  ASSERT_OK(symlink("a", (dir / "b").c_str()));
  EXPECT_ERRNO(open((dir / "a").c_str(), O_RDONLY), ELOOP);
  EXPECT_ERRNO(open((dir / "a/x").c_str(), O_RDONLY), ELOOP);
}

TEST(Open, FollowsFortySymlinksAndNotFortyOne) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "l0", "end"));
  for (int i = 1; i <= 41; ++i) {
    ASSERT_OK(symlink(("l" + std::to_string(i - 1)).c_str(), (dir / ("l" + std::to_string(i))).c_str()));
  }
  Fd fd(open((dir / "l40").c_str(), O_RDONLY));
  EXPECT_TRUE(fd.ok());
  EXPECT_ERRNO(open((dir / "l41").c_str(), O_RDONLY), ELOOP);
}

TEST(Open, NofollowFailsWithELOOPOnASymlink) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  ASSERT_OK(symlink("file", (dir / "link").c_str()));
  EXPECT_ERRNO(open((dir / "link").c_str(), O_RDONLY | O_NOFOLLOW), ELOOP);
  EXPECT_ERRNO(open((dir / "link").c_str(), O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
  Fd path(open((dir / "link").c_str(), O_PATH | O_NOFOLLOW));
  ASSERT_FD(path);
  struct stat st;
  ASSERT_OK(fstat(path.get(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
}

TEST(Open, CreatesTheTargetOfADanglingSymlink) {
  TempDir dir;
  ASSERT_OK(symlink("target", (dir / "link").c_str()));
  Fd fd(open((dir / "link").c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_FD(fd);
  EXPECT_OK(access((dir / "target").c_str(), F_OK));
}

TEST(Open, AppliesTheUmaskToTheMode) {
  TempDir dir;
  mode_t old = umask(027);
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_CREAT, 0666));
  umask(old);
  ASSERT_FD(fd);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0640u);
}

TEST(Open, ACreatedFileIsWritableThroughItsDescriptorWhateverItsMode) {
  TempDir dir;
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_CREAT, 0));
  ASSERT_FD(fd);
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
}

TEST(Open, TruncatesOnlyWithOTRUNC) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "content"));
  struct stat st;
  {
    Fd fd(open((dir / "file").c_str(), O_WRONLY | O_CREAT, 0644));
  }
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_size, 7);
  { Fd fd(open((dir / "file").c_str(), O_WRONLY | O_TRUNC)); }
  ASSERT_OK(stat((dir / "file").c_str(), &st));
  EXPECT_EQ(st.st_size, 0);
}

TEST(Open, AppendWritesAtTheEndWhateverTheOffset) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "abc"));
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_APPEND));
  ASSERT_FD(fd);
  ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  ASSERT_EQ(write(fd.get(), "d", 1), 1);
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 4);
  ASSERT_EQ(pwrite(fd.get(), "e", 1, 0), 1);  // Linux appends in spite of the offset (man 2 pwrite, BUGS).
  EXPECT_EQ(ReadFile(dir / "file"), "abcde");
}

TEST(Open, AccessModeLimitsWhatTheDescriptorCanDo) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "abc"));
  char c;
  Fd rd(open((dir / "file").c_str(), O_RDONLY));
  EXPECT_ERRNO(write(rd.get(), "x", 1), EBADF);
  EXPECT_ERRNO(ftruncate(rd.get(), 0), EINVAL);
  Fd wr(open((dir / "file").c_str(), O_WRONLY));
  EXPECT_ERRNO(read(wr.get(), &c, 1), EBADF);
  Fd path(open((dir / "file").c_str(), O_PATH));
  ASSERT_FD(path);
  EXPECT_ERRNO(read(path.get(), &c, 1), EBADF);
  EXPECT_ERRNO(write(path.get(), &c, 1), EBADF);
  EXPECT_ERRNO(fchmod(path.get(), 0600), EBADF);
  EXPECT_ERRNO(lseek(path.get(), 0, SEEK_CUR), EBADF);
  EXPECT_ERRNO(ioctl(path.get(), 0x5401, &c), EBADF);
}

TEST(Open, UnprivilegedUsersMeetPermissions) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "secret", "x", 0600));
  ASSERT_OK(mkdir((dir / "closed").c_str(), 0700));
  ASSERT_TRUE(WriteFile(dir / "closed/file", "x", 0644));
  int status = RunInChild([&] {
    CHILD_CHECK(setresgid(1234, 1234, 1234) == 0);
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    CHILD_CHECK(open((dir / "secret").c_str(), O_RDONLY) == -1 && errno == EACCES);
    CHILD_CHECK(open((dir / "secret").c_str(), O_RDONLY | O_TRUNC) == -1 && errno == EACCES);
    CHILD_CHECK(open((dir / "closed/file").c_str(), O_RDONLY) == -1 && errno == EACCES);
    CHILD_CHECK(open((dir / "closed/absent").c_str(), O_RDONLY) == -1 && errno == EACCES);
    CHILD_CHECK(open((dir / "new").c_str(), O_WRONLY | O_CREAT, 0644) == -1 && errno == EACCES);
    CHILD_CHECK(open((dir / "secret").c_str(), O_PATH) >= 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Open, TmpfileHasNoNameUntilItIsLinked) {
  TempDir dir;
  Fd fd(open(dir.path().c_str(), O_TMPFILE | O_RDWR, 0600));
  ASSERT_FD(fd);
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
  ASSERT_EQ(write(fd.get(), "tmp", 3), 3);
  ASSERT_OK(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(fd.get())).c_str(), AT_FDCWD, (dir / "name").c_str(),
                   AT_SYMLINK_FOLLOW));
  EXPECT_EQ(ReadFile(dir / "name"), "tmp");
  EXPECT_ERRNO(open(dir.path().c_str(), O_TMPFILE | O_RDONLY, 0600), EINVAL);
}

TEST(Open, WithoutADescriptorLeftMakesNoFile) {
  TempDir dir;
  int status = RunInChild([&] {
    struct rlimit limit = {64, 64};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int last = -1;
    for (int fd; (fd = dup(0)) >= 0;) last = fd;
    CHILD_CHECK(errno == EMFILE && last == 63);
    CHILD_CHECK(open((dir / "new").c_str(), O_RDWR | O_CREAT, 0644) == -1 && errno == EMFILE);
    CHILD_CHECK(access((dir / "new").c_str(), F_OK) == -1 && errno == ENOENT);
    CHILD_CHECK(close(40) == 0);
    // A failed open gives the number back, and the next one gets it.
    CHILD_CHECK(open((dir / "absent").c_str(), O_RDWR) == -1 && errno == ENOENT);
    CHILD_CHECK(open((dir / "new").c_str(), O_RDWR | O_CREAT, 0644) == 40);
  });
  EXPECT_EXITED(status, 0);
}

TEST(OpenAt, IsRelativeToItsDirectory) {
  TempDir dir;
  Fd d(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_FD(d);
  Fd fd(openat(d.get(), "file", O_RDWR | O_CREAT, 0644));
  ASSERT_FD(fd);
  EXPECT_OK(access((dir / "file").c_str(), F_OK));
  EXPECT_ERRNO(openat(fd.get(), "x", O_RDONLY), ENOTDIR);
  EXPECT_ERRNO(openat(9999, "x", O_RDONLY), EBADF);
  EXPECT_ERRNO(openat(-1, "x", O_RDONLY), EBADF);
  Fd absolute(openat(9999, "/", O_RDONLY));
  EXPECT_TRUE(absolute.ok()) << "the descriptor does not matter for an absolute path";
}

TEST(OpenAt, FailsWithENOENTInARemovedDirectory) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  Fd d(open((dir / "d").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_FD(d);
  ASSERT_OK(rmdir((dir / "d").c_str()));
  EXPECT_ERRNO(openat(d.get(), "x", O_RDWR | O_CREAT, 0644), ENOENT);
}

TEST(OpenAt2, ChecksItsArgument) {
  open_how how = {};
  how.flags = O_RDONLY;
  Fd ok(OpenAt2(AT_FDCWD, "/", how));
  EXPECT_TRUE(ok.ok());
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/", how, sizeof(how) - 1), EINVAL);
  EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, "/", BadPointer(), sizeof(how)), EFAULT);
  how.flags = 1ull << 60;
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/", how), EINVAL);
  how = {};
  how.mode = 0644;  // A mode without O_CREAT.
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/", how), EINVAL);
  how = {};
  how.resolve = 1ull << 40;
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/", how), EINVAL);
  // A larger structure is accepted while its unknown tail is zero (man 2 openat2, Extensibility).
  struct {
    open_how how;
    uint64_t more;
  } larger = {};
  Fd big(syscall(SYS_openat2, AT_FDCWD, "/", &larger, sizeof(larger)));
  EXPECT_TRUE(big.ok());
  larger.more = 1;
  EXPECT_ERRNO(syscall(SYS_openat2, AT_FDCWD, "/", &larger, sizeof(larger)), E2BIG);
}

TEST(Open, TellsWhetherItMadeTheFile) {
  constexpr int kCreatedQuery = 1024 + 4;  // F_CREATED_QUERY
  TempDir dir;
  Fd made(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644)), found(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0644));
  const int answer = fcntl(made.get(), kCreatedQuery, 0);
  if (answer < 0 && errno == EINVAL) GTEST_SKIP() << "from Linux 6.12 on";
  EXPECT_EQ(answer, 1);
  EXPECT_EQ(fcntl(found.get(), kCreatedQuery, 0), 0);
}

TEST(OpenAt2, ResolveFlagsConfineTheWalk) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "out", "out"));
  ASSERT_TRUE(WriteFile(dir / "d/in", "in"));
  ASSERT_OK(symlink("in", (dir / "d/link").c_str()));
  ASSERT_OK(symlink("/in", (dir / "d/absolute").c_str()));
  ASSERT_OK(symlink("../out", (dir / "d/escape").c_str()));
  Fd d(open((dir / "d").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_FD(d);
  open_how how = {};
  how.flags = O_RDONLY;
  how.resolve = RESOLVE_BENEATH;
  Fd in(OpenAt2(d.get(), "in", how));
  EXPECT_TRUE(in.ok());
  EXPECT_ERRNO(OpenAt2(d.get(), "../out", how), EXDEV);
  EXPECT_ERRNO(OpenAt2(d.get(), "escape", how), EXDEV);
  EXPECT_ERRNO(OpenAt2(d.get(), "/in", how), EXDEV);
  how.resolve = RESOLVE_IN_ROOT;
  Fd absolute(OpenAt2(d.get(), "absolute", how));
  EXPECT_TRUE(absolute.ok());
  EXPECT_ERRNO(OpenAt2(d.get(), "escape", how), ENOENT);
  Fd from_root(OpenAt2(d.get(), "/in", how));
  EXPECT_TRUE(from_root.ok());
  EXPECT_ERRNO(OpenAt2(d.get(), "/proc/version", how), ENOENT);
  EXPECT_ERRNO(OpenAt2(d.get(), "/../../../../proc/version", how), ENOENT);
  how.resolve = RESOLVE_NO_SYMLINKS;
  EXPECT_ERRNO(OpenAt2(d.get(), "link", how), ELOOP);
  how.resolve = RESOLVE_NO_MAGICLINKS;
  Fd link(OpenAt2(d.get(), "link", how));
  EXPECT_TRUE(link.ok());
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/proc/self/exe", how), ELOOP);
  how.resolve = RESOLVE_NO_XDEV;
  Fd same(OpenAt2(d.get(), "in", how));
  EXPECT_TRUE(same.ok());
  EXPECT_ERRNO(OpenAt2(AT_FDCWD, "/proc/self/status", how), EXDEV);
}

TEST(Creat, OpensForWritingOnly) {
  TempDir dir;
  Fd fd(creat((dir / "file").c_str(), 0644));
  ASSERT_FD(fd);
  char c;
  EXPECT_ERRNO(read(fd.get(), &c, 1), EBADF);
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
}

TEST(Open, ReopensThroughProcSelfFdWithAnotherMode) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "abc"));
  Fd path(open((dir / "file").c_str(), O_PATH));
  ASSERT_FD(path);
  Fd fd(open(("/proc/self/fd/" + std::to_string(path.get())).c_str(), O_RDWR));
  ASSERT_FD(fd);
  EXPECT_EQ(write(fd.get(), "X", 1), 1);
  EXPECT_EQ(ReadFile(dir / "file"), "Xbc");
}

TEST(Open, AnUnlinkedFileLivesUntilItsLastDescriptorIsClosed) {
  TempDir dir;
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_FD(fd);
  ASSERT_EQ(write(fd.get(), "abc", 3), 3);
  ASSERT_OK(unlink((dir / "file").c_str()));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
  char buffer[4] = {};
  EXPECT_EQ(pread(fd.get(), buffer, 3, 0), 3);
  EXPECT_STREQ(buffer, "abc");
}

TEST(Open, FifoOpenedForWritingWithoutReaderFailsWithENXIO) {
  TempDir dir;
  ASSERT_OK(mkfifo((dir / "fifo").c_str(), 0644));
  EXPECT_ERRNO(open((dir / "fifo").c_str(), O_WRONLY | O_NONBLOCK), ENXIO);
  Fd rd(open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_FD(rd);
  Fd wr(open((dir / "fifo").c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_FD(wr);
  EXPECT_EQ(write(wr.get(), "x", 1), 1);
  char c;
  EXPECT_EQ(read(rd.get(), &c, 1), 1);
}

TEST(Open, SocketFileFailsWithENXIO) {
  TempDir dir;
  Fd s(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un addr = {};
  addr.sun_family = AF_UNIX;
  strcpy(addr.sun_path, (dir / "s").c_str());
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&addr), sizeof(addr)));
  EXPECT_ERRNO(open((dir / "s").c_str(), O_RDWR), ENXIO);
}

TEST(Open, ARunningExecutableIsBusy) { EXPECT_ERRNO(open("/proc/self/exe", O_WRONLY), ETXTBSY); }

TEST(Open, FailsWithEMFILEAtTheLimit) {
  int status = RunInChild([] {
    rlimit limit = {16, 16};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int fd;
    while ((fd = open("/", O_RDONLY)) >= 0) CHILD_CHECK(fd < 16);
    CHILD_CHECK(errno == EMFILE);
    CHILD_CHECK(dup(0) == -1 && errno == EMFILE);
    int fds[2];
    CHILD_CHECK(pipe(fds) == -1 && errno == EMFILE);
    CHILD_CHECK(socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EMFILE);
    CHILD_CHECK(fcntl(0, F_DUPFD, 16) == -1 && errno == EINVAL);
    CHILD_CHECK(dup2(0, 16) == -1 && errno == EBADF);
    CHILD_CHECK(dup3(0, 16, 0) == -1 && errno == EBADF);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Close, FailsWithEBADF) {
  EXPECT_ERRNO(close(-1), EBADF);
  EXPECT_ERRNO(close(12345), EBADF);
  Fd fd(open("/", O_RDONLY));
  int number = fd.Release();
  EXPECT_OK(close(number));
  EXPECT_ERRNO(close(number), EBADF);
}

TEST(CloseRange, ClosesOrMarksEveryDescriptorInTheRange) {
  int status = RunInChild([] {
    for (int fd = 100; fd < 110; ++fd) CHILD_CHECK(dup2(0, fd) == fd);
    CHILD_CHECK(syscall(SYS_close_range, 102, 104, 0) == 0);
    CHILD_CHECK(fcntl(101, F_GETFD) == 0);
    for (int fd = 102; fd <= 104; ++fd) CHILD_CHECK(fcntl(fd, F_GETFD) == -1 && errno == EBADF);
    CHILD_CHECK(fcntl(105, F_GETFD) == 0);
    CHILD_CHECK(syscall(SYS_close_range, 105, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */) == 0);
    CHILD_CHECK(fcntl(105, F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(fcntl(109, F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(syscall(SYS_close_range, 10, 9, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_close_range, 10, 11, 64) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
    CHILD_CHECK(fcntl(100, F_GETFD) == -1);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Dup, SharesTheOffsetAndNotCloexec) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "abcdef"));
  Fd a(open((dir / "file").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_FD(a);
  Fd b(dup(a.get()));
  ASSERT_FD(b);
  char c;
  ASSERT_EQ(read(a.get(), &c, 1), 1);
  ASSERT_EQ(read(b.get(), &c, 1), 1);
  EXPECT_EQ(c, 'b');
  EXPECT_EQ(fcntl(a.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(fcntl(b.get(), F_GETFD), 0);
  EXPECT_ERRNO(dup(-1), EBADF);
  EXPECT_ERRNO(dup(54321), EBADF);
}

TEST(Dup, SharesTheStatusFlags) {
  Pipe p = MakePipe();
  Fd copy(dup(p.read_end.get()));
  ASSERT_OK(fcntl(p.read_end.get(), F_SETFL, O_NONBLOCK));
  EXPECT_TRUE(fcntl(copy.get(), F_GETFL) & O_NONBLOCK);
}

TEST(Dup2, ReplacesItsTarget) {
  Pipe a = MakePipe();
  Pipe b = MakePipe();
  ASSERT_EQ(dup2(a.write_end.get(), b.write_end.get()), b.write_end.get());
  ASSERT_EQ(write(b.write_end.get(), "x", 1), 1);
  char c;
  EXPECT_EQ(read(a.read_end.get(), &c, 1), 1);
  EXPECT_EQ(read(b.read_end.get(), &c, 1), 0) << "the old writer is gone";
  EXPECT_EQ(dup2(a.read_end.get(), a.read_end.get()), a.read_end.get());
  EXPECT_ERRNO(dup2(54321, 54321), EBADF);
  EXPECT_ERRNO(dup2(54321, a.read_end.get()), EBADF);
  EXPECT_ERRNO(dup2(0, -1), EBADF);
  EXPECT_ERRNO(dup2(0, 1 << 30), EBADF);
}

TEST(Dup3, ChecksItsFlags) {
  Pipe p = MakePipe();
  EXPECT_ERRNO(dup3(p.read_end.get(), p.read_end.get(), 0), EINVAL);
  EXPECT_ERRNO(dup3(p.read_end.get(), 200, O_NONBLOCK), EINVAL);
  Fd copy(dup3(p.read_end.get(), 200, O_CLOEXEC));
  ASSERT_EQ(copy.get(), 200);
  EXPECT_EQ(fcntl(200, F_GETFD), FD_CLOEXEC);
}

TEST(Fcntl, DupfdStartsAtItsArgument) {
  Fd fd(fcntl(0, F_DUPFD, 150));
  EXPECT_EQ(fd.get(), 150);
  Fd next(fcntl(0, F_DUPFD, 150));
  EXPECT_EQ(next.get(), 151);
  Fd cloexec(fcntl(0, F_DUPFD_CLOEXEC, 150));
  EXPECT_EQ(cloexec.get(), 152);
  EXPECT_EQ(fcntl(cloexec.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_ERRNO(fcntl(0, F_DUPFD, -1), EINVAL);
}

TEST(Fcntl, GetflReportsTheOpenMode) {
  TempDir dir;
  Fd fd(open((dir / "file").c_str(), O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_EXCL | O_CLOEXEC, 0644));
  ASSERT_FD(fd);
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR | O_APPEND | O_NONBLOCK);
  ASSERT_OK(fcntl(fd.get(), F_SETFL, O_RDONLY));
  EXPECT_EQ(fcntl(fd.get(), F_GETFL) & ~O_LARGEFILE & ~0100000, O_RDWR) << "F_SETFL leaves the access mode alone";
  Fd path(open("/", O_PATH | O_DIRECTORY));
  EXPECT_EQ(fcntl(path.get(), F_GETFL) & O_PATH, O_PATH);
}

TEST(Fcntl, FailsWithEINVALOnAnUnknownCommand) {
  EXPECT_ERRNO(fcntl(0, 9999, 0), EINVAL);
  EXPECT_ERRNO(fcntl(54321, F_GETFD), EBADF);
  EXPECT_ERRNO(fcntl(54321, 9999), EBADF);
}

TEST(Fcntl, PipeSizeCanBeReadAndChanged) {
  Pipe p = MakePipe();
  EXPECT_EQ(fcntl(p.read_end.get(), F_GETPIPE_SZ), 65536);
  EXPECT_EQ(fcntl(p.read_end.get(), F_SETPIPE_SZ, 5000), 8192);
  EXPECT_EQ(fcntl(p.write_end.get(), F_GETPIPE_SZ), 8192);
  std::string data(6000, 'x');
  ASSERT_EQ(write(p.write_end.get(), data.data(), data.size()), 6000);
  EXPECT_ERRNO(fcntl(p.read_end.get(), F_SETPIPE_SZ, 4096), EBUSY);
  Fd root(open("/", O_RDONLY));
  EXPECT_ERRNO(fcntl(root.get(), F_GETPIPE_SZ), EBADF);
}

TEST(Umask, ReturnsTheOldMask) {
  mode_t old = umask(077);
  EXPECT_EQ(umask(07777), 077u);
  EXPECT_EQ(umask(old), 0777u) << "only the permission bits count";
}

}  // namespace
}  // namespace conformance
