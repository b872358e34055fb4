// Many fibers on several executors at once: nothing deadlocks, nothing is lost, and every count returns to where it
// began.
#include <atomic>
#include <random>

#include "base/executor.h"
#include "base/fiber.h"
#include "sentry/fs/overlay/overlay.h"
#include "tests/unit/vfs/fixture.h"
#include "tests/unit/vfs/gofer_fixture.h"

namespace sentry {
namespace {

class StressTest : public FileTest, public GoferTree {
 protected:
  void TearDown() override {
    FileTest::TearDown();
    Stop();
  }

  // `steps` random operations on each of eight fibers, on the same few names.
  void Hammer(int steps, int executors = 3) {
    for (const char* d : {"/d0", "/d1", "/d0/s"}) (void)Mkdir(d);
    base::RunInFiber(
        [&] {
          std::vector<RefPtr<base::Fiber>> fibers;
          for (unsigned seed = 0; seed < 8; ++seed) {
            fibers.push_back(base::Fiber::Spawn(base::Fiber::Current()->executor().scheduler(), {},
                                                [this, seed, steps] { Work(seed, steps); }));
          }
          for (auto& f : fibers) f->Join();
        },
        executors);
    EXPECT_GT(succeeded_.load(), 0);
  }

  void Work(unsigned seed, int steps) {
    std::mt19937 rng(seed);
    VfsContext ctx = ctx_;
    static constexpr const char* kDirs[] = {"/", "/d0/", "/d1/", "/d0/s/"};
    static constexpr const char* kNames[] = {"a", "b", "c", "s", "d1"};
    auto pick = [&] { return std::string(kDirs[rng() % 4]) + kNames[rng() % 5]; };
    std::vector<RefPtr<FileDescription>> open;
    for (int i = 0; i < steps; ++i) {
      std::string p = pick(), q = pick();
      bool ok = false;
      switch (rng() % 12) {
        case 0:
        case 1: {
          auto f = OpenAs(ctx, p, O_RDWR | O_CREAT);
          ok = f.ok();
          if (ok && open.size() < 10) open.push_back(*f);
          break;
        }
        case 2:
          ok = vfs::Unlink(ctx, {}, p).ok();
          break;
        case 3:
          ok = vfs::Mkdir(ctx, {}, p, 0755).ok();
          break;
        case 4:
          ok = vfs::Rmdir(ctx, {}, p).ok();
          break;
        case 5:
          ok = vfs::Rename(ctx, {}, p, {}, q, rng() % 4 == 0 ? RENAME_EXCHANGE : 0).ok();
          break;
        case 6:
          ok = vfs::Link(ctx, {}, p, {}, q, 0).ok();
          break;
        case 7:
          ok = vfs::Symlink(ctx, q, {}, p).ok();
          break;
        case 8:
          if (!open.empty()) {
            auto& f = *open[rng() % open.size()];
            ok = WriteTo(f, std::string(rng() % 20000, 'x'), static_cast<int64_t>(rng() % 100000)).ok();
          }
          break;
        case 9:
          if (!open.empty()) {
            auto& f = *open[rng() % open.size()];
            ok = rng() % 3 == 0 ? f.Truncate(static_cast<int64_t>(rng() % 50000)).ok() : ReadFrom(f, 10000, 0).ok();
          }
          break;
        case 10: {
          auto r = WalkPath(ctx, {}, p, static_cast<uint32_t>(WalkFlag::kFollow));
          ok = r.ok() && r->path.inode()->GetAttr().ok();
          if (ok) (void)PathName(ctx, r->path);
          break;
        }
        default:
          if (rng() % 8 == 0) DentryCache::Get().ShrinkTo(rng() % 4);
          if (!open.empty()) open.erase(open.begin() + static_cast<long>(rng() % open.size()));
          break;
      }
      if (ok) succeeded_.fetch_add(1);
    }
  }
  std::atomic<int> succeeded_{0};
};

TEST_F(StressTest, Tmpfs) {
  FsStat before = *At("/")->dentry->superblock().StatFs();
  Hammer(5000);
  // Everything can be removed, and what was charged comes back.
  std::function<void(const std::string&)> remove = [&](const std::string& dir) {
    std::vector<std::string> names = *List(dir.empty() ? "/" : dir);
    for (const std::string& name : names) {
      std::string path = dir + "/" + name;
      if (Lstat(path)->type() == FileType::kDirectory) {
        remove(path);
        ASSERT_OK(Rmdir(path));
      } else {
        ASSERT_OK(Unlink(path));
      }
    }
  };
  remove("");
  EXPECT_EQ(At("/")->dentry->superblock().StatFs()->ffree, before.ffree);
  EXPECT_EQ(Stat("/")->nlink, 2u);
}

TEST_F(StressTest, GoferExclusive) {
  MountRoot(Tree(goferfs::Access::kExclusive));
  Hammer(400);
}

TEST_F(StressTest, GoferShared) {
  MountRoot(Tree(goferfs::Access::kShared));
  Hammer(400);
}

TEST_F(StressTest, Overlay) {
  host_.MakeDirectory("d0/s");
  host_.MakeDirectory("d1");
  for (const char* f : {"a", "d0/a", "d0/b", "d0/s/a", "d1/c"}) host_.Write(f, std::string(30000, 'l'));
  MountRoot(*overlay::Create({*tmpfs::Create(*memory_, {}), Tree(goferfs::Access::kExclusive)}));
  Hammer(3000);
}

}  // namespace
}  // namespace sentry
