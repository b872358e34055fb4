#include "sentry/fs/overlay/overlay.h"

#include <linux/fs.h>
#include <sys/socket.h>

#include <random>

#include "base/sanitizers.h"
#include "tests/unit/vfs/fixture.h"
#include "tests/unit/vfs/gofer_fixture.h"

namespace sentry {
namespace {

using ::testing::ElementsAre;

class OverlayTest : public FileTest, public GoferTree {
 protected:
  void SetUp() override {
    FileTest::SetUp();
    host_.MakeDirectory("dir/sub");
    host_.Write("file", "lower");
    host_.Write("dir/a", "a");
    host_.Write("dir/b", "b");
    host_.Write("dir/sub/deep", "deep");
    std::filesystem::create_symlink("file", host_ / "link");
    MountOverlay();
  }
  void MountOverlay(const tmpfs::Options& upper = {}) {
    lower_ = Tree(goferfs::Access::kExclusive);
    auto root = overlay::Create({*tmpfs::Create(*memory_, upper), lower_});
    ASSERT_OK(root);
    MountRoot(*root);
  }
  void TearDown() override {
    FileTest::TearDown();
    lower_ = {};
    Stop();
  }
  // For a mount of the test's own.
  void StartOver() {
    TearDown();
    FileTest::SetUp();
  }
  // Everything of the overlay's names leaves the cache: what is found next comes from the layers.
  static void Forget() { DentryCache::Get().ShrinkTo(0); }

  vfs::NewMount lower_;
};

TEST_F(OverlayTest, ShowsTheLowerLayer) {
  EXPECT_EQ(*Get("/file"), "lower");
  EXPECT_EQ(*Get("/dir/sub/deep"), "deep");
  EXPECT_EQ(*Get("/link"), "lower");
  EXPECT_THAT(*List("/"), ElementsAre("dir", "file", "link"));
  EXPECT_THAT(*List("/dir", 1), ElementsAre("a", "b", "sub"));
  EXPECT_ERRNO(ENOENT, At("/none"));
  EXPECT_ERRNO(ENOTDIR, At("/file/x"));
}

TEST_F(OverlayTest, WritingCopiesUp) {
  uint64_t ino = Stat("/dir/a")->ino;
  auto reader = *Open("/dir/a", O_RDONLY);
  EXPECT_EQ(*ReadFrom(*reader, 10, 0), "a");
  auto f = *Open("/dir/a", O_RDWR);
  ASSERT_OK(WriteTo(*f, "changed"));
  EXPECT_EQ(host_.Read("dir/a"), "a");
  EXPECT_EQ(*Get("/dir/a"), "changed");
  EXPECT_EQ(*ReadFrom(*reader, 10, 0), "changed");
  EXPECT_EQ(reader->GetAttr()->size, 7);
  EXPECT_EQ(Stat("/dir/a")->ino, ino);
  Forget();
  EXPECT_EQ(Stat("/dir/a")->ino, ino);
  EXPECT_EQ(*Get("/dir/a"), "changed");
  EXPECT_EQ(*Get("/dir/b"), "b");
  EXPECT_THAT(*List("/dir"), ElementsAre("a", "b", "sub"));
  auto dir = *Open("/dir", O_RDONLY | O_DIRECTORY);
  ASSERT_OK(dir->ReadDir(0, [&](const Dirent& d) {
    if (d.name == "a") {
      EXPECT_EQ(d.ino, ino);
    }
    return true;
  }));
}

TEST_F(OverlayTest, CopyUpKeepsAttributes) {
  chmod((host_ / "file").c_str(), 04755);
  ASSERT_OK(vfs::Utimes(ctx_, *At("/file"), {}, {vfs::TimeChange::Kind::kSet, 5}));
  EXPECT_EQ(Stat("/file")->mode & 07777, 04755u);
  EXPECT_EQ(Stat("/file")->mtime, 5);
  EXPECT_EQ(*Get("/file"), "lower");
  ASSERT_OK(vfs::Chmod(ctx_, *At("/dir/sub/deep"), 0600));
  EXPECT_EQ(Stat("/dir/sub")->mode, host_.Stat("dir/sub").st_mode);
  EXPECT_EQ(Stat("/dir/sub/deep")->mode & 07777, 0600u);
  EXPECT_EQ(Stat("/dir/sub/deep")->mtime, host_.MtimeNs("dir/sub/deep"));
  EXPECT_NE(host_.Stat("dir/sub/deep").st_mode & 07777, 0600u);
  ASSERT_OK(vfs::SetXattr(ctx_, *At("/dir/b"), "user.x", "1", 0));
  EXPECT_THAT(*vfs::ListXattr(ctx_, *At("/dir/b")), ElementsAre("user.x"));
}

TEST_F(OverlayTest, TruncationOnOpenCopiesNothing) {
  host_.Write("big", std::string(1 << 20, 'x'));
  uint64_t before = memory_->usage();
  ASSERT_OK(Put("/big", "small"));
  EXPECT_LT(memory_->usage() - before, uint64_t{300} << 10);
  EXPECT_EQ(*Get("/big"), "small");
  host_.Write("big2", std::string(100000, 'y') + "tail");
  ASSERT_OK(vfs::Truncate(ctx_, *At("/big2"), 100002));
  EXPECT_EQ(*Get("/big2"), std::string(100000, 'y') + "ta");
}

TEST_F(OverlayTest, DeletionLeavesAWhiteout) {
  ASSERT_OK(Unlink("/dir/a"));
  EXPECT_ERRNO(ENOENT, At("/dir/a"));
  Forget();
  EXPECT_ERRNO(ENOENT, At("/dir/a"));
  EXPECT_THAT(*List("/dir"), ElementsAre("b", "sub"));
  EXPECT_EQ(host_.Read("dir/a"), "a");
  // A name that is free again.
  ASSERT_OK(Put("/dir/a", "new"));
  Forget();
  EXPECT_EQ(*Get("/dir/a"), "new");
  ASSERT_OK(Unlink("/dir/a"));
  Forget();
  EXPECT_ERRNO(ENOENT, At("/dir/a"));
  ASSERT_OK(Mkdir("/dir/a"));
  EXPECT_THAT(*List("/dir/a"), ElementsAre());
}

TEST_F(OverlayTest, UnlinkedLowerFilesLiveOn) {
  auto f = *Open("/file", O_RDONLY);
  ASSERT_OK(Unlink("/file"));
  EXPECT_EQ(*ReadFrom(*f, 10, 0), "lower");
  EXPECT_EQ(f->GetAttr()->nlink, 0u);
  ASSERT_OK(vfs::Chmod(ctx_, f->path(), 0600));  // copied up without a name
  EXPECT_EQ(*ReadFrom(*f, 10, 0), "lower");
  EXPECT_EQ(f->GetAttr()->mode & 07777, 0600u);
  Forget();
  EXPECT_ERRNO(ENOENT, At("/file"));
}

TEST_F(OverlayTest, DirectoriesAreRemovedWhenTheirMergedViewIsEmpty) {
  EXPECT_ERRNO(ENOTEMPTY, Rmdir("/dir/sub"));
  ASSERT_OK(Unlink("/dir/sub/deep"));
  ASSERT_OK(Rmdir("/dir/sub"));
  Forget();
  EXPECT_ERRNO(ENOENT, At("/dir/sub"));
  // A new directory in its place does not show the old contents.
  ASSERT_OK(Mkdir("/dir/sub"));
  Forget();
  EXPECT_THAT(*List("/dir/sub"), ElementsAre());
  ASSERT_OK(Put("/dir/sub/x", ""));
  ASSERT_OK(Unlink("/dir/a"));
  ASSERT_OK(Unlink("/dir/b"));
  EXPECT_ERRNO(ENOTEMPTY, Rmdir("/dir"));
  ASSERT_OK(Unlink("/dir/sub/x"));
  ASSERT_OK(Rmdir("/dir/sub"));
  ASSERT_OK(Rmdir("/dir"));
  EXPECT_THAT(*List("/"), ElementsAre("file", "link"));
}

TEST_F(OverlayTest, RenamesFiles) {
  ASSERT_OK(Rename("/dir/a", "/moved"));
  Forget();
  EXPECT_EQ(*Get("/moved"), "a");
  EXPECT_ERRNO(ENOENT, At("/dir/a"));
  ASSERT_OK(Rename("/moved", "/dir/b"));  // over a lower file
  Forget();
  EXPECT_EQ(*Get("/dir/b"), "a");
  ASSERT_OK(Rename("/dir/b", "/dir/a"));  // over a whiteout
  Forget();
  EXPECT_EQ(*Get("/dir/a"), "a");
  EXPECT_ERRNO(ENOENT, At("/dir/b"));
  ASSERT_OK(Rename("/dir/a", "/file", RENAME_EXCHANGE));
  Forget();
  EXPECT_EQ(*Get("/dir/a"), "lower");
  EXPECT_EQ(*Get("/file"), "a");
  EXPECT_ERRNO(EINVAL, Rename("/file", "/f2", RENAME_WHITEOUT));
}

TEST_F(OverlayTest, RenamesNewDirectoriesOnly) {
  EXPECT_ERRNO(EXDEV, Rename("/dir", "/dir2"));
  ASSERT_OK(Mkdir("/new"));
  ASSERT_OK(Put("/new/x", "x"));
  ASSERT_OK(Rename("/new", "/new2"));
  Forget();
  EXPECT_EQ(*Get("/new2/x"), "x");
  // Onto a name where a lower directory was: nothing of it shows.
  ASSERT_OK(Unlink("/dir/sub/deep"));
  ASSERT_OK(Rename("/new2", "/dir/sub"));
  Forget();
  EXPECT_THAT(*List("/dir/sub"), ElementsAre("x"));
}

TEST_F(OverlayTest, HardLinksShareTheCopy) {
  ASSERT_OK(Link("/file", "/hard"));
  auto f = *Open("/hard", O_WRONLY | O_APPEND);
  ASSERT_OK(WriteTo(*f, "+"));
  EXPECT_EQ(*Get("/file"), "lower+");
  EXPECT_EQ(Stat("/file")->nlink, 2u);
  EXPECT_EQ(At("/file")->inode(), At("/hard")->inode());
  f = nullptr;
  Forget();
  EXPECT_EQ(At("/file")->inode(), At("/hard")->inode());
  EXPECT_EQ(Stat("/file")->ino, Stat("/hard")->ino);
  ASSERT_OK(Unlink("/file"));
  Forget();
  EXPECT_EQ(*Get("/hard"), "lower+");
  EXPECT_ERRNO(ENOENT, At("/file"));
}

TEST_F(OverlayTest, ANoRoomForTheCopyLeavesTheLowerFile) {
  StartOver();
  host_.Write("big", std::string(100 << 10, 'x'));
  MountOverlay({.size = 64 << 10});
  EXPECT_ERRNO(ENOSPC, Open("/big", O_WRONLY));
  EXPECT_EQ(Stat("/big")->size, 100 << 10);
  EXPECT_OK(Put("/big", "less"));
  EXPECT_EQ(*Get("/big"), "less");
}

TEST_F(OverlayTest, MappingsOfLowerFilesAreDonatedOnes) {
  auto f = *Open("/file", O_RDONLY);
  auto m = *f->GetMappable(5, false);
  EXPECT_FALSE(m->Translate(0, 4096, false)->memory_file);
  EXPECT_EQ(m->MappedIdentity().path, "/file");
  auto w = *Open("/dir/a", O_RDWR);
  auto mw = *w->GetMappable(3, true);
  EXPECT_TRUE(mw->Translate(0, 4096, true)->memory_file);
  EXPECT_EQ(mw->MappedIdentity().path, "/dir/a");
}

TEST_F(OverlayTest, TmpfilesSocketsAndLinks) {
  auto f = *Open("/dir", O_TMPFILE | O_RDWR, 0600);
  ASSERT_OK(WriteTo(*f, "tmp"));
  ASSERT_OK(vfs::Link(ctx_, f->path(), "", {}, "/dir/named", AT_EMPTY_PATH));
  EXPECT_EQ(*Get("/dir/named"), "tmp");
  ASSERT_OK(Symlink("file", "/dir/l"));
  EXPECT_EQ(*vfs::ReadLink(ctx_, {}, "/dir/l"), "file");
  auto special = base::MakeRef<Credentials>();  // any object
  base::UniqueFd host;
  ASSERT_OK(vfs::BindSocket(ctx_, {}, "/dir/sock", 0777, SOCK_STREAM, base::RefPtr<base::RefCounted>(special), host));
  EXPECT_FALSE(host.valid());
  Forget();
  RefPtr<Inode> inode = At("/dir/sock")->inode();
  base::MutexLock l(inode->special_mu);
  EXPECT_EQ(inode->special, base::RefPtr<base::RefCounted>(special));
}

// Random operations against the same ones on a plain tmpfs that was given the lower layer's contents.
TEST_F(OverlayTest, BehavesLikeAPlainFileSystem) {
  ASSERT_OK(Mkdir("/plain"));
  ASSERT_OK(MountTmpfs("/plain"));
  for (const char* d : {"/dir", "/dir/sub"}) ASSERT_OK(Mkdir("/plain" + std::string(d)));
  for (const char* f : {"/file", "/dir/a", "/dir/b", "/dir/sub/deep"})
    ASSERT_OK(Put("/plain" + std::string(f), *Get(f)));
  std::mt19937 rng(7);
  std::vector<std::string> dirs = {"", "/dir", "/dir/sub", "/n1", "/dir/n2"};
  std::vector<std::string> names = {"a", "b", "file", "sub", "deep", "n1", "n2", "x"};
  auto pick = [&] { return dirs[rng() % dirs.size()] + "/" + names[rng() % names.size()]; };
#ifdef BASE_TSAN
  constexpr int kSteps = 300;  // each takes 30 ms there, and no two of them at a time
#else
  constexpr int kSteps = 3000;
#endif
  for (int i = 0; i < kSteps; ++i) {
    std::string p = pick(), q = pick();
    int op = static_cast<int>(rng() % 7);
    std::string text = std::to_string(i);
    auto run = [&](const std::string& prefix) -> std::string {
      switch (op) {
        case 0:
          return ErrorOf(Put(prefix + p, text));
        case 1:
          return ErrorOf(Unlink(prefix + p));
        case 2:
          return ErrorOf(Mkdir(prefix + p));
        case 3:
          return ErrorOf(Rmdir(prefix + p));
        case 4:
          return ErrorOf(Rename(prefix + p, prefix + q));
        case 5:
          return ErrorOf(Link(prefix + p, prefix + q));
        default: {
          auto f = Open(prefix + p, O_WRONLY | O_APPEND);
          return f.ok() ? ErrorOf(WriteTo(**f, text)) : ErrorOf(f);
        }
      }
    };
    if (op == 4) {
      // A directory with a lower part does not move; then it does not move in the model either.
      auto s = At(p, 0);
      if (s.ok() && s->inode()->is_dir()) continue;
    }
    ASSERT_EQ(run(""), run("/plain")) << i << " op " << op << " " << p << " " << q;
    if (rng() % 10 == 0) Forget();
    for (const std::string& d : dirs) {
      auto a = List(d.empty() ? "/" : d), b = List("/plain" + d);
      ASSERT_EQ(a.ok(), b.ok()) << i << d;
      if (!a.ok()) continue;
      if (d.empty()) std::erase_if(*a, [](const std::string& n) { return n == "plain" || n == "link"; });
      ASSERT_EQ(*a, *b) << i << " op " << op << " " << p << " " << q << " in " << d;
      for (const auto& n : *a) {
        auto x = Get(d + "/" + n), y = Get("/plain" + d + "/" + n);
        ASSERT_EQ(x.ok(), y.ok());
        if (x.ok()) {
          ASSERT_EQ(*x, *y);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sentry
