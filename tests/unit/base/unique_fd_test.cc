#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace base {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesWhatItOwns) {
  int raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
  { UniqueFd fd(raw); }
  EXPECT_FALSE(IsOpen(raw));
}

TEST(UniqueFd, MovesAndReleases) {
  UniqueFd a(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int raw = a.get();
  UniqueFd b = std::move(a);
  EXPECT_FALSE(a.valid());
  EXPECT_EQ(b.get(), raw);
  b.reset(b.get());  // its own: stays open
  EXPECT_TRUE(IsOpen(raw));
  EXPECT_EQ(b.release(), raw);
  EXPECT_FALSE(b.valid());
  close(raw);
}

TEST(UniqueFd, DuplicatesWithCloseOnExec) {
  UniqueFd a(open("/dev/null", O_RDONLY));
  UniqueFd b = a.Duplicate();
  ASSERT_TRUE(b.valid());
  EXPECT_NE(a.get(), b.get());
  EXPECT_EQ(fcntl(b.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FALSE(UniqueFd().Duplicate().valid());
}

}  // namespace
}  // namespace base
