// link, symlink, unlink, rename, renameat2.
#include <linux/fs.h>
#include <stdio.h>

#include "support/support.h"

namespace conformance {
namespace {

ino_t Inode(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0 ? st.st_ino : 0;
}

long Rename2(const std::string& from, const std::string& to, unsigned flags) {
  return syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
}

TEST(Link, GivesAFileAnotherName) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "content"));
  ASSERT_OK(link((dir / "a").c_str(), (dir / "b").c_str()));
  struct stat st;
  ASSERT_OK(stat((dir / "a").c_str(), &st));
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_EQ(Inode(dir / "a"), Inode(dir / "b"));
  ASSERT_OK(unlink((dir / "a").c_str()));
  EXPECT_EQ(ReadFile(dir / "b"), "content");
  ASSERT_OK(stat((dir / "b").c_str(), &st));
  EXPECT_EQ(st.st_nlink, 1u);
}

TEST(Link, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "x"));
  ASSERT_TRUE(WriteFile(dir / "b", "x"));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  EXPECT_ERRNO(link((dir / "a").c_str(), (dir / "b").c_str()), EEXIST);
  EXPECT_ERRNO(link((dir / "absent").c_str(), (dir / "c").c_str()), ENOENT);
  EXPECT_ERRNO(link((dir / "a").c_str(), (dir / "no/c").c_str()), ENOENT);
  EXPECT_ERRNO(link((dir / "d").c_str(), (dir / "c").c_str()), EPERM);
  EXPECT_ERRNO(link((dir / "a/x").c_str(), (dir / "c").c_str()), ENOTDIR);
  EXPECT_ERRNO(link((dir / "a").c_str(), "/dev/shm/conformance-link"), EXDEV);
  EXPECT_ERRNO(link(BadPointer(), (dir / "c").c_str()), EFAULT);
  EXPECT_ERRNO(link((dir / "a").c_str(), BadPointer()), EFAULT);
  EXPECT_ERRNO(linkat(AT_FDCWD, (dir / "a").c_str(), AT_FDCWD, (dir / "c").c_str(), 0x1), EINVAL);
}

TEST(Link, OfASymlinkLinksTheSymlinkUnlessTold) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "x"));
  ASSERT_OK(symlink("a", (dir / "s").c_str()));
  ASSERT_OK(link((dir / "s").c_str(), (dir / "hard").c_str()));
  EXPECT_EQ(Inode(dir / "hard"), Inode(dir / "s"));
  ASSERT_OK(linkat(AT_FDCWD, (dir / "s").c_str(), AT_FDCWD, (dir / "followed").c_str(), AT_SYMLINK_FOLLOW));
  EXPECT_EQ(Inode(dir / "followed"), Inode(dir / "a"));
}

TEST(Link, AnUnlinkedFileCannotComeBack) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "x"));
  Fd fd(open((dir / "a").c_str(), O_RDONLY));
  ASSERT_OK(unlink((dir / "a").c_str()));
  std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_ERRNO(linkat(AT_FDCWD, path.c_str(), AT_FDCWD, (dir / "b").c_str(), AT_SYMLINK_FOLLOW), ENOENT);
}

TEST(Symlink, KeepsItsTextWhateverItIs) {
  TempDir dir;
  char buffer[5000];
  for (const std::string& text : {std::string("no/such/place"), std::string("a"), std::string(4095, 'x')}) {
    unlink((dir / "s").c_str());
    ASSERT_OK(symlink(text.c_str(), (dir / "s").c_str()));
    ASSERT_EQ(readlink((dir / "s").c_str(), buffer, sizeof(buffer)), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(std::string(buffer, text.size()), text);
  }
  EXPECT_ERRNO(symlink("", (dir / "empty").c_str()), ENOENT);
  EXPECT_ERRNO(symlink("x", (dir / "s").c_str()), EEXIST);
  EXPECT_ERRNO(symlink(std::string(4096, 'x').c_str(), (dir / "long").c_str()), ENAMETOOLONG);
  EXPECT_ERRNO(symlink("x", (dir / "no/s").c_str()), ENOENT);
  EXPECT_ERRNO(symlink(BadPointer(), (dir / "z").c_str()), EFAULT);
  EXPECT_ERRNO(symlink("x", BadPointer()), EFAULT);
}

TEST(Symlink, ChainsThroughDirectoriesAndDotDot) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "real").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "real/deep").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "real/file", "found"));
  ASSERT_OK(symlink("real/deep", (dir / "link").c_str()));
  EXPECT_EQ(ReadFile(dir / "link/../file"), "found") << ".. is the parent of the target, not of the link";
  ASSERT_OK(symlink((dir / "real").c_str(), (dir / "absolute").c_str()));
  EXPECT_EQ(ReadFile(dir / "absolute/file"), "found");
  ASSERT_OK(symlink("link/", (dir / "slash").c_str()));
  struct stat st;
  ASSERT_OK(lstat((dir / "slash/").c_str(), &st));
  EXPECT_TRUE(S_ISDIR(st.st_mode)) << "a trailing slash follows the last link, also in lstat";
}

TEST(Unlink, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "x"));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  EXPECT_ERRNO(unlink((dir / "absent").c_str()), ENOENT);
  EXPECT_ERRNO(unlink((dir / "d").c_str()), EISDIR);
  EXPECT_ERRNO(unlink((dir / "a/").c_str()), ENOTDIR);
  EXPECT_ERRNO(unlink((dir / "a/x").c_str()), ENOTDIR);
  EXPECT_ERRNO(unlink(""), ENOENT);
  EXPECT_ERRNO(unlink(BadPointer()), EFAULT);
  EXPECT_ERRNO(unlinkat(-5, "x", 0), EBADF);
  ASSERT_OK(symlink("a", (dir / "s").c_str()));
  EXPECT_OK(unlink((dir / "s").c_str()));
  EXPECT_OK(access((dir / "a").c_str(), F_OK)) << "unlink removes the link, not its target";
}

TEST(Rename, MovesFilesAndReplacesAtomically) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "new"));
  ASSERT_TRUE(WriteFile(dir / "b", "old"));
  Fd old(open((dir / "b").c_str(), O_RDONLY));
  const ino_t inode = Inode(dir / "a");
  ASSERT_OK(rename((dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_ERRNO(access((dir / "a").c_str(), F_OK), ENOENT);
  EXPECT_EQ(ReadFile(dir / "b"), "new");
  EXPECT_EQ(Inode(dir / "b"), inode);
  char c;
  EXPECT_EQ(read(old.get(), &c, 1), 1) << "the replaced file lives on in its descriptor";
  EXPECT_EQ(c, 'o');
}

TEST(Rename, MovesDirectoriesWithWhatIsInThem) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "d/sub").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "d/sub/f", "x"));
  ASSERT_OK(mkdir((dir / "empty").c_str(), 0755));
  Fd inside(open((dir / "d/sub").c_str(), O_RDONLY));
  ASSERT_OK(rename((dir / "d").c_str(), (dir / "empty").c_str())) << "onto an empty directory";
  EXPECT_EQ(ReadFile(dir / "empty/sub/f"), "x");
  struct stat up, now;
  ASSERT_OK(fstatat(inside.get(), "..", &up, 0));
  ASSERT_OK(stat((dir / "empty").c_str(), &now));
  EXPECT_EQ(up.st_ino, now.st_ino);
}

TEST(Rename, FailsAsDocumented) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "x"));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "full").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "full/x", "x"));
  EXPECT_ERRNO(rename((dir / "absent").c_str(), (dir / "g").c_str()), ENOENT);
  EXPECT_ERRNO(rename((dir / "f").c_str(), (dir / "no/g").c_str()), ENOENT);
  EXPECT_ERRNO(rename((dir / "f").c_str(), (dir / "d").c_str()), EISDIR);
  EXPECT_ERRNO(rename((dir / "d").c_str(), (dir / "f").c_str()), ENOTDIR);
  EXPECT_ERRNO(rename((dir / "d").c_str(), (dir / "full").c_str()), ENOTEMPTY);
  EXPECT_ERRNO(rename((dir / "d").c_str(), (dir / "d/below").c_str()), EINVAL);
  EXPECT_ERRNO(rename((dir / "full").c_str(), (dir / "full/x/y").c_str()), ENOTDIR);
  EXPECT_ERRNO(rename((dir / "f").c_str(), (dir / "g/").c_str()), ENOTDIR);
  EXPECT_ERRNO(rename((dir / "f").c_str(), (dir / ".").c_str()), EBUSY);
  EXPECT_ERRNO(rename((dir / "d/.").c_str(), (dir / "g").c_str()), EBUSY);
  EXPECT_ERRNO(rename((dir / "f").c_str(), "/proc/g"), EXDEV);
  EXPECT_ERRNO(rename(BadPointer(), (dir / "g").c_str()), EFAULT);
  EXPECT_ERRNO(rename((dir / "f").c_str(), BadPointer()), EFAULT);
  EXPECT_ERRNO(rename((dir / "full/x").c_str(), (dir / "full").c_str()), ENOTEMPTY);
  EXPECT_OK(rename((dir / "f").c_str(), (dir / "f").c_str()));
}

TEST(Rename, OfTwoLinksToOneFileDoesNothing) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "x"));
  ASSERT_OK(link((dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_OK(rename((dir / "a").c_str(), (dir / "b").c_str()));
  EXPECT_OK(access((dir / "a").c_str(), F_OK));
  EXPECT_OK(access((dir / "b").c_str(), F_OK));
}

TEST(Rename, TreatsSymlinksAsThemselves) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "target", "x"));
  ASSERT_OK(symlink("target", (dir / "s").c_str()));
  ASSERT_OK(rename((dir / "s").c_str(), (dir / "moved").c_str()));
  char buffer[16];
  EXPECT_EQ(readlink((dir / "moved").c_str(), buffer, 16), 6);
  ASSERT_TRUE(WriteFile(dir / "file", "y"));
  ASSERT_OK(rename((dir / "file").c_str(), (dir / "moved").c_str()));
  EXPECT_EQ(ReadFile(dir / "target"), "x");
  EXPECT_EQ(ReadFile(dir / "moved"), "y");
}

TEST(Renameat2, NoreplaceAndExchange) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "a"));
  ASSERT_TRUE(WriteFile(dir / "b", "b"));
  EXPECT_ERRNO(Rename2(dir / "a", dir / "b", RENAME_NOREPLACE), EEXIST);
  EXPECT_OK(Rename2(dir / "a", dir / "b", RENAME_EXCHANGE));
  EXPECT_EQ(ReadFile(dir / "a"), "b");
  EXPECT_EQ(ReadFile(dir / "b"), "a");
  EXPECT_OK(Rename2(dir / "a", dir / "c", RENAME_NOREPLACE));
  EXPECT_ERRNO(Rename2(dir / "b", dir / "absent", RENAME_EXCHANGE), ENOENT);
  EXPECT_ERRNO(Rename2(dir / "b", dir / "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  EXPECT_ERRNO(Rename2(dir / "b", dir / "c", 0x100), EINVAL);
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  EXPECT_OK(Rename2(dir / "d", dir / "c", RENAME_EXCHANGE));
  struct stat st;
  ASSERT_OK(stat((dir / "c").c_str(), &st));
  EXPECT_TRUE(S_ISDIR(st.st_mode));
}

TEST(Renameat2, MayLeaveAWhiteout) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "a"));
  ASSERT_TRUE(WriteFile(dir / "b", "b"));
  int renamed = Rename2(dir / "a", dir / "b", RENAME_WHITEOUT);
  if (renamed == -1 && (errno == EPERM || errno == EINVAL)) GTEST_SKIP() << "the file system has no whiteouts";
  ASSERT_OK(renamed);
  EXPECT_EQ(ReadFile(dir / "b"), "a");
  struct stat st;
  ASSERT_OK(lstat((dir / "a").c_str(), &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, 0u);
  EXPECT_ERRNO(Rename2(dir / "b", dir / "a", RENAME_WHITEOUT | RENAME_EXCHANGE), EINVAL);
  EXPECT_ERRNO(Rename2(dir / "b", dir / "a", RENAME_WHITEOUT | RENAME_NOREPLACE), EEXIST);
  EXPECT_OK(unlink((dir / "a").c_str()));
}

TEST(Rename, MovesTheLinkCountsOfDirectories) {
  TempDir dir;
  struct stat st;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "b").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "a/d").c_str(), 0755));
  ASSERT_OK(stat((dir / "a").c_str(), &st));
  if (st.st_nlink == 1) GTEST_SKIP() << "this file system does not count";
  ASSERT_OK(rename((dir / "a/d").c_str(), (dir / "b/d").c_str()));
  ASSERT_OK(stat((dir / "a").c_str(), &st));
  EXPECT_EQ(st.st_nlink, 2u);
  ASSERT_OK(stat((dir / "b").c_str(), &st));
  EXPECT_EQ(st.st_nlink, 3u);
}

TEST(Rename, RelativeToDirectories) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "b").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "a/f", "x"));
  Fd a(open((dir / "a").c_str(), O_RDONLY)), b(open((dir / "b").c_str(), O_RDONLY));
  EXPECT_OK(renameat(a.get(), "f", b.get(), "g"));
  EXPECT_EQ(ReadFile(dir / "b/g"), "x");
  EXPECT_ERRNO(renameat(-5, "f", b.get(), "g"), EBADF);
}

}  // namespace
}  // namespace conformance
