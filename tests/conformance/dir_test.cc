// mkdir, rmdir, getdents64, chdir, fchdir, getcwd, chroot, mknod.
#include <dirent.h>
#include <limits.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

struct Entry {
  uint64_t ino;
  int64_t off;
  unsigned char type;
};

// Everything getdents64 says about a directory, with buffers of `size`.
std::map<std::string, Entry> List(int fd, size_t size = 4096) {
  std::map<std::string, Entry> entries;
  std::vector<char> buffer(size);
  for (;;) {
    long n = syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
    if (n <= 0) {
      if (n < 0) ADD_FAILURE() << "getdents64: " << strerrorname_np(errno);
      return entries;
    }
    for (long at = 0; at < n;) {
      auto* d = reinterpret_cast<dirent64*>(buffer.data() + at);
      EXPECT_EQ(d->d_reclen % 8, 0);
      EXPECT_TRUE(entries.emplace(d->d_name, Entry{d->d_ino, d->d_off, d->d_type}).second) << d->d_name << " twice";
      at += d->d_reclen;
    }
  }
}

TEST(Mkdir, MakesADirectoryWithTheUmaskApplied) {
  TempDir dir;
  mode_t old = umask(022);
  EXPECT_OK(mkdir((dir / "d").c_str(), 0777));
  umask(old);
  struct stat st;
  ASSERT_OK(stat((dir / "d").c_str(), &st));
  EXPECT_EQ(st.st_mode, S_IFDIR | 0755u);
  EXPECT_OK(mkdir((dir / "slash/").c_str(), 0777)) << "a trailing slash is allowed";
  EXPECT_OK(mkdirat(AT_FDCWD, (dir / "at").c_str(), 0700));
}

TEST(Mkdir, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  ASSERT_OK(symlink("nowhere", (dir / "dangling").c_str()));
  EXPECT_ERRNO(mkdir(dir.path().c_str(), 0755), EEXIST);
  EXPECT_ERRNO(mkdir((dir / "file").c_str(), 0755), EEXIST);
  EXPECT_ERRNO(mkdir((dir / "dangling").c_str(), 0755), EEXIST);
  EXPECT_ERRNO(mkdir("/", 0755), EEXIST);
  EXPECT_ERRNO(mkdir((dir / ".").c_str(), 0755), EEXIST);
  EXPECT_ERRNO(mkdir((dir / "a/b").c_str(), 0755), ENOENT);
  EXPECT_ERRNO(mkdir("", 0755), ENOENT);
  EXPECT_ERRNO(mkdir((dir / "file/d").c_str(), 0755), ENOTDIR);
  EXPECT_ERRNO(mkdir((dir / std::string(256, 'x')).c_str(), 0755), ENAMETOOLONG);
  EXPECT_ERRNO(mkdir(BadPointer(), 0755), EFAULT);
  EXPECT_ERRNO(mkdirat(-5, "d", 0755), EBADF);
}

TEST(Mkdir, InheritsTheSetgidGroup) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(mkdir((dir / "g").c_str(), 0755));
  ASSERT_OK(chown((dir / "g").c_str(), 0, 4321));
  ASSERT_OK(chmod((dir / "g").c_str(), 02755));
  ASSERT_OK(mkdir((dir / "g/d").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "g/f", ""));
  struct stat st;
  ASSERT_OK(stat((dir / "g/d").c_str(), &st));
  EXPECT_EQ(st.st_gid, 4321u);
  EXPECT_TRUE(st.st_mode & S_ISGID);
  ASSERT_OK(stat((dir / "g/f").c_str(), &st));
  EXPECT_EQ(st.st_gid, 4321u);
}

TEST(Rmdir, RemovesOnlyEmptyDirectories) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "d/f", "x"));
  EXPECT_ERRNO(rmdir((dir / "d").c_str()), ENOTEMPTY);
  ASSERT_OK(unlink((dir / "d/f").c_str()));
  EXPECT_OK(rmdir((dir / "d").c_str()));
  EXPECT_ERRNO(rmdir((dir / "d").c_str()), ENOENT);
}

TEST(Rmdir, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(symlink("d", (dir / "link").c_str()));
  EXPECT_ERRNO(rmdir((dir / "file").c_str()), ENOTDIR);
  EXPECT_ERRNO(rmdir((dir / "link").c_str()), ENOTDIR);
  EXPECT_ERRNO(rmdir((dir / "d/.").c_str()), EINVAL);
  EXPECT_ERRNO(rmdir((dir / "d/..").c_str()), ENOTEMPTY);
  EXPECT_ERRNO(rmdir("/"), EBUSY);
  EXPECT_ERRNO(rmdir(BadPointer()), EFAULT);
  EXPECT_ERRNO(unlinkat(AT_FDCWD, (dir / "file").c_str(), AT_REMOVEDIR), ENOTDIR);
  EXPECT_ERRNO(unlinkat(AT_FDCWD, (dir / "d").c_str(), 0), EISDIR);
  EXPECT_ERRNO(unlinkat(AT_FDCWD, (dir / "d").c_str(), 0x1), EINVAL);
  EXPECT_OK(unlinkat(AT_FDCWD, (dir / "d").c_str(), AT_REMOVEDIR));
}

TEST(Rmdir, TheStickyBitProtectsOtherUsersFiles) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 01777));
  ASSERT_OK(mkdir((dir / "mine").c_str(), 0777));
  ASSERT_TRUE(WriteFile(dir / "file", "x", 0666));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    CHILD_CHECK(rmdir((dir / "mine").c_str()) == -1 && errno == EPERM);
    CHILD_CHECK(unlink((dir / "file").c_str()) == -1 && errno == EPERM);
    CHILD_CHECK(rename((dir / "file").c_str(), (dir / "other").c_str()) == -1 && errno == EPERM);
    CHILD_CHECK(mkdir((dir / "own").c_str(), 0755) == 0);
    CHILD_CHECK(rmdir((dir / "own").c_str()) == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Getdents, ListsEverythingOnceWithTypesAndInodes) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  ASSERT_OK(mkdir((dir / "dir").c_str(), 0755));
  ASSERT_OK(symlink("file", (dir / "link").c_str()));
  ASSERT_OK(mkfifo((dir / "fifo").c_str(), 0644));
  Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  auto entries = List(fd.get());
  EXPECT_EQ(entries.size(), 6u);
  const std::map<std::string, int> types = {{".", DT_DIR},   {"..", DT_DIR},   {"file", DT_REG},
                                            {"dir", DT_DIR}, {"link", DT_LNK}, {"fifo", DT_FIFO}};
  for (const auto& entry : types) {
    const std::string& name = entry.first;
    ASSERT_TRUE(entries.count(name)) << name;
    EXPECT_TRUE(entries[name].type == entry.second || entries[name].type == DT_UNKNOWN) << name;
    struct stat st;
    if (name == "..") continue;
    ASSERT_OK(lstat((dir / name).c_str(), &st));
    EXPECT_EQ(entries[name].ino, st.st_ino) << name;
  }
}

TEST(Getdents, LargeDirectoriesComeInParts) {
  TempDir dir;
  std::set<std::string> names = {".", ".."};
  for (int i = 0; i < 1000; ++i) {
    std::string name = "entry-with-a-fairly-long-name-" + std::to_string(i);
    ASSERT_TRUE(WriteFile(dir / name, ""));
    names.insert(name);
  }
  for (size_t size : {300, 4096, 1 << 20}) {
    Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
    std::set<std::string> seen;
    for (const auto& [name, entry] : List(fd.get(), size)) seen.insert(name);
    EXPECT_EQ(seen, names) << size;
  }
}

TEST(Getdents, RewindAndSeekWork) {
  TempDir dir;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(WriteFile(dir / std::to_string(i), ""));
  Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(List(fd.get()).size(), 22u);
  EXPECT_EQ(List(fd.get()).size(), 0u) << "at the end";
  ASSERT_EQ(lseek(fd.get(), 0, SEEK_SET), 0);
  ASSERT_TRUE(WriteFile(dir / "late", ""));
  EXPECT_EQ(List(fd.get()).size(), 23u);
  // The position after an entry is a place to seek to.
  DIR* d = opendir(dir.path().c_str());
  for (int i = 0; i < 5; ++i) ASSERT_NE(readdir(d), nullptr);
  const long position = telldir(d);
  std::vector<std::string> rest, again;
  while (dirent* e = readdir(d)) rest.push_back(e->d_name);
  seekdir(d, position);
  while (dirent* e = readdir(d)) again.push_back(e->d_name);
  closedir(d);
  EXPECT_EQ(rest.size(), 18u);
  EXPECT_EQ(rest, again);
}

TEST(Getdents, RemovalWhileReadingLosesNothingElse) {
  TempDir dir;
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(WriteFile(dir / std::to_string(i), ""));
  DIR* d = opendir(dir.path().c_str());
  int removed = 0;
  while (dirent* e = readdir(d)) {
    if (e->d_name[0] == '.') continue;
    EXPECT_OK(unlink((dir / e->d_name).c_str()));
    ++removed;
  }
  closedir(d);
  EXPECT_EQ(removed, 300);
}

TEST(Getdents, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  char buffer[4096];
  Fd file(open((dir / "file").c_str(), O_RDONLY));
  Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_ERRNO(syscall(SYS_getdents64, file.get(), buffer, sizeof(buffer)), ENOTDIR);
  EXPECT_ERRNO(syscall(SYS_getdents64, -1, buffer, sizeof(buffer)), EBADF);
  EXPECT_ERRNO(syscall(SYS_getdents64, fd.get(), buffer, 10), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getdents64, fd.get(), BadPointer(), 4096), EFAULT);
  EXPECT_EQ(List(fd.get()).size(), 3u) << "failures do not move the position";
  ASSERT_OK(mkdir((dir / "gone").c_str(), 0755));
  Fd gone(open((dir / "gone").c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_OK(rmdir((dir / "gone").c_str()));
  EXPECT_ERRNO(syscall(SYS_getdents64, gone.get(), buffer, sizeof(buffer)), ENOENT);
}

TEST(Cwd, FollowsChdirAndFchdir) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  char real[PATH_MAX];
  ASSERT_NE(realpath(dir.path().c_str(), real), nullptr);
  int status = RunInChild([&] {
    char cwd[PATH_MAX];
    CHILD_CHECK(chdir((dir / "d").c_str()) == 0);
    CHILD_CHECK(getcwd(cwd, sizeof(cwd)) != nullptr);
    CHILD_CHECK(std::string(cwd) == std::string(real) + "/d");
    Fd up(open("..", O_RDONLY | O_DIRECTORY));
    CHILD_CHECK(fchdir(up.get()) == 0);
    CHILD_CHECK(syscall(SYS_getcwd, cwd, sizeof(cwd)) == static_cast<long>(strlen(real) + 1));
    CHILD_CHECK(WriteFile("relative", "x"));
    // A child shares nothing of it.
    CHILD_CHECK(RunInChild([] { CHILD_CHECK(chdir("/") == 0); }) == 0);
    CHILD_CHECK(access("relative", F_OK) == 0);
  });
  EXPECT_EXITED(status, 0);
  EXPECT_OK(access((dir / "relative").c_str(), F_OK));
}

TEST(Cwd, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  char cwd[PATH_MAX];
  EXPECT_ERRNO(chdir((dir / "file").c_str()), ENOTDIR);
  EXPECT_ERRNO(chdir((dir / "absent").c_str()), ENOENT);
  EXPECT_ERRNO(chdir(BadPointer()), EFAULT);
  Fd file(open((dir / "file").c_str(), O_RDONLY));
  EXPECT_ERRNO(fchdir(file.get()), ENOTDIR);
  EXPECT_ERRNO(fchdir(-1), EBADF);
  EXPECT_ERRNO(syscall(SYS_getcwd, cwd, 1), ERANGE);
  EXPECT_ERRNO(syscall(SYS_getcwd, BadPointer(), 4096), EFAULT);
  ASSERT_OK(mkdir((dir / "gone").c_str(), 0755));
  int status = RunInChild([&] {
    CHILD_CHECK(chdir((dir / "gone").c_str()) == 0);
    CHILD_CHECK(rmdir((dir / "gone").c_str()) == 0);
    CHILD_CHECK(syscall(SYS_getcwd, cwd, sizeof(cwd)) == -1 && errno == ENOENT);
    CHILD_CHECK(open("new", O_CREAT | O_RDWR, 0644) == -1 && errno == ENOENT);
    CHILD_CHECK(chdir("..") == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Cwd, SearchPermissionIsNeeded) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  ASSERT_OK(mkdir((dir / "closed").c_str(), 0600));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    CHILD_CHECK(chdir((dir / "closed").c_str()) == -1 && errno == EACCES);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Chroot, ConfinesAndNeedsItsCapability) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  ASSERT_OK(mkdir((dir / "jail").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "jail/inside", "x"));
  ASSERT_OK(symlink("/inside", (dir / "jail/link").c_str()));
  EXPECT_ERRNO(chroot((dir / "absent").c_str()), ENOENT);
  EXPECT_ERRNO(chroot((dir / "jail/inside").c_str()), ENOTDIR);
  int status = RunInChild([&] {
    CHILD_CHECK(chroot((dir / "jail").c_str()) == 0);
    CHILD_CHECK(chdir("/") == 0);
    CHILD_CHECK(access("/inside", F_OK) == 0);
    CHILD_CHECK(access("/link", F_OK) == 0);
    CHILD_CHECK(access("/../../inside", F_OK) == 0);
    char cwd[16];
    CHILD_CHECK(getcwd(cwd, sizeof(cwd)) != nullptr && strcmp(cwd, "/") == 0);
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(chroot("/") == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Mknod, MakesFilesAndFifos) {
  TempDir dir;
  struct stat st;
  EXPECT_OK(mknod((dir / "file").c_str(), S_IFREG | 0644, 0));
  EXPECT_OK(mknod((dir / "plain").c_str(), 0644, 0)) << "no type means a regular file";
  ASSERT_OK(stat((dir / "plain").c_str(), &st));
  EXPECT_TRUE(S_ISREG(st.st_mode));
  EXPECT_OK(mknod((dir / "fifo").c_str(), S_IFIFO | 0644, 0));
  EXPECT_OK(mknod((dir / "socket").c_str(), S_IFSOCK | 0644, 0));
  ASSERT_OK(stat((dir / "socket").c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_ERRNO(mknod((dir / "file").c_str(), S_IFREG | 0644, 0), EEXIST);
  EXPECT_ERRNO(mknod((dir / "d").c_str(), S_IFDIR | 0644, 0), EPERM);
  EXPECT_ERRNO(mknod((dir / "l").c_str(), S_IFLNK | 0644, 0), EINVAL);
  EXPECT_ERRNO(mknod((dir / "a/b").c_str(), S_IFREG | 0644, 0), ENOENT);
}

}  // namespace
}  // namespace conformance
