#include "base/errno.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "base/syscall_unsafe.h"

namespace base {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Errno(EINVAL);
  return n / 2;
}
Result<int> Quarter(int n) { return TRY(Half(TRY(Half(n)))); }
Result<void> CheckEven(int n) {
  TRY(Half(n));
  return {};
}

TEST(Result, HoldsAValueOrAnErrno) {
  EXPECT_EQ(*Half(4), 2);
  EXPECT_TRUE(Half(3).failed_with(EINVAL));
  EXPECT_FALSE(Half(4).failed_with(EINVAL));
  EXPECT_EQ(Half(3).error(), EINVAL);
  EXPECT_EQ(Half(3).value_or(9), 9);
}

TEST(Result, TryReturnsTheError) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_TRUE(Quarter(6).failed_with(EINVAL));
  EXPECT_TRUE(CheckEven(2).ok());
  EXPECT_TRUE(CheckEven(1).failed_with(EINVAL));
}

TEST(Result, MovesItsValueOut) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(3));
  std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 3);
}

TEST(ErrnoName, KnowsEveryNumber) {
  EXPECT_STREQ(ErrnoName(ENOENT), "ENOENT");
  EXPECT_STREQ(ErrnoName(EAGAIN), "EAGAIN");
  EXPECT_STREQ(ErrnoName(EDEADLK), "EDEADLK");
  EXPECT_STREQ(ErrnoName(ENOTSUP), "EOPNOTSUPP");
  EXPECT_STREQ(ErrnoName(EHWPOISON), "EHWPOISON");
  EXPECT_STREQ(ErrnoName(ERESTARTSYS_), "ERESTARTSYS");
  EXPECT_STREQ(ErrnoName(0), "errno 0");
  EXPECT_STREQ(ErrnoName(4095), "errno 4095");
  EXPECT_STREQ(ErrnoName(600), "errno 600");
  for (int value = -10; value < 5000; ++value) ASSERT_NE(ErrnoName(value), nullptr);
}

TEST(Host, ReturnsTheErrnoOfTheCall) {
  EXPECT_TRUE(Host(SYS_close, -1).failed_with(EBADF));
  EXPECT_EQ(*Host(SYS_getpid), getpid());
}

}  // namespace
}  // namespace base
