// Extended attributes. (man 7 xattr)
#include <sys/xattr.h>

#include <algorithm>
#include <string>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

class Xattr : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(WriteFile(path_, "x"));
    if (setxattr(path_.c_str(), "user.probe", "1", 1, 0) != 0 && errno == EOPNOTSUPP) {
      // An old tmpfs has no user attributes; trusted ones are everywhere.
      prefix_ = "trusted.";
    } else {
      ASSERT_OK(removexattr(path_.c_str(), "user.probe"));
    }
  }
  std::string Name(const std::string& n) { return prefix_ + n; }
  std::string Value(const std::string& name) {
    char buffer[256];
    ssize_t n = getxattr(path_.c_str(), name.c_str(), buffer, sizeof(buffer));
    return n < 0 ? std::string("error ") + strerrorname_np(errno) : std::string(buffer, n);
  }
  TempDir dir_;
  std::string path_ = dir_ / "file";
  std::string prefix_ = "user.";
};

TEST_F(Xattr, AreSetReadListedAndRemoved) {
  std::string a = Name("a"), b = Name("b");
  ASSERT_OK(setxattr(path_.c_str(), a.c_str(), "one", 3, 0));
  ASSERT_OK(setxattr(path_.c_str(), b.c_str(), "", 0, 0));
  EXPECT_EQ(Value(a), "one");
  EXPECT_EQ(Value(b), "");
  EXPECT_EQ(getxattr(path_.c_str(), a.c_str(), nullptr, 0), 3);
  char list[256];
  ssize_t n = listxattr(path_.c_str(), list, sizeof(list));
  ASSERT_GT(n, 0);
  std::string all(list, n);
  EXPECT_NE(all.find(a + '\0'), std::string::npos);
  EXPECT_NE(all.find(b + '\0'), std::string::npos);
  EXPECT_EQ(listxattr(path_.c_str(), nullptr, 0), n);
  EXPECT_ERRNO(listxattr(path_.c_str(), list, n - 1), ERANGE);
  ASSERT_OK(removexattr(path_.c_str(), a.c_str()));
  EXPECT_EQ(Value(a), "error ENODATA");
  EXPECT_ERRNO(removexattr(path_.c_str(), a.c_str()), ENODATA);
}

TEST_F(Xattr, FlagsSayCreateOrReplace) {
  std::string a = Name("a");
  EXPECT_ERRNO(setxattr(path_.c_str(), a.c_str(), "1", 1, XATTR_REPLACE), ENODATA);
  EXPECT_OK(setxattr(path_.c_str(), a.c_str(), "1", 1, XATTR_CREATE));
  EXPECT_ERRNO(setxattr(path_.c_str(), a.c_str(), "2", 1, XATTR_CREATE), EEXIST);
  EXPECT_OK(setxattr(path_.c_str(), a.c_str(), "33", 2, XATTR_REPLACE));
  EXPECT_EQ(Value(a), "33");
  EXPECT_ERRNO(setxattr(path_.c_str(), a.c_str(), "1", 1, 4), EINVAL);
}

TEST_F(Xattr, DescriptorsWorkToo) {
  Fd fd(open(path_.c_str(), O_RDONLY));
  std::string a = Name("a");
  ASSERT_OK(fsetxattr(fd.get(), a.c_str(), "v", 1, 0));
  char c;
  EXPECT_EQ(fgetxattr(fd.get(), a.c_str(), &c, 1), 1);
  EXPECT_GT(flistxattr(fd.get(), nullptr, 0), 0);
  ASSERT_OK(fremovexattr(fd.get(), a.c_str()));
  Fd path(open(path_.c_str(), O_PATH));
  EXPECT_ERRNO(fgetxattr(path.get(), a.c_str(), &c, 1), EBADF);
}

TEST_F(Xattr, FailsAsDocumented) {
  std::string a = Name("a");
  char c;
  ASSERT_OK(setxattr(path_.c_str(), a.c_str(), "long", 4, 0));
  EXPECT_ERRNO(getxattr(path_.c_str(), a.c_str(), &c, 1), ERANGE);
  EXPECT_ERRNO(getxattr((dir_ / "none").c_str(), a.c_str(), &c, 1), ENOENT);
  EXPECT_ERRNO(setxattr(path_.c_str(), "nonamespace", "x", 1, 0), EOPNOTSUPP);
  EXPECT_ERRNO(setxattr(path_.c_str(), "", "x", 1, 0), ERANGE);
  EXPECT_ERRNO(setxattr(path_.c_str(), (prefix_ + std::string(300, 'n')).c_str(), "x", 1, 0), ERANGE);
  EXPECT_ERRNO(setxattr(path_.c_str(), a.c_str(), "x", 65537, 0), E2BIG);
  EXPECT_ERRNO(setxattr(path_.c_str(), a.c_str(), BadPointer(), 1, 0), EFAULT);
  EXPECT_ERRNO(setxattr(path_.c_str(), BadPointer(), "x", 1, 0), EFAULT);
  EXPECT_ERRNO(getxattr(path_.c_str(), a.c_str(), BadPointer(), 4), EFAULT);
}

TEST_F(Xattr, UserAttributesAreForFilesAndDirectories) {
  ASSERT_OK(symlink("file", (dir_ / "link").c_str()));
  EXPECT_ERRNO(lsetxattr((dir_ / "link").c_str(), "user.a", "x", 1, 0), EPERM);
  ASSERT_OK(lsetxattr((dir_ / "link").c_str(), "trusted.a", "x", 1, 0));
  char c;
  EXPECT_EQ(lgetxattr((dir_ / "link").c_str(), "trusted.a", &c, 1), 1);
  EXPECT_ERRNO(getxattr((dir_ / "link").c_str(), "trusted.a", &c, 1), ENODATA);
}

}  // namespace
}  // namespace conformance
