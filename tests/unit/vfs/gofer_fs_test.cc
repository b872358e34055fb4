#include "sentry/fs/gofer/gofer_fs.h"

#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "gofer/client/client.h"
#include "gofer/protocol/channel.h"
#include "gofer/server/server.h"
#include "tests/unit/vfs/fixture.h"
#include "tests/unit/vfs/gofer_fixture.h"

namespace sentry {
namespace {

using goferfs::Access;
using ::testing::ElementsAre;

class GoferFsTest : public FileTest, public GoferTree, public ::testing::WithParamInterface<Access> {
 protected:
  void SetUp() override {
    FileTest::SetUp();
    MountRoot(Tree(GetParam()));
  }
  void TearDown() override {
    FileTest::TearDown();
    Stop();
  }
};

TEST_P(GoferFsTest, ReadsTheHostsFiles) {
  host_.MakeDirectory("a/b");
  host_.Write("a/b/file", "from the host");
  EXPECT_EQ(*Get("/a/b/file"), "from the host");
  EXPECT_EQ(Stat("/a/b/file")->size, 13);
  EXPECT_EQ(Stat("/a/b/file")->ino, host_.Stat("a/b/file").st_ino);
  EXPECT_ERRNO(ENOENT, At("/a/none"));
  EXPECT_ERRNO(ENOTDIR, At("/a/b/file/x"));
  EXPECT_THAT(*List("/a"), ElementsAre("b"));
  std::filesystem::create_symlink("b/file", host_ / "a/link");
  EXPECT_EQ(*Get("/a/link"), "from the host");
  EXPECT_EQ(*vfs::ReadLink(ctx_, {}, "/a/link"), "b/file");
}

TEST_P(GoferFsTest, WritesShowOnTheHost) {
  ctx_.umask = 022;
  ASSERT_OK(Put("/new", "hello", 0666));
  EXPECT_EQ(host_.Read("new"), "hello");
  EXPECT_EQ(host_.Stat("new").st_mode, S_IFREG | 0644u);
  auto f = *Open("/new", O_RDWR | O_APPEND);
  ASSERT_OK(WriteTo(*f, " world"));
  EXPECT_EQ(host_.Read("new"), "hello world");
  EXPECT_EQ(f->GetAttr()->size, 11);
  EXPECT_EQ(Stat("/new")->size, 11);
  ASSERT_OK(f->Truncate(5));
  EXPECT_EQ(Stat("/new")->size, 5);
  EXPECT_EQ(f->GetAttr()->mtime, host_.MtimeNs("new"));
  ASSERT_OK(vfs::Truncate(ctx_, *At("/new"), 2));
  EXPECT_EQ(host_.Read("new"), "he");
  ASSERT_OK(f->Allocate(0, 0, 100));
  EXPECT_EQ(Stat("/new")->size, 100);
  EXPECT_OK(f->Fsync(false));
}

TEST_P(GoferFsTest, ChangesTheTree) {
  ASSERT_OK(Mkdir("/d", 0750));
  EXPECT_EQ(host_.Stat("d").st_mode, S_IFDIR | 0750u);
  EXPECT_ERRNO(EEXIST, Mkdir("/d"));
  ASSERT_OK(Put("/d/f", "1"));
  ASSERT_OK(Symlink("f", "/d/l"));
  ASSERT_OK(Link("/d/f", "/d/g"));
  EXPECT_EQ(Stat("/d/g")->nlink, 2u);
  EXPECT_EQ(Stat("/d/f")->nlink, 2u);
  EXPECT_EQ(At("/d/f")->inode(), At("/d/g")->inode());
  ASSERT_OK(vfs::Mknod(ctx_, {}, "/d/fifo", S_IFIFO | 0600, 0));
  EXPECT_TRUE(S_ISFIFO(host_.Stat("d/fifo").st_mode));
  EXPECT_THAT(*List("/d"), ElementsAre("f", "fifo", "g", "l"));
  EXPECT_ERRNO(ENOTEMPTY, Rmdir("/d"));
  ASSERT_OK(Unlink("/d/f"));
  EXPECT_EQ(Stat("/d/g")->nlink, 1u);
  ASSERT_OK(Rename("/d/g", "/moved"));
  EXPECT_EQ(host_.Read("moved"), "1");
  EXPECT_ERRNO(ENOENT, At("/d/g"));
  ASSERT_OK(Unlink("/d/l"));
  ASSERT_OK(Unlink("/d/fifo"));
  ASSERT_OK(Rmdir("/d"));
  EXPECT_THAT(*List("/"), ElementsAre("moved"));
  EXPECT_EQ(Stat("/")->nlink, host_.Stat(".").st_nlink);
}

TEST_P(GoferFsTest, RenamesDirectoriesAndReplaces) {
  ASSERT_OK(Mkdir("/a"));
  ASSERT_OK(Put("/a/x", "x"));
  ASSERT_OK(Mkdir("/b"));
  ASSERT_OK(Rename("/a", "/b"));
  EXPECT_EQ(*Get("/b/x"), "x");
  ASSERT_OK(Put("/y", "y"));
  ASSERT_OK(Rename("/y", "/b/x"));
  EXPECT_EQ(*Get("/b/x"), "y");
  ASSERT_OK(Put("/z", "z"));
  ASSERT_OK(Rename("/z", "/b/x", RENAME_EXCHANGE));
  EXPECT_EQ(*Get("/b/x"), "z");
  EXPECT_EQ(*Get("/z"), "y");
  EXPECT_ERRNO(EEXIST, Rename("/z", "/b/x", RENAME_NOREPLACE));
  EXPECT_ERRNO(EINVAL, Rename("/b", "/b/c"));
}

TEST_P(GoferFsTest, OpenFilesOutliveTheirNames) {
  ASSERT_OK(Put("/f", "text"));
  auto f = *Open("/f", O_RDWR);
  ASSERT_OK(Unlink("/f"));
  EXPECT_EQ(f->GetAttr()->nlink, 0u);
  ASSERT_OK(WriteTo(*f, "more", 4));
  EXPECT_EQ(*ReadFrom(*f, 10, 0), "textmore");
  ASSERT_OK(Put("/f", "other"));
  EXPECT_EQ(*ReadFrom(*f, 10, 0), "textmore");
  EXPECT_EQ(*Get("/f"), "other");
}

TEST_P(GoferFsTest, ChmodUtimesXattrs) {
  using K = vfs::TimeChange::Kind;
  ASSERT_OK(Put("/f", "text"));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 04711));
  EXPECT_EQ(host_.Stat("f").st_mode & 07777, 04711u);
  ASSERT_OK(vfs::Utimes(ctx_, *At("/f"), {K::kSet, 1'000'000'001}, {K::kSet, 2'000'000'002}));
  EXPECT_EQ(Stat("/f")->atime, 1'000'000'001);
  EXPECT_EQ(host_.MtimeNs("f"), 2'000'000'002);
  Result<void> set = vfs::SetXattr(ctx_, *At("/f"), "user.a", "value", 0);
  if (!set.failed_with(EOPNOTSUPP)) {
    ASSERT_OK(set);
    EXPECT_EQ(*vfs::GetXattr(ctx_, *At("/f"), "user.a"), "value");
    EXPECT_ERRNO(ENODATA, vfs::GetXattr(ctx_, *At("/f"), "user.b"));
    EXPECT_THAT(*vfs::ListXattr(ctx_, *At("/f")), ElementsAre("user.a"));
    ASSERT_OK(vfs::RemoveXattr(ctx_, *At("/f"), "user.a"));
    EXPECT_ERRNO(ENODATA, vfs::GetXattr(ctx_, *At("/f"), "user.a"));
  }
}

TEST_P(GoferFsTest, ListsLargeDirectoriesInParts) {
  host_.MakeDirectory("big");
  for (int i = 0; i < 3000; ++i) host_.Write("big/a rather long name for a file number " + std::to_string(i), "");
  EXPECT_EQ(List("/big", 1000000)->size(), 3000u);
  EXPECT_EQ(List("/big", 7)->size(), 3000u);
  // Removing everything while reading, as rm -r does.
  auto dir = *Open("/big", O_RDONLY | O_DIRECTORY);
  size_t removed = 0;
  for (int64_t position = 0;;) {
    std::vector<std::string> batch;
    int64_t next = *dir->ReadDir(position, [&](const Dirent& d) {
      if (batch.size() == 100) return false;
      batch.emplace_back(d.name);
      return true;
    });
    if (batch.empty()) break;
    position = next;
    for (const auto& name : batch) {
      if (name == "." || name == "..") continue;
      ASSERT_OK(Unlink("/big/" + name));
      ++removed;
    }
  }
  EXPECT_EQ(removed, 3000u);
}

TEST_P(GoferFsTest, MapsTheDonatedDescriptor) {
  host_.Write("lib", std::string(10000, 'l'));
  auto f = *Open("/lib", O_RDONLY);
  auto m = *f->GetMappable(1, false);
  auto pages = m->Translate(4096, 100 * 4096, false);
  ASSERT_OK(pages);
  EXPECT_FALSE(pages->memory_file);
  EXPECT_EQ(pages->offset, 4096u);
  EXPECT_EQ(pages->length, 2u * 4096);
  char byte;
  EXPECT_EQ(pread(pages->fd, &byte, 1, 4096), 1);
  EXPECT_ERRNO(EINVAL, m->Translate(3 * 4096, 4096, false));
  EXPECT_ERRNO(EACCES, m->Translate(0, 4096, true));
  EXPECT_EQ(m->MappedIdentity().path, "/lib");
  auto rw = *Open("/lib", O_RDWR);
  auto m2 = *rw->GetMappable(3, true);
  EXPECT_EQ(m, m2);
  EXPECT_OK(m->Translate(0, 4096, true));
  ASSERT_OK(vfs::Truncate(ctx_, *At("/lib"), 100));
  EXPECT_ERRNO(EINVAL, m->Translate(4096, 4096, false));
}

TEST_P(GoferFsTest, IdleDescriptorsAreLimited) {
  goferfs::SetIdleDescriptorLimit(10);
  for (int i = 0; i < 50; ++i) ASSERT_OK(Put("/f" + std::to_string(i), std::to_string(i)));
  EXPECT_LE(goferfs::IdleDescriptors(), 10u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(*Get("/f" + std::to_string(i)), std::to_string(i));
  goferfs::SetIdleDescriptorLimit(1000);
}

TEST_P(GoferFsTest, EverythingFailsWhenTheGoferIsGone) {
  ASSERT_OK(Put("/f", "text"));
  auto f = *Open("/f", O_RDWR);
  client_->Disconnect();
  EXPECT_EQ(*ReadFrom(*f, 4, 0), "text");  // descriptors stay
  EXPECT_ERRNO(EIO, At("/unknown"));
  EXPECT_ERRNO(EIO, Mkdir("/d"));
}

INSTANTIATE_TEST_SUITE_P(Access, GoferFsTest, ::testing::Values(Access::kExclusive, Access::kShared),
                         [](const auto& info) { return info.param == Access::kExclusive ? "Exclusive" : "Shared"; });

class SharedGoferTest : public GoferFsTest {};

TEST_P(SharedGoferTest, SeesWhatTheHostChanges) {
  host_.MakeDirectory("d");
  EXPECT_ERRNO(ENOENT, At("/d/f"));
  host_.Write("d/f", "1");
  EXPECT_EQ(*Get("/d/f"), "1");
  auto f = *Open("/d/f", O_RDONLY);
  host_.Write("d/f", "longer");
  EXPECT_EQ(f->GetAttr()->size, 6);
  EXPECT_EQ(Stat("/d/f")->size, 6);
  VfsPath kept = *At("/d/f");
  EXPECT_EQ(kept, *At("/d/f"));  // the same dentry while nothing changed
  std::filesystem::rename(host_ / "d/f", host_ / "d/g");
  EXPECT_ERRNO(ENOENT, At("/d/f"));
  EXPECT_EQ(*Get("/d/g"), "longer");
  host_.Write("d/f", "new");
  EXPECT_EQ(*Get("/d/f"), "new");
  std::filesystem::remove_all(host_ / "d");
  EXPECT_ERRNO(ENOENT, At("/d/g"));
  host_.Write("d", "now a file");
  EXPECT_EQ(*Get("/d"), "now a file");
}

TEST_P(SharedGoferTest, CreationRacesWithTheHost) {
  EXPECT_ERRNO(ENOENT, At("/f"));
  host_.Write("f", "host");
  auto f = Open("/f", O_RDWR | O_CREAT);
  ASSERT_OK(f);
  EXPECT_EQ(*ReadFrom(**f, 10), "host");
  EXPECT_ERRNO(EEXIST, Open("/f", O_RDWR | O_CREAT | O_EXCL));
}
INSTANTIATE_TEST_SUITE_P(Access, SharedGoferTest, ::testing::Values(Access::kShared));

class ExclusiveGoferTest : public GoferFsTest {};

TEST_P(ExclusiveGoferTest, AsksNobodyAboutWhatIsCached) {
  host_.MakeDirectory("d");
  host_.Write("d/f", "text");
  EXPECT_EQ(*Get("/d/f"), "text");
  EXPECT_ERRNO(ENOENT, At("/d/none"));
  client_->Disconnect();  // from now on every message fails
  EXPECT_EQ(*Get("/d/f"), "text");
  EXPECT_EQ(Stat("/d/f")->size, 4);
  EXPECT_ERRNO(ENOENT, At("/d/none"));
  auto f = *Open("/d/f", O_RDONLY);
  EXPECT_EQ(*ReadFrom(*f, 10), "text");
}

TEST_P(ExclusiveGoferTest, ListingsComeWithLookupsBelowAListedDirectory) {
  host_.MakeDirectory("d/sub");
  host_.Write("d/sub/f", "text");
  EXPECT_THAT(*List("/d"), ElementsAre("sub"));
  EXPECT_TRUE(Stat("/d/sub").ok());
  client_->Disconnect();  // from now on every message fails
  EXPECT_THAT(*List("/d"), ElementsAre("sub"));
  EXPECT_THAT(*List("/d/sub"), ElementsAre("f"));
}

TEST_P(ExclusiveGoferTest, ListingsShowEveryChangeOfNames) {
  host_.MakeDirectory("d");
  host_.MakeDirectory("e");
  host_.Write("d/a", "");
  EXPECT_THAT(*List("/d"), ElementsAre("a"));
  ASSERT_OK(Put("/d/b", ""));
  EXPECT_THAT(*List("/d"), ElementsAre("a", "b"));
  ASSERT_OK(Mkdir("/d/c"));
  EXPECT_THAT(*List("/d"), ElementsAre("a", "b", "c"));
  ASSERT_OK(vfs::Unlink(ctx_, {}, "/d/a"));
  EXPECT_THAT(*List("/d"), ElementsAre("b", "c"));
  ASSERT_OK(vfs::Rmdir(ctx_, {}, "/d/c"));
  EXPECT_THAT(*List("/d"), ElementsAre("b"));
  EXPECT_TRUE(List("/e")->empty());
  ASSERT_OK(vfs::Rename(ctx_, {}, "/d/b", {}, "/e/b", 0));
  EXPECT_TRUE(List("/d")->empty());
  EXPECT_THAT(*List("/e"), ElementsAre("b"));
  ASSERT_OK(vfs::Symlink(ctx_, "b", {}, "/e/l"));
  ASSERT_OK(vfs::Link(ctx_, {}, "/e/b", {}, "/e/h", 0));
  EXPECT_THAT(*List("/e"), ElementsAre("b", "h", "l"));
}

TEST_P(ExclusiveGoferTest, ManyListingsAreNotKept) {
  // More than fits; what is dropped is asked for again, and what is large comes in parts.
  host_.Write("f", "");
  for (int d = 0; d < 20; ++d) {
    std::string dir = "d" + std::to_string(d);
    host_.MakeDirectory(dir);
    for (int i = 0; i < 300; ++i) {
      std::filesystem::create_hard_link(host_ / "f", host_ / (dir + "/a-name-that-needs-memory-" + std::to_string(i)));
    }
  }
  for (int round = 0; round < 2; ++round) {
    for (int d = 0; d < 20; ++d) EXPECT_EQ(List("/d" + std::to_string(d))->size(), 300u);
  }
}

TEST_P(ExclusiveGoferTest, ACreationInAStaleNegativeNameFindsTheFile) {
  EXPECT_ERRNO(ENOENT, At("/f"));
  host_.Write("f", "host");
  auto f = Open("/f", O_RDWR | O_CREAT);
  ASSERT_OK(f);
  EXPECT_EQ(*ReadFrom(**f, 10), "host");
}
INSTANTIATE_TEST_SUITE_P(Access, ExclusiveGoferTest, ::testing::Values(Access::kExclusive));

}  // namespace
}  // namespace sentry
