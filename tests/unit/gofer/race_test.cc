// Walks against somebody on the host who renames things meanwhile.
#include <linux/fs.h>
#include <sys/syscall.h>

#include <atomic>
#include <set>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

int Exchange(const std::string& a, const std::string& b) {
  return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
}

// tree/dir/sub/file is inside; outside/sub/file is not. A thread swaps tree/dir, and tree/dir/sub, with links to the
// outside. Whatever a walk returns has to be an inode of the tree.
TEST(Race, AWalkNeverEndsOutsideOfTheTree) {
  TempDirectory dir;
  dir.MakeDirectory("tree/dir/sub");
  dir.Write("tree/dir/sub/file", "inside");
  dir.MakeDirectory("outside/sub");
  dir.Write("outside/sub/file", "outside!");
  dir.Write("outside/file", "outside!");
  ASSERT_EQ(symlink("../outside", (dir / "tree/link").c_str()), 0);
  ASSERT_EQ(symlink("../../outside/sub", (dir / "tree/dir/sublink").c_str()), 0);
  ASSERT_EQ(symlink("../../../outside/sub/file", (dir / "tree/dir/sub/filelink").c_str()), 0);
  std::set<uint64_t> outside;
  for (const char* name : {"outside", "outside/sub", "outside/sub/file", "outside/file"}) {
    struct stat st;
    ASSERT_EQ(stat((dir / name).c_str(), &st), 0);
    outside.insert(st.st_ino);
  }

  std::vector<ServerMount> mounts(1);
  mounts[0].root.reset(open((dir / "tree").c_str(), O_PATH | O_CLOEXEC));
  RunningServer server(std::move(mounts));
  auto client = Client::Create(std::move(server.client_end));
  auto attached = client->Attach(0);
  ASSERT_OK(attached);

  std::atomic<bool> stop{false};
  std::thread racer([&] {
    while (!stop.load()) {
      Exchange(dir / "tree/dir", dir / "tree/link");
      Exchange(dir / "tree/dir", dir / "tree/link");
      Exchange(dir / "tree/dir/sub", dir / "tree/dir/sublink");
      Exchange(dir / "tree/dir/sub", dir / "tree/dir/sublink");
      Exchange(dir / "tree/dir/sub/file", dir / "tree/dir/sub/filelink");
      Exchange(dir / "tree/dir/sub/file", dir / "tree/dir/sub/filelink");
    }
  });
  std::vector<std::string_view> names = {"dir", "sub", "file"};
  int complete = 0, links = 0;
  for (int i = 0; i < 10'000; ++i) {
    auto walked = attached->root->Walk(names, {.open = true, .open_flags = O_RDWR});
    ASSERT_OK(walked);
    for (const auto& component : walked->components) ASSERT_EQ(outside.count(component.attributes.ino), 0u);
    if (!walked->symlink_target.empty()) ++links;
    if (walked->file.valid()) {
      ++complete;
      struct stat st;
      ASSERT_EQ(fstat(walked->file.get(), &st), 0);
      ASSERT_EQ(outside.count(st.st_ino), 0u);
    }
    if (walked->components.size() == 3) {
      // By node: the same inode whatever its name points to now.
      auto changed = walked->components[2].node->SetAttr({.which = kSetMtimeNow});
      ASSERT_OK(changed);
      ASSERT_EQ(outside.count(changed->ino), 0u);
    }
    if (i % 16 == 0 && walked->components.size() >= 2 && S_ISDIR(walked->components[1].attributes.mode)) {
      Node& sub = *walked->components[1].node;
      if (auto made = sub.Create("new", O_RDWR, {.mode = 0600}); made.ok()) {
        ASSERT_OK(sub.Unlink("new"));
      }
      if (auto made = sub.Mkdir("newdir", {.mode = 0700}); made.ok()) {
        ASSERT_OK(sub.Rmdir("newdir"));
      }
    }
  }
  stop = true;
  racer.join();
  EXPECT_GT(complete, 0);
  EXPECT_GT(links, 0);
  EXPECT_EQ(dir.Read("outside/sub/file"), "outside!");
  size_t entries = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir / "outside")) {
    (void)entry;
    ++entries;
  }
  EXPECT_EQ(entries, 3u);
  attached = base::Errno(EIO);
  client.reset();
}

// Somebody on the host replaces what was just made.
TEST(Race, NewDirectoriesAreNotMistakenForLinks) {
  TempDirectory dir;
  dir.MakeDirectory("tree");
  dir.MakeDirectory("outside");
  chmod((dir / "outside").c_str(), 0711);
  std::vector<ServerMount> mounts(1);
  mounts[0].root.reset(open((dir / "tree").c_str(), O_PATH | O_CLOEXEC));
  RunningServer server(std::move(mounts));
  auto client = Client::Create(std::move(server.client_end));
  auto attached = client->Attach(0);
  ASSERT_OK(attached);
  std::atomic<bool> stop{false};
  std::thread racer([&] {
    while (!stop.load()) {
      if (rename((dir / "tree/new").c_str(), (dir / "tree/away").c_str()) == 0) {
        (void)!symlink("../outside", (dir / "tree/new").c_str());
        rmdir((dir / "tree/away").c_str());
      }
      unlink((dir / "tree/new").c_str());
    }
  });
  for (int i = 0; i < 5'000; ++i) {
    auto made = attached->root->Mkdir("new", {.mode = 0750, .uid = kNoId, .gid = kNoId});
    if (made.ok()) {
      ASSERT_TRUE(S_ISDIR(made->attributes.mode));
      (void)attached->root->Rmdir("new");
    }
  }
  stop = true;
  racer.join();
  struct stat st;
  ASSERT_EQ(stat((dir / "outside").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0711u);
  attached = base::Errno(EIO);
  client.reset();
}

}  // namespace
}  // namespace gofer
