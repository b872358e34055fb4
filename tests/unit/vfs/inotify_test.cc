#include "sentry/fs/anon/inotify.h"

#include <sys/inotify.h>

#include <cstring>

#include "tests/unit/vfs/fixture.h"

namespace sentry {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class InotifyTest : public FileTest {
 protected:
  void SetUp() override {
    FileTest::SetUp();
    inotify_ = base::MakeRef<InotifyFile>(0);
  }
  void TearDown() override {
    inotify_ = nullptr;
    EXPECT_FALSE(InotifyWatches::Any());
    FileTest::TearDown();
  }
  int Watch(std::string_view path, uint32_t mask) { return *inotify_->AddWatch(ctx_, *At(path), mask); }
  // "wd:EVENT name", one for each event.
  std::vector<std::string> Events() {
    std::vector<std::string> out;
    std::string all(65536, '\0');
    KernelIo io(std::as_writable_bytes(std::span(all)));
    auto n = inotify_->Read(io, {});
    if (!n.ok()) return out;
    for (size_t at = 0; at < *n;) {
      inotify_event e;
      memcpy(&e, all.data() + at, sizeof(e));
      std::string text = std::to_string(e.wd) + ":";
      static constexpr std::pair<uint32_t, const char*> kNames[] = {{IN_ACCESS, "ACCESS"},
                                                                    {IN_MODIFY, "MODIFY"},
                                                                    {IN_ATTRIB, "ATTRIB"},
                                                                    {IN_CLOSE_WRITE, "CLOSE_WRITE"},
                                                                    {IN_CLOSE_NOWRITE, "CLOSE_NOWRITE"},
                                                                    {IN_OPEN, "OPEN"},
                                                                    {IN_MOVED_FROM, "FROM"},
                                                                    {IN_MOVED_TO, "TO"},
                                                                    {IN_CREATE, "CREATE"},
                                                                    {IN_DELETE, "DELETE"},
                                                                    {IN_DELETE_SELF, "DELETE_SELF"},
                                                                    {IN_MOVE_SELF, "MOVE_SELF"},
                                                                    {IN_IGNORED, "IGNORED"},
                                                                    {IN_Q_OVERFLOW, "OVERFLOW"}};
      for (auto [bit, name] : kNames) {
        if (e.mask & bit) text += name;
      }
      if (e.mask & IN_ISDIR) text += "|DIR";
      if (e.len > 0) text += std::string(" ") + (all.data() + at + sizeof(e));
      EXPECT_EQ(e.len % sizeof(e), 0u);
      out.push_back(text);
      at += sizeof(e) + e.len;
    }
    return out;
  }
  RefPtr<InotifyFile> inotify_;
};

TEST_F(InotifyTest, DirectoriesReportTheirEntries) {
  ASSERT_OK(Mkdir("/d"));
  EXPECT_EQ(Watch("/d", IN_ALL_EVENTS), 1);
  ASSERT_OK(Put("/d/f", "text"));
  EXPECT_THAT(Events(), ElementsAre("1:CREATE f", "1:OPEN f", "1:MODIFY f", "1:CLOSE_WRITE f"));
  EXPECT_EQ(*Get("/d/f"), "text");
  EXPECT_THAT(Events(), ElementsAre("1:OPEN f", "1:ACCESS f", "1:CLOSE_NOWRITE f"));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/d/f"), 0600));
  ASSERT_OK(Mkdir("/d/sub"));
  ASSERT_OK(Rename("/d/f", "/d/sub/f"));
  ASSERT_OK(Rename("/d/sub/f", "/d/g"));
  ASSERT_OK(Unlink("/d/g"));
  ASSERT_OK(Rmdir("/d/sub"));
  EXPECT_THAT(Events(),
              ElementsAre("1:ATTRIB f", "1:CREATE|DIR sub", "1:FROM f", "1:TO g", "1:DELETE g", "1:DELETE|DIR sub"));
  EXPECT_ERRNO(EAGAIN, ReadFrom(*inotify_, 100));
}

TEST_F(InotifyTest, FilesReportWhatHappensToThem) {
  ASSERT_OK(Put("/f", "text"));
  int wd = Watch("/f", IN_ALL_EVENTS);
  ASSERT_OK(Link("/f", "/g"));
  ASSERT_OK(Rename("/f", "/h"));
  EXPECT_THAT(Events(), ElementsAre("1:ATTRIB", "1:MOVE_SELF"));
  ASSERT_OK(Unlink("/g"));
  EXPECT_THAT(Events(), ElementsAre("1:ATTRIB"));
  auto f = *Open("/h", O_RDONLY);
  ASSERT_OK(Unlink("/h"));
  EXPECT_THAT(Events(), ElementsAre("1:OPEN", "1:ATTRIB"));
  f = nullptr;
  EXPECT_THAT(Events(), ElementsAre("1:CLOSE_NOWRITE", "1:DELETE_SELF", "1:IGNORED"));
  EXPECT_ERRNO(EINVAL, inotify_->RemoveWatch(wd));
}

TEST_F(InotifyTest, MasksFilterAndAdd) {
  ASSERT_OK(Put("/f", "text"));
  EXPECT_EQ(Watch("/f", IN_ATTRIB), 1);
  EXPECT_EQ(Watch("/f", IN_OPEN | IN_MASK_ADD), 1);
  EXPECT_ERRNO(EEXIST, inotify_->AddWatch(ctx_, *At("/f"), IN_OPEN | IN_MASK_CREATE));
  EXPECT_EQ(*Get("/f"), "text");
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0600));
  EXPECT_THAT(Events(), ElementsAre("1:OPEN", "1:ATTRIB"));
  EXPECT_EQ(Watch("/f", IN_MODIFY), 1);
  EXPECT_EQ(*Get("/f"), "text");
  EXPECT_THAT(Events(), IsEmpty());
  ASSERT_OK(inotify_->RemoveWatch(1));
  EXPECT_THAT(Events(), ElementsAre("1:IGNORED"));
  EXPECT_EQ(Watch("/f", IN_OPEN | IN_ONESHOT), 2);
  EXPECT_EQ(*Get("/f"), "text");
  EXPECT_EQ(*Get("/f"), "text");
  EXPECT_THAT(Events(), ElementsAre("2:OPEN", "2:IGNORED"));
  EXPECT_ERRNO(EINVAL, inotify_->AddWatch(ctx_, *At("/f"), IN_ONESHOT));
  EXPECT_ERRNO(EACCES, inotify_->AddWatch(user_, *At("/f"), IN_OPEN));
}

TEST_F(InotifyTest, EventsAreLimitedAndMerged) {
  ASSERT_OK(Mkdir("/d"));
  Watch("/d", IN_ATTRIB | IN_CREATE);
  for (int i = 0; i < 100; ++i) ASSERT_OK(vfs::Chmod(ctx_, *At("/d"), 0700));
  EXPECT_THAT(Events(), ElementsAre("1:ATTRIB|DIR"));
  for (int i = 0; i < 20000; ++i) ASSERT_OK(Put("/d/" + std::to_string(i), ""));
  size_t count = 0;
  std::string last;
  for (auto events = Events(); !events.empty(); events = Events()) {
    count += events.size();
    last = events.back();
  }
  EXPECT_EQ(count, InotifyFile::kMaxQueuedEvents + 1);
  EXPECT_EQ(last, "-1:OVERFLOW");
}

TEST_F(InotifyTest, WatchesSurviveTheDentryCache) {
  ASSERT_OK(Put("/f", "text"));
  Watch("/f", IN_OPEN);
  DentryCache::Get().ShrinkTo(0);
  EXPECT_EQ(*Get("/f"), "text");
  EXPECT_THAT(Events(), ElementsAre("1:OPEN"));
  std::string small(8, '\0');
  EXPECT_EQ(*Get("/f"), "text");
  KernelIo io(std::as_writable_bytes(std::span(small)));
  EXPECT_ERRNO(EINVAL, inotify_->Read(io, {}));
}

}  // namespace
}  // namespace sentry
