#include <linux/mount.h>
#include <sys/syscall.h>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

bool Root() { return geteuid() == 0; }

TEST_F(GoferTest, CreateMakesANewFileAndDonatesIt) {
  auto file = root_->Create("new", O_RDWR, {.mode = 0640});
  ASSERT_OK(file);
  EXPECT_TRUE(S_ISREG(file->attributes.mode));
  EXPECT_EQ(file->attributes.mode & 07777, 0640u);
  EXPECT_EQ(pwrite(file->file.get(), "hello", 5, 0), 5);
  EXPECT_EQ(dir_.Read("new"), "hello");
  auto attributes = file->node->GetAttr();
  ASSERT_OK(attributes);
  EXPECT_EQ(attributes->size, 5u);
  EXPECT_ERRNO(EEXIST, root_->Create("new", O_RDWR, {.mode = 0640}));
  ASSERT_EQ(symlink("nowhere", (dir_ / "dangling").c_str()), 0);
  EXPECT_ERRNO(EEXIST, root_->Create("dangling", O_RDWR, {.mode = 0640}));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "nowhere"));
}

TEST_F(GoferTest, CreationSetsOwnerAndEveryModeBit) {
  if (!Root()) GTEST_SKIP() << "needs to give files away";
  auto file = root_->Create("file", O_WRONLY, {.mode = 06755, .uid = 1234, .gid = 4321});
  ASSERT_OK(file);
  EXPECT_EQ(file->attributes.uid, 1234u);
  EXPECT_EQ(file->attributes.gid, 4321u);
  EXPECT_EQ(file->attributes.mode & 07777, 06755u);
  auto directory = root_->Mkdir("dir", {.mode = 03777, .uid = 1234, .gid = 4321});
  ASSERT_OK(directory);
  EXPECT_EQ(directory->attributes.mode, S_IFDIR | 03777u);
  EXPECT_EQ(directory->attributes.uid, 1234u);
  auto link = root_->Symlink("link", "target/of the link", 1234, 4321);
  ASSERT_OK(link);
  EXPECT_EQ(link->attributes.uid, 1234u);
  EXPECT_EQ(std::filesystem::read_symlink(dir_ / "link"), "target/of the link");
  auto fifo = root_->Mknod("fifo", S_IFIFO, 0, {.mode = 0600, .uid = 1, .gid = 2});
  ASSERT_OK(fifo);
  EXPECT_EQ(fifo->attributes.mode, S_IFIFO | 0600u);
  EXPECT_EQ(fifo->attributes.gid, 2u);
}

TEST_F(GoferTest, MknodMakesOnlyWhatIsHarmless) {
  EXPECT_OK(root_->Mknod("file", S_IFREG, 0, {.mode = 0600}));
  EXPECT_OK(root_->Mknod("fifo", S_IFIFO, 0, {.mode = 0600}));
  EXPECT_OK(root_->Mknod("socket", S_IFSOCK, 0, {.mode = 0600}));
  auto whiteout = root_->Mknod("whiteout", S_IFCHR, 0, {.mode = 0});
  ASSERT_OK(whiteout);
  EXPECT_TRUE(S_ISCHR(whiteout->attributes.mode));
  EXPECT_EQ(whiteout->attributes.rdev, 0u);
  EXPECT_ERRNO(EPERM, root_->Mknod("null", S_IFCHR, 0x103, {.mode = 0666}));
  EXPECT_ERRNO(EPERM, root_->Mknod("disk", S_IFBLK, 0, {.mode = 0666}));
  EXPECT_ERRNO(EPERM, root_->Mknod("dir", S_IFDIR, 0, {.mode = 0777}));
  EXPECT_ERRNO(EINVAL, root_->Mknod("odd", 0, 0, {.mode = 0777}));
}

TEST_F(GoferTest, LinksRenamesAndRemovals) {
  dir_.MakeDirectory("a");
  dir_.MakeDirectory("b/full");
  dir_.Write("a/one", "1");
  dir_.Write("a/two", "22");
  auto a = Get({"a"}), b = Get({"b"}), one = Get({"a", "one"});
  auto linked = b->Link(*one, "uno");
  ASSERT_OK(linked);
  EXPECT_EQ(linked->nlink, 2u);
  EXPECT_EQ(dir_.Read("b/uno"), "1");
  EXPECT_ERRNO(EEXIST, b->Link(*one, "uno"));
  EXPECT_ERRNO(EPERM, b->Link(*a, "dirlink"));
  // A symbolic link itself is linked, not what it points to.
  ASSERT_EQ(symlink("/etc/passwd", (dir_ / "a/link").c_str()), 0);
  auto link = b->Link(*Get({"a", "link"}), "link2");
  ASSERT_OK(link);
  EXPECT_TRUE(S_ISLNK(link->mode));
  EXPECT_EQ(std::filesystem::read_symlink(dir_ / "b/link2"), "/etc/passwd");

  EXPECT_ERRNO(EEXIST, a->Rename("one", *a, "two", kRenameNoReplace));
  EXPECT_OK(a->Rename("one", *a, "two", kRenameExchange));
  EXPECT_EQ(dir_.Read("a/one"), "22");
  EXPECT_OK(a->Rename("one", *b, "three"));
  EXPECT_EQ(dir_.Read("b/three"), "22");
  EXPECT_OK(b->Rename("three", *b, "uno"));
  EXPECT_EQ(dir_.Read("b/uno"), "22");
  EXPECT_ERRNO(ENOENT, a->Rename("one", *b, "three"));
  EXPECT_ERRNO(EINVAL, root_->Rename("b", *b, "inside"));

  EXPECT_OK(b->Unlink("uno"));
  EXPECT_ERRNO(ENOENT, b->Unlink("uno"));
  EXPECT_ERRNO(EISDIR, b->Unlink("full"));
  EXPECT_ERRNO(ENOTDIR, a->Rmdir("two"));
  EXPECT_ERRNO(ENOTEMPTY, root_->Rmdir("a"));
  EXPECT_OK(b->Rmdir("full"));
}

TEST_F(GoferTest, NothingCrossesMounts) {
  dir_.Write("file", "x");
  auto elsewhere = client_->Attach(2);
  ASSERT_OK(elsewhere);
  EXPECT_ERRNO(EXDEV, elsewhere->root->Link(*Get({"file"}), "link"));
  EXPECT_ERRNO(EXDEV, root_->Rename("file", *elsewhere->root, "file"));
}

TEST_F(GoferTest, AReadOnlyMountRefusesEveryChange) {
  dir_.Write("file", "content");
  dir_.MakeDirectory("dir");
  auto attached = client_->Attach(1);
  ASSERT_OK(attached);
  Node& root = *attached->root;
  std::vector<std::string_view> names = {"file"};
  auto walked = root.Walk(names, {.open = true, .open_flags = O_RDWR});
  ASSERT_OK(walked);
  EXPECT_FALSE(walked->file.valid());
  EXPECT_EQ(walked->open_errno, EROFS);
  Node& file = *walked->components[0].node;
  EXPECT_OK(file.Open(O_RDONLY));
  EXPECT_ERRNO(EROFS, file.Open(O_WRONLY));
  EXPECT_ERRNO(EROFS, file.Open(O_RDONLY | O_TRUNC));
  EXPECT_ERRNO(EROFS, file.SetAttr({.which = kSetSize}));
  EXPECT_ERRNO(EROFS, file.SetAttr({.which = kSetMtimeNow}));
  EXPECT_ERRNO(EROFS, file.SetXattr("user.x", "y", 0));
  EXPECT_ERRNO(EROFS, file.RemoveXattr("user.x"));
  EXPECT_ERRNO(EROFS, root.Create("new", O_RDWR, {.mode = 0600}));
  EXPECT_ERRNO(EROFS, root.Mkdir("new", {.mode = 0700}));
  EXPECT_ERRNO(EROFS, root.Symlink("new", "x"));
  EXPECT_ERRNO(EROFS, root.Mknod("new", S_IFIFO, 0, {.mode = 0600}));
  EXPECT_ERRNO(EROFS, root.Link(file, "new"));
  EXPECT_ERRNO(EROFS, root.Unlink("file"));
  EXPECT_ERRNO(EROFS, root.Rmdir("dir"));
  EXPECT_ERRNO(EROFS, root.Rename("file", root, "new"));
  EXPECT_OK(file.Fsync());
  EXPECT_EQ(dir_.Read("file"), "content");
}

// What runsc gives the gofer: copies of mount trees that are attached nowhere.
TEST(DetachedMount, ServesLikeAnyOther) {
  TempDirectory dir;
  dir.MakeDirectory("sub");
  std::vector<ServerMount> mounts(1);
  mounts[0].root.reset(
      static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, dir.path().c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!mounts[0].root.valid()) GTEST_SKIP() << "may not copy mounts";
  RunningServer server(std::move(mounts));
  auto client = Client::Create(std::move(server.client_end));
  {
    auto attached = client->Attach(0);
    ASSERT_OK(attached);
    Node& root = *attached->root;
    auto file = root.Create("file", O_RDWR, {.mode = 0600});
    ASSERT_OK(file);
    EXPECT_EQ(pwrite(file->file.get(), "x", 1, 0), 1);
    EXPECT_OK(file->node->Open(O_RDONLY));
    EXPECT_OK(file->node->SetAttr({.which = kSetMode | kSetSize, .mode = 0644, .size = 10}));
    EXPECT_OK(root.Link(*file->node, "link"));
    EXPECT_OK(root.Rename("link", root, "renamed"));
    EXPECT_OK(root.Readdir(0));
    EXPECT_OK(root.Unlink("renamed"));
    EXPECT_OK(root.Rmdir("sub"));
  }
  client.reset();
  EXPECT_EQ(std::filesystem::file_size(dir / "file"), 10u);
}

}  // namespace
}  // namespace gofer
