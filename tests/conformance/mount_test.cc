// mount(2), umount2(2), pivot_root(2), in a mount namespace of the case's own.
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#include <fstream>
#include <sstream>
#include <string>

#include "support/support.h"

namespace conformance {
namespace {

// Runs `body` in a child with its own mount namespace, in which nothing propagates.
#define IN_NAMESPACE(body)                                                                \
  EXPECT_EXITED(RunInChild([&] {                                                          \
                  CHILD_CHECK(unshare(CLONE_NEWNS) == 0);                                 \
                  CHILD_CHECK(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, "") == 0); \
                  body;                                                                   \
                }),                                                                       \
                0)

bool Listed(const std::string& mountpoint, const std::string& type = "") {
  std::ifstream in("/proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string word, at;
    fields >> word >> word >> word >> word >> at;
    if (at == mountpoint && (type.empty() || line.find(" - " + type + " ") != std::string::npos)) return true;
  }
  return false;
}

TEST(Mount, MakesAFileSystemAndUmountTakesItAway) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "below", "x"));
  IN_NAMESPACE({
    const char* at = dir.path().c_str();
    CHILD_CHECK(mount("mine", at, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=700") == 0);
    CHILD_CHECK(access((dir / "below").c_str(), F_OK) == -1 && errno == ENOENT);
    CHILD_CHECK(Listed(dir.path(), "tmpfs"));
    struct statfs st;
    CHILD_CHECK(statfs(at, &st) == 0 && st.f_type == 0x01021994);
    struct stat s;
    CHILD_CHECK(stat(at, &s) == 0 && (s.st_mode & 07777) == 0700);
    Fd fd(open((dir / "big").c_str(), O_CREAT | O_WRONLY, 0644));
    std::string block(128 << 10, 'x');
    ssize_t n = write(fd.get(), block.data(), block.size());
    CHILD_CHECK(n == 64 << 10 || (n == -1 && errno == ENOSPC));
    CHILD_CHECK(umount(at) == -1 && errno == EBUSY);
    fd.Close();
    CHILD_CHECK(umount(at) == 0);
    CHILD_CHECK(access((dir / "below").c_str(), F_OK) == 0);
    CHILD_CHECK(!Listed(dir.path()));
  });
}

TEST(Mount, ReadOnlyAndRemount) {
  TempDir dir;
  IN_NAMESPACE({
    const char* at = dir.path().c_str();
    CHILD_CHECK(mount("m", at, "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "f", "x"));
    CHILD_CHECK(mount("m", at, nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) == 0);
    CHILD_CHECK(open((dir / "f").c_str(), O_WRONLY) == -1 && errno == EROFS);
    CHILD_CHECK(mkdir((dir / "d").c_str(), 0755) == -1 && errno == EROFS);
    CHILD_CHECK(access((dir / "f").c_str(), W_OK) == -1 && errno == EROFS);
    CHILD_CHECK(mount("m", at, nullptr, MS_REMOUNT | MS_BIND, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "f", "y"));
  });
}

TEST(Mount, NodevAndNoexecAreKept) {
  TempDir dir;
  IN_NAMESPACE({
    const char* at = dir.path().c_str();
    CHILD_CHECK(mount("m", at, "tmpfs", MS_NODEV | MS_NOEXEC, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "script", "#!/bin/sh\n", 0755));
    CHILD_CHECK(access((dir / "script").c_str(), X_OK) == -1 && errno == EACCES);
    CHILD_CHECK(mknod((dir / "null").c_str(), S_IFCHR | 0666, 0x103) == 0);
    CHILD_CHECK(open((dir / "null").c_str(), O_RDONLY) == -1 && errno == EACCES);
  });
}

TEST(Mount, BindShowsATreeElsewhere) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "a/sub").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "b").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir / "a/f", "hello"));
  ASSERT_TRUE(WriteFile(dir / "file", ""));
  IN_NAMESPACE({
    CHILD_CHECK(mount("s", (dir / "a/sub").c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "a/sub/inner", "in"));
    CHILD_CHECK(mount((dir / "a").c_str(), (dir / "b").c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHILD_CHECK(ReadFile(dir / "b/f") == "hello");
    CHILD_CHECK(access((dir / "b/sub/inner").c_str(), F_OK) == -1);
    CHILD_CHECK(umount((dir / "b").c_str()) == 0);
    CHILD_CHECK(mount((dir / "a").c_str(), (dir / "b").c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0);
    CHILD_CHECK(ReadFile(dir / "b/sub/inner") == "in");
    CHILD_CHECK(mount((dir / "a/f").c_str(), (dir / "file").c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHILD_CHECK(ReadFile(dir / "file") == "hello");
    CHILD_CHECK(mount((dir / "a").c_str(), (dir / "file").c_str(), nullptr, MS_BIND, nullptr) == -1 &&
                errno == ENOTDIR);
    CHILD_CHECK(rename((dir / "a/f").c_str(), (dir / "b/g").c_str()) == -1 && errno == EXDEV);
    CHILD_CHECK(rmdir((dir / "a/sub").c_str()) == -1 && errno == EBUSY);
  });
}

TEST(Mount, MovesAndStacks) {
  TempDir dir;
  ASSERT_OK(mkdir((dir / "a").c_str(), 0755));
  ASSERT_OK(mkdir((dir / "b").c_str(), 0755));
  IN_NAMESPACE({
    CHILD_CHECK(mount("one", (dir / "a").c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "a/one", ""));
    CHILD_CHECK(mount("two", (dir / "a").c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(access((dir / "a/one").c_str(), F_OK) == -1);
    CHILD_CHECK(umount((dir / "a").c_str()) == 0);
    CHILD_CHECK(access((dir / "a/one").c_str(), F_OK) == 0);
    CHILD_CHECK(mount((dir / "a").c_str(), (dir / "b").c_str(), nullptr, MS_MOVE, nullptr) == 0);
    CHILD_CHECK(access((dir / "b/one").c_str(), F_OK) == 0);
    CHILD_CHECK(access((dir / "a/one").c_str(), F_OK) == -1);
  });
}

TEST(Umount, DetachLetsUsersGoOn) {
  TempDir dir;
  IN_NAMESPACE({
    CHILD_CHECK(mount("m", dir.path().c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(WriteFile(dir / "f", "data"));
    Fd fd(open((dir / "f").c_str(), O_RDONLY));
    CHILD_CHECK(umount2(dir.path().c_str(), MNT_DETACH) == 0);
    char buffer[8];
    CHILD_CHECK(read(fd.get(), buffer, 8) == 4);
    CHILD_CHECK(access((dir / "f").c_str(), F_OK) == -1);
  });
}

TEST(Mount, FailsAsDocumented) {
  TempDir dir;
  IN_NAMESPACE({
    const char* at = dir.path().c_str();
    CHILD_CHECK(mount("m", at, "nosuchfs", 0, nullptr) == -1 && errno == ENODEV);
    CHILD_CHECK(mount("m", at, nullptr, 0, nullptr) == -1 && (errno == EINVAL || errno == EFAULT));
    CHILD_CHECK(mount("m", (dir / "none").c_str(), "tmpfs", 0, nullptr) == -1 && errno == ENOENT);
    CHILD_CHECK(mount("m", at, "tmpfs", 0, "nosuchoption=1") == -1 && errno == EINVAL);
    CHILD_CHECK(mount("m", BadPointer(), "tmpfs", 0, nullptr) == -1 && errno == EFAULT);
    CHILD_CHECK(mount(BadPointer(), at, "tmpfs", 0, nullptr) == -1 && errno == EFAULT);
    CHILD_CHECK(mount(nullptr, at, nullptr, MS_BIND, nullptr) == -1 && errno == EINVAL);
    CHILD_CHECK(mount("m", at, nullptr, MS_REMOUNT, nullptr) == -1 && errno == EINVAL);
    CHILD_CHECK(umount(at) == -1 && errno == EINVAL);
    CHILD_CHECK(umount2(at, 0x100) == -1 && errno == EINVAL);
    CHILD_CHECK(umount((dir / "none").c_str()) == -1 && errno == ENOENT);
    CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    CHILD_CHECK(chdir("/") == 0);
    CHILD_CHECK(mount("m", "/tmp", "tmpfs", 0, nullptr) == -1 && errno == EPERM);
    CHILD_CHECK(umount("/proc") == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_pivot_root, "/", "/") == -1 && errno == EPERM);
  });
}

TEST(PivotRoot, ChangesTheRoot) {
  TempDir dir;
  IN_NAMESPACE({
    CHILD_CHECK(mount("root", dir.path().c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(mkdir((dir / "old").c_str(), 0755) == 0);
    CHILD_CHECK(WriteFile(dir / "marker", "new"));
    CHILD_CHECK(chdir(dir.path().c_str()) == 0);
    CHILD_CHECK(syscall(SYS_pivot_root, ".", "old") == 0);
    CHILD_CHECK(chdir("/") == 0);
    CHILD_CHECK(ReadFile("/marker") == "new");
    CHILD_CHECK(access("/old/proc", F_OK) == 0);
    CHILD_CHECK(umount2("/old", MNT_DETACH) == 0);
    CHILD_CHECK(access("/old/proc", F_OK) == -1);
    char cwd[64];
    CHILD_CHECK(getcwd(cwd, sizeof(cwd)) != nullptr && std::string(cwd) == "/");
  });
}

TEST(PivotRoot, FailsAsDocumented) {
  TempDir dir;
  IN_NAMESPACE({
    CHILD_CHECK(mount("m", dir.path().c_str(), "tmpfs", 0, nullptr) == 0);
    CHILD_CHECK(mkdir((dir / "new").c_str(), 0755) == 0);
    CHILD_CHECK(mkdir((dir / "new/old").c_str(), 0755) == 0);
    CHILD_CHECK(syscall(SYS_pivot_root, (dir / "new").c_str(), (dir / "new/old").c_str()) == -1 && errno == EINVAL);
    CHILD_CHECK(syscall(SYS_pivot_root, (dir / "none").c_str(), (dir / "new").c_str()) == -1 && errno == ENOENT);
    CHILD_CHECK(syscall(SYS_pivot_root, "/", "/") == -1 && errno == EBUSY);
  });
}

}  // namespace
}  // namespace conformance
