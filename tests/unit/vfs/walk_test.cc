#include "tests/unit/vfs/fixture.h"

namespace sentry {
namespace {

using WalkTest = FileTest;
constexpr uint32_t Bit(WalkFlag f) { return static_cast<uint32_t>(f); }

TEST_F(WalkTest, FindsWhatIsThere) {
  ASSERT_OK(Mkdir("/a"));
  ASSERT_OK(Mkdir("/a/b"));
  ASSERT_OK(Put("/a/b/file", "text"));
  EXPECT_EQ(Name(*At("/a/b/file")), "/a/b/file");
  EXPECT_EQ(Name(*At("/a//b/./../b/file")), "/a/b/file");
  EXPECT_EQ(Name(*At("/../../a")), "/a");
  EXPECT_EQ(Name(*At("/")), "/");
  EXPECT_ERRNO(ENOENT, At("/a/x"));
  EXPECT_ERRNO(ENOENT, At("/x/b"));
  EXPECT_ERRNO(ENOENT, At(""));
  EXPECT_ERRNO(ENOTDIR, At("/a/b/file/x"));
  EXPECT_ERRNO(ENOTDIR, At("/a/b/file/"));
  EXPECT_ERRNO(ENOTDIR, At("/a/b/file/."));
  EXPECT_OK(At("/a/b/"));
}

TEST_F(WalkTest, LimitsLengths) {
  EXPECT_ERRNO(ENAMETOOLONG, At("/" + std::string(256, 'x')));
  EXPECT_ERRNO(ENOENT, At("/" + std::string(255, 'x')));
  EXPECT_ERRNO(ENAMETOOLONG, At(std::string(4096, '/')));
  EXPECT_OK(At(std::string(4095, '/')));
}

TEST_F(WalkTest, StartsAtTheWorkingDirectoryOrWhatIsGiven) {
  ASSERT_OK(Mkdir("/a"));
  ASSERT_OK(Mkdir("/b"));
  ASSERT_OK(Put("/a/x", "1"));
  ASSERT_OK(Put("/b/x", "2"));
  ctx_.cwd = *At("/a");
  EXPECT_EQ(*Get("x"), "1");
  auto b = *At("/b");
  auto r = WalkPath(ctx_, b, "x", 0);
  ASSERT_OK(r);
  EXPECT_EQ(Name(r->path), "/b/x");
  auto file = *At("/b/x");
  EXPECT_ERRNO(ENOTDIR, WalkPath(ctx_, file, "x", 0));
  auto self = WalkPath(ctx_, file, "", Bit(WalkFlag::kEmptyPath));
  ASSERT_OK(self);
  EXPECT_EQ(self->path, file);
}

TEST_F(WalkTest, FollowsLinks) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Put("/d/file", "text"));
  ASSERT_OK(Symlink("d/file", "/rel"));
  ASSERT_OK(Symlink("/d", "/abs"));
  ASSERT_OK(Symlink("../rel", "/d/up"));
  ASSERT_OK(Symlink("nowhere", "/dangling"));
  EXPECT_EQ(*Get("/rel"), "text");
  EXPECT_EQ(*Get("/abs/file"), "text");
  EXPECT_EQ(*Get("/abs/up"), "text");
  EXPECT_ERRNO(ENOENT, At("/dangling"));
  EXPECT_EQ(Lstat("/dangling")->type(), FileType::kSymlink);
  EXPECT_EQ(Lstat("/abs")->type(), FileType::kSymlink);
  EXPECT_EQ(Lstat("/abs/")->type(), FileType::kDirectory);
  EXPECT_EQ(*vfs::ReadLink(ctx_, {}, "/d/up"), "../rel");
  EXPECT_ERRNO(EINVAL, vfs::ReadLink(ctx_, {}, "/d"));
}

TEST_F(WalkTest, FollowsFortyLinksAndNoMore) {
  ASSERT_OK(Put("/l0", "end"));
  for (int i = 1; i <= 41; ++i) ASSERT_OK(Symlink("l" + std::to_string(i - 1), "/l" + std::to_string(i)));
  EXPECT_EQ(*Get("/l40"), "end");
  EXPECT_ERRNO(ELOOP, At("/l41"));
  ASSERT_OK(Symlink("loop", "/loop"));
  EXPECT_ERRNO(ELOOP, At("/loop"));
}

TEST_F(WalkTest, NeedsSearchPermission) {
  ASSERT_OK(Mkdir("/closed", 0700));
  ASSERT_OK(Put("/closed/file", "x"));
  EXPECT_ERRNO(EACCES, WalkPath(user_, {}, "/closed/file", 0));
  EXPECT_OK(WalkPath(user_, {}, "/closed", 0));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/closed"), 0711));
  EXPECT_OK(WalkPath(user_, {}, "/closed/file", 0));
}

TEST_F(WalkTest, CrossesMounts) {
  ASSERT_OK(Mkdir("/mnt"));
  ASSERT_OK(Put("/mnt/below", ""));
  ASSERT_OK(MountTmpfs("/mnt"));
  EXPECT_ERRNO(ENOENT, At("/mnt/below"));
  ASSERT_OK(Mkdir("/mnt/d"));
  EXPECT_EQ(Name(*At("/mnt/d")), "/mnt/d");
  EXPECT_EQ(Name(*At("/mnt/d/../..")), "/");
  EXPECT_ERRNO(EXDEV, At("/mnt", Bit(WalkFlag::kNoXdev)));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, *At("/mnt"), "..", Bit(WalkFlag::kNoXdev)));
  ASSERT_OK(MountTmpfs("/mnt"));  // on top
  EXPECT_ERRNO(ENOENT, At("/mnt/d"));
  ASSERT_OK(mounts_->Unmount(*At("/mnt"), 0));
  EXPECT_OK(At("/mnt/d"));
  {
    auto inside = *At("/mnt/d");
    EXPECT_ERRNO(EBUSY, mounts_->Unmount(*At("/mnt"), 0));
    ASSERT_OK(mounts_->Unmount(*At("/mnt"), MNT_DETACH));
    EXPECT_EQ(Name(inside), "(unreachable)/d");
  }
  EXPECT_OK(At("/mnt/below"));
  EXPECT_ERRNO(EINVAL, mounts_->Unmount(*At("/mnt"), 0));
}

TEST_F(WalkTest, ObeysOpenat2) {
  ASSERT_OK(Mkdir("/jail"));
  ASSERT_OK(Mkdir("/jail/d"));
  ASSERT_OK(Put("/secret", "s"));
  ASSERT_OK(Put("/jail/secret", "j"));
  ASSERT_OK(Symlink("/secret", "/jail/abs"));
  ASSERT_OK(Symlink("../secret", "/jail/up"));
  VfsPath jail = *At("/jail");
  uint32_t follow = Bit(WalkFlag::kFollow);
  uint32_t beneath = follow | Bit(WalkFlag::kBeneath), in_root = follow | Bit(WalkFlag::kInRoot);
  EXPECT_OK(WalkPath(ctx_, jail, "d/../secret", beneath));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, jail, "..", beneath));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, jail, "d/../../jail/d", beneath));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, jail, "/jail/d", beneath));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, jail, "abs", beneath));
  EXPECT_ERRNO(EXDEV, WalkPath(ctx_, jail, "up", beneath));
  for (const char* path : {"abs", "up", "/secret", "../../secret", "d/../../secret"}) {
    auto r = WalkPath(ctx_, jail, path, in_root);
    ASSERT_OK(r);
    EXPECT_EQ(Name(r->path), "/jail/secret") << path;
  }
  EXPECT_ERRNO(ELOOP, WalkPath(ctx_, jail, "up", follow | Bit(WalkFlag::kNoSymlinks)));
  EXPECT_OK(WalkPath(ctx_, jail, "up", Bit(WalkFlag::kNoSymlinks)));  // not followed: fine
}

TEST_F(WalkTest, CachedWalksNeverAskTheFileSystem) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Put("/d/f", "x"));
  EXPECT_OK(At("/d/f", Bit(WalkFlag::kCached)));
  DentryCache::Get().ShrinkTo(0);
  EXPECT_ERRNO(EAGAIN, At("/d/f", Bit(WalkFlag::kCached)));
  EXPECT_OK(At("/d/f"));
  EXPECT_OK(At("/d/f", Bit(WalkFlag::kCached)));
}

TEST_F(WalkTest, NamesFollowRenamesAndDeletion) {
  ASSERT_OK(Mkdir("/a"));
  ASSERT_OK(Mkdir("/a/b"));
  VfsPath b = *At("/a/b");
  ASSERT_OK(Rename("/a", "/c"));
  EXPECT_EQ(Name(b), "/c/b");
  ASSERT_OK(Rmdir("/c/b"));
  EXPECT_EQ(Name(b), "/c/b (deleted)");
  EXPECT_ERRNO(ENOENT, vfs::Mkdir(ctx_, b, "x", 0755));
  EXPECT_ERRNO(ENOENT, vfs::Open(ctx_, b, "x", {.flags = O_CREAT | O_WRONLY, .mode = 0644}));
  VfsContext chrooted = ctx_;
  chrooted.root = *At("/c");
  EXPECT_EQ(PathName(chrooted, *At("/c")), "/");
  EXPECT_EQ(PathName(chrooted, *At("/")), "(unreachable)/");
}

TEST_F(WalkTest, UnusedNamesLeaveTheCache) {
  DentryCache::Get().set_capacity(100);
  for (int i = 0; i < 1000; ++i) ASSERT_OK(Put("/f" + std::to_string(i), ""));
  EXPECT_LE(DentryCache::Get().size(), 101u);
  for (int i = 0; i < 1000; ++i) EXPECT_OK(At("/f" + std::to_string(i)));
  DentryCache::Get().set_capacity(DentryCache::kDefaultCapacity);
}

TEST_F(WalkTest, DeepTreesAreTornDownWithoutRecursion) {
  VfsContext deep = ctx_;
  for (int i = 0; i < 30000; ++i) {
    ASSERT_OK(vfs::Mkdir(deep, {}, "d", 0755));
    deep.cwd = WalkPath(deep, {}, "d", 0)->path;
  }
}

}  // namespace
}  // namespace sentry
