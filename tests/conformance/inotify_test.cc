// inotify: what is reported for what happens.
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

struct Event {
  int wd;
  uint32_t mask;
  uint32_t cookie;
  std::string name;
};

class Inotify : public ::testing::Test {
 protected:
  Inotify() : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {}
  int Watch(const std::string& path, uint32_t mask = IN_ALL_EVENTS) {
    return inotify_add_watch(fd_.get(), path.c_str(), mask);
  }
  std::vector<Event> Take() {
    std::vector<Event> events;
    alignas(inotify_event) char buffer[16384];
    ssize_t n;
    while ((n = read(fd_.get(), buffer, sizeof(buffer))) > 0) {
      for (ssize_t at = 0; at < n;) {
        auto* e = reinterpret_cast<inotify_event*>(buffer + at);
        events.push_back({e->wd, e->mask, e->cookie, e->len > 0 ? e->name : ""});
        at += sizeof(*e) + e->len;
      }
    }
    return events;
  }
  // The masks alone, in order.
  std::vector<uint32_t> Masks() {
    std::vector<uint32_t> masks;
    for (const Event& e : Take()) masks.push_back(e.mask);
    return masks;
  }
  using List = std::vector<uint32_t>;
  TempDir dir_;
  Fd fd_;
};

TEST_F(Inotify, ReportsTheLifeOfAFile) {
  ASSERT_OK(Watch(dir_.path()));
  {
    Fd f(open((dir_ / "f").c_str(), O_RDWR | O_CREAT, 0644));
    EXPECT_EQ(Masks(), (List{IN_CREATE, IN_OPEN}));
    ASSERT_EQ(write(f.get(), "x", 1), 1);
    EXPECT_EQ(Masks(), (List{IN_MODIFY}));
    char c;
    ASSERT_EQ(pread(f.get(), &c, 1, 0), 1);
    EXPECT_EQ(Masks(), (List{IN_ACCESS}));
    ASSERT_OK(fchmod(f.get(), 0600));
    EXPECT_EQ(Masks(), (List{IN_ATTRIB}));
    ASSERT_OK(ftruncate(f.get(), 0));
    EXPECT_EQ(Masks(), (List{IN_MODIFY}));
  }
  EXPECT_EQ(Masks(), (List{IN_CLOSE_WRITE}));
  { Fd f(open((dir_ / "f").c_str(), O_RDONLY)); }
  EXPECT_EQ(Masks(), (List{IN_OPEN, IN_CLOSE_NOWRITE}));
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Masks(), (List{IN_DELETE}));
}

TEST_F(Inotify, NamesTheEntry) {
  const int wd = Watch(dir_.path(), IN_CREATE | IN_DELETE);
  ASSERT_OK(wd);
  ASSERT_OK(mkdir((dir_ / "sub").c_str(), 0755));
  ASSERT_TRUE(WriteFile(dir_ / "file", ""));
  std::vector<Event> events = Take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].wd, wd);
  EXPECT_EQ(events[0].mask, IN_CREATE | IN_ISDIR);
  EXPECT_EQ(events[0].name, "sub");
  EXPECT_EQ(events[1].name, "file");
}

TEST_F(Inotify, RenamesComeInPairsWithACookie) {
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_OK(Watch(dir_.path(), IN_MOVED_FROM | IN_MOVED_TO));
  ASSERT_OK(rename((dir_ / "a").c_str(), (dir_ / "b").c_str()));
  std::vector<Event> events = Take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, static_cast<uint32_t>(IN_MOVED_FROM));
  EXPECT_EQ(events[0].name, "a");
  EXPECT_EQ(events[1].mask, static_cast<uint32_t>(IN_MOVED_TO));
  EXPECT_EQ(events[1].name, "b");
  EXPECT_NE(events[0].cookie, 0u);
  EXPECT_EQ(events[0].cookie, events[1].cookie);
}

TEST_F(Inotify, AWatchedDirectoryReportsItsEndLikeAFile) {
  ASSERT_OK(mkdir((dir_ / "d").c_str(), 0755));
  ASSERT_OK(Watch(dir_ / "d"));
  ASSERT_OK(rename((dir_ / "d").c_str(), (dir_ / "e").c_str()));
  EXPECT_EQ(Masks(), (List{IN_MOVE_SELF}));
  ASSERT_OK(rmdir((dir_ / "e").c_str()));
  EXPECT_EQ(Masks(), (List{IN_DELETE_SELF, IN_IGNORED}));
}

TEST_F(Inotify, AWatchedFileReportsItsEnd) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_OK(Watch(dir_ / "f"));
  ASSERT_OK(rename((dir_ / "f").c_str(), (dir_ / "g").c_str()));
  EXPECT_EQ(Masks(), (List{IN_MOVE_SELF}));
  ASSERT_OK(unlink((dir_ / "g").c_str()));
  EXPECT_EQ(Masks(), (List{IN_ATTRIB, IN_DELETE_SELF, IN_IGNORED})) << "the link count changed, then the file went";
}

TEST_F(Inotify, EqualEventsInARowMerge) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_OK(Watch(dir_ / "f", IN_MODIFY));
  Fd f(open((dir_ / "f").c_str(), O_WRONLY));
  for (int i = 0; i < 5; ++i) ASSERT_EQ(write(f.get(), "x", 1), 1);
  EXPECT_EQ(Masks().size(), 1u);
}

TEST_F(Inotify, AddingAgainChangesTheMask) {
  const int wd = Watch(dir_.path(), IN_CREATE);
  EXPECT_EQ(Watch(dir_.path(), IN_DELETE), wd);
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_EQ(Masks().size(), 0u);
  EXPECT_EQ(Watch(dir_.path(), IN_CREATE | IN_MASK_ADD), wd);
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ(Masks(), (List{IN_DELETE}));
  EXPECT_ERRNO(Watch(dir_.path(), IN_CREATE | IN_MASK_CREATE), EEXIST);
}

TEST_F(Inotify, OneshotAndRemovalEndInIgnored) {
  ASSERT_OK(Watch(dir_.path(), IN_CREATE | IN_ONESHOT));
  ASSERT_TRUE(WriteFile(dir_ / "a", ""));
  ASSERT_TRUE(WriteFile(dir_ / "b", ""));
  EXPECT_EQ(Masks(), (List{IN_CREATE, IN_IGNORED}));
  const int wd = Watch(dir_.path(), IN_CREATE);
  ASSERT_OK(inotify_rm_watch(fd_.get(), wd));
  EXPECT_EQ(Masks(), (List{IN_IGNORED}));
  EXPECT_ERRNO(inotify_rm_watch(fd_.get(), wd), EINVAL);
}

TEST_F(Inotify, PollAndFionreadTellThatSomethingWaits) {
  ASSERT_OK(Watch(dir_.path(), IN_CREATE));
  pollfd p = {fd_.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  char c[16];
  EXPECT_ERRNO(read(fd_.get(), c, sizeof(c)), EAGAIN);
  ASSERT_TRUE(WriteFile(dir_ / "name", ""));
  EXPECT_EQ(poll(&p, 1, 0), 1);
  int n = 0;
  ASSERT_OK(ioctl(fd_.get(), FIONREAD, &n));
  EXPECT_EQ(n, static_cast<int>(sizeof(inotify_event)) + 16);
  EXPECT_ERRNO(read(fd_.get(), c, sizeof(c)), EINVAL) << "no room for one event";
}

TEST_F(Inotify, FailsAsDocumented) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  EXPECT_ERRNO(inotify_init1(0x1), EINVAL);
  EXPECT_ERRNO(Watch(dir_ / "absent"), ENOENT);
  EXPECT_ERRNO(Watch(dir_.path(), 0), EINVAL);
  EXPECT_ERRNO(Watch(dir_ / "f", IN_CREATE | IN_ONLYDIR), ENOTDIR);
  EXPECT_ERRNO(inotify_add_watch(-1, dir_.path().c_str(), IN_CREATE), EBADF);
  EXPECT_ERRNO(inotify_add_watch(0, dir_.path().c_str(), IN_CREATE), EINVAL);
  EXPECT_ERRNO(inotify_add_watch(fd_.get(), BadPointer(), IN_CREATE), EFAULT);
  EXPECT_ERRNO(inotify_rm_watch(fd_.get(), 9999), EINVAL);
  ASSERT_OK(symlink("f", (dir_ / "link").c_str()));
  EXPECT_OK(Watch(dir_ / "link", IN_OPEN | IN_DONT_FOLLOW));
}

TEST_F(Inotify, LinksReportToEveryName) {
  ASSERT_TRUE(WriteFile(dir_ / "f", ""));
  ASSERT_OK(mkdir((dir_ / "d").c_str(), 0755));
  ASSERT_OK(link((dir_ / "f").c_str(), (dir_ / "d/other").c_str()));
  const int by_file = Watch(dir_ / "f", IN_MODIFY);
  const int by_dir = Watch(dir_ / "d", IN_MODIFY);
  Fd fd(open((dir_ / "d/other").c_str(), O_WRONLY));
  ASSERT_EQ(write(fd.get(), "x", 1), 1);
  std::vector<Event> events = Take();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE((events[0].wd == by_dir && events[1].wd == by_file) ||
              (events[0].wd == by_file && events[1].wd == by_dir));
}

}  // namespace
}  // namespace conformance
