#include <linux/fs.h>
#include <sys/socket.h>

#include "tests/unit/vfs/fixture.h"

namespace sentry {
namespace {

using VfsTest = FileTest;
using ::testing::ElementsAre;

TEST_F(VfsTest, OpenChecksWhatItOpens) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Put("/f", "text"));
  ASSERT_OK(Symlink("f", "/l"));
  EXPECT_ERRNO(EISDIR, Open("/d", O_WRONLY));
  EXPECT_ERRNO(EISDIR, Open("/d", O_RDONLY | O_CREAT));
  EXPECT_ERRNO(EISDIR, Open("/new/", O_WRONLY | O_CREAT));
  EXPECT_ERRNO(ENOTDIR, Open("/f", O_RDONLY | O_DIRECTORY));
  EXPECT_ERRNO(ELOOP, Open("/l", O_RDONLY | O_NOFOLLOW));
  EXPECT_OK(Open("/l", O_PATH | O_NOFOLLOW));
  EXPECT_ERRNO(EEXIST, Open("/f", O_CREAT | O_EXCL | O_WRONLY));
  EXPECT_ERRNO(EEXIST, Open("/l", O_CREAT | O_EXCL | O_WRONLY));
  EXPECT_ERRNO(ENOENT, Open("/none", O_RDONLY));
  EXPECT_ERRNO(EINVAL, Open("/d", O_RDONLY | O_CREAT | O_DIRECTORY));
  EXPECT_ERRNO(EINVAL, Open("/d", O_TMPFILE | O_RDONLY));
}

TEST_F(VfsTest, CreateThroughADanglingLinkMakesTheTarget) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Symlink("d/target", "/l"));
  ASSERT_OK(Put("/l", "made"));
  EXPECT_EQ(*Get("/d/target"), "made");
  ASSERT_OK(Symlink("loop", "/loop"));
  EXPECT_ERRNO(ELOOP, Open("/loop", O_CREAT | O_WRONLY));
}

TEST_F(VfsTest, PathDescriptorsDoNothing) {
  ASSERT_OK(Put("/f", "text"));
  auto f = Open("/f", O_PATH | O_RDWR | O_TRUNC);
  ASSERT_OK(f);
  EXPECT_TRUE((*f)->path_only());
  EXPECT_ERRNO(EBADF, ReadFrom(**f, 1));
  EXPECT_ERRNO(EBADF, WriteTo(**f, "x"));
  EXPECT_EQ((*f)->GetAttr()->size, 4);
  auto again = vfs::OpenPath(ctx_, (*f)->path(), O_RDONLY);
  ASSERT_OK(again);
  EXPECT_EQ(*ReadFrom(**again, 10), "text");
}

TEST_F(VfsTest, ModesAndUmask) {
  ctx_.umask = 027;
  ASSERT_OK(Put("/f", "", 0666));
  EXPECT_EQ(Stat("/f")->mode, S_IFREG | 0640u);
  ASSERT_OK(Mkdir("/d", 0777));
  EXPECT_EQ(Stat("/d")->mode, S_IFDIR | 0750u);
  // A set-gid directory passes its group on.
  ASSERT_OK(vfs::Chown(ctx_, *At("/d"), 0, 50));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/d"), 02777));
  ASSERT_OK(vfs::Mkdir(user_, {}, "/d/sub", 0755));
  EXPECT_EQ(Stat("/d/sub")->gid, 50u);
  EXPECT_EQ(Stat("/d/sub")->mode, S_IFDIR | 02755u);
  ASSERT_OK(OpenAs(user_, "/d/file", O_CREAT | O_WRONLY, 0644));
  EXPECT_EQ(Stat("/d/file")->gid, 50u);
  EXPECT_EQ(Stat("/d/file")->uid, 1000u);
  // The creator may write what it makes read-only.
  auto ro = OpenAs(user_, "/d/ro", O_CREAT | O_RDWR, 0444);
  ASSERT_OK(ro);
  EXPECT_OK(WriteTo(**ro, "x"));
  EXPECT_ERRNO(EACCES, OpenAs(user_, "/d/ro", O_RDWR));
}

TEST_F(VfsTest, PermissionIsOwnerThenGroupThenOthers) {
  ASSERT_OK(Put("/f", "x"));
  ASSERT_OK(vfs::Chown(ctx_, *At("/f"), 1000, 100));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0077));
  EXPECT_ERRNO(EACCES, OpenAs(user_, "/f", O_RDONLY));  // the owner has nothing, though others do
  user_.creds = User(1001, 5, {100});
  EXPECT_OK(OpenAs(user_, "/f", O_RDWR));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0607));
  EXPECT_ERRNO(EACCES, OpenAs(user_, "/f", O_RDONLY));
  user_.creds = User(1001, 5);
  EXPECT_OK(OpenAs(user_, "/f", O_RDWR));
  EXPECT_OK(Open("/f", O_RDWR));
  // Root executes nothing that nobody may execute.
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0666));
  EXPECT_ERRNO(EACCES, vfs::Access(ctx_, *At("/f"), 1));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0001));
  EXPECT_OK(vfs::Access(ctx_, *At("/f"), 7));
}

TEST_F(VfsTest, StickyDirectoriesProtectEntries) {
  ASSERT_OK(Mkdir("/tmp", 0755));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/tmp"), 01777));
  ASSERT_OK(Put("/tmp/roots", ""));
  EXPECT_ERRNO(EPERM, vfs::Unlink(user_, {}, "/tmp/roots"));
  ASSERT_OK(OpenAs(user_, "/tmp/mine", O_CREAT | O_WRONLY));
  EXPECT_ERRNO(EPERM, vfs::Rename(user_, {}, "/tmp/mine", {}, "/tmp/roots", 0));
  EXPECT_OK(vfs::Rename(user_, {}, "/tmp/mine", {}, "/tmp/mine2", 0));
  EXPECT_OK(vfs::Unlink(user_, {}, "/tmp/mine2"));
}

TEST_F(VfsTest, ReadOnlyMountsRefuseChanges) {
  ASSERT_OK(Mkdir("/ro"));
  auto mount = MountTmpfs("/ro");
  ASSERT_OK(mount);
  ASSERT_OK(Put("/ro/f", "x"));
  (*mount)->set_flags(MS_RDONLY);
  EXPECT_ERRNO(EROFS, Open("/ro/f", O_WRONLY));
  EXPECT_ERRNO(EROFS, Open("/ro/new", O_WRONLY | O_CREAT));
  EXPECT_OK(Open("/ro/f", O_RDONLY | O_CREAT));
  EXPECT_ERRNO(EEXIST, Mkdir("/ro/f"));
  EXPECT_ERRNO(EROFS, Mkdir("/ro/d"));
  EXPECT_ERRNO(EROFS, Unlink("/ro/f"));
  EXPECT_ERRNO(EROFS, Unlink("/ro/none"));
  EXPECT_ERRNO(EROFS, Rename("/ro/f", "/ro/g"));
  EXPECT_ERRNO(EXDEV, Link("/ro/f", "/g"));
  EXPECT_ERRNO(EROFS, vfs::Chmod(ctx_, *At("/ro/f"), 0));
  EXPECT_ERRNO(EROFS, vfs::Truncate(ctx_, *At("/ro/f"), 0));
  EXPECT_ERRNO(EROFS, vfs::Access(ctx_, *At("/ro/f"), 2));
  EXPECT_ERRNO(EROFS, vfs::SetXattr(ctx_, *At("/ro/f"), "user.x", "1", 0));
}

TEST_F(VfsTest, UnlinkAndRmdir) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Put("/d/f", "x"));
  EXPECT_ERRNO(ENOTEMPTY, Rmdir("/d"));
  EXPECT_ERRNO(EISDIR, Unlink("/d"));
  EXPECT_ERRNO(ENOTDIR, Rmdir("/d/f"));
  EXPECT_ERRNO(ENOTDIR, Unlink("/d/f/"));
  EXPECT_ERRNO(EINVAL, Rmdir("/d/."));
  EXPECT_ERRNO(ENOTEMPTY, Rmdir("/d/.."));
  EXPECT_ERRNO(EBUSY, Rmdir("/"));
  auto open = Open("/d/f", O_RDWR);
  ASSERT_OK(Unlink("/d/f"));
  EXPECT_ERRNO(ENOENT, Unlink("/d/f"));
  EXPECT_EQ(*ReadFrom(**open, 5), "x");
  EXPECT_EQ((*open)->GetAttr()->nlink, 0u);
  ASSERT_OK(Rmdir("/d/"));
  EXPECT_ERRNO(ENOENT, At("/d"));
  ASSERT_OK(Mkdir("/m"));
  ASSERT_OK(MountTmpfs("/m"));
  EXPECT_ERRNO(EBUSY, Rmdir("/m"));
  EXPECT_ERRNO(EBUSY, Rename("/m", "/n"));
}

TEST_F(VfsTest, Links) {
  ASSERT_OK(Put("/a", "text"));
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Link("/a", "/b"));
  EXPECT_EQ(Stat("/a")->nlink, 2u);
  EXPECT_EQ(Stat("/a")->ino, Stat("/b")->ino);
  EXPECT_ERRNO(EPERM, Link("/d", "/e"));
  EXPECT_ERRNO(EEXIST, Link("/a", "/b"));
  EXPECT_ERRNO(ENOENT, Link("/none", "/x"));
  ASSERT_OK(Symlink("a", "/l"));
  ASSERT_OK(Link("/l", "/l2"));  // the link itself
  EXPECT_EQ(Lstat("/l2")->type(), FileType::kSymlink);
  ASSERT_OK(vfs::Link(ctx_, {}, "/l", {}, "/c", AT_SYMLINK_FOLLOW));
  EXPECT_EQ(Lstat("/c")->ino, Stat("/a")->ino);
  ASSERT_OK(Unlink("/a"));
  EXPECT_EQ(*Get("/b"), "text");
}

TEST_F(VfsTest, Tmpfiles) {
  auto f = Open("/", O_TMPFILE | O_RDWR, 0600);
  ASSERT_OK(f);
  ASSERT_OK(WriteTo(**f, "hidden"));
  EXPECT_EQ((*f)->GetAttr()->nlink, 0u);
  EXPECT_THAT(*List("/"), ElementsAre());
  ASSERT_OK(vfs::Link(ctx_, (*f)->path(), "", {}, "/shown", AT_EMPTY_PATH));
  EXPECT_EQ(*Get("/shown"), "hidden");
  EXPECT_EQ(Stat("/shown")->nlink, 1u);
  auto never = Open("/", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  ASSERT_OK(never);
  EXPECT_ERRNO(ENOENT, vfs::Link(ctx_, (*never)->path(), "", {}, "/x", AT_EMPTY_PATH));
}

TEST_F(VfsTest, Rename) {
  ASSERT_OK(Put("/a", "a"));
  ASSERT_OK(Put("/b", "b"));
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Mkdir("/d/e"));
  ASSERT_OK(Mkdir("/full"));
  ASSERT_OK(Put("/full/x", ""));
  EXPECT_ERRNO(EEXIST, Rename("/a", "/b", RENAME_NOREPLACE));
  ASSERT_OK(Rename("/a", "/b", RENAME_EXCHANGE));
  EXPECT_EQ(*Get("/a"), "b");
  ASSERT_OK(Rename("/a", "/b"));
  EXPECT_EQ(*Get("/b"), "b");
  EXPECT_ERRNO(ENOENT, At("/a"));
  EXPECT_ERRNO(EISDIR, Rename("/b", "/d"));
  EXPECT_ERRNO(ENOTDIR, Rename("/d", "/b"));
  EXPECT_ERRNO(ENOTEMPTY, Rename("/d", "/full"));
  EXPECT_ERRNO(EINVAL, Rename("/d", "/d/e/f"));
  EXPECT_ERRNO(ENOTEMPTY, Rename("/d/e", "/d"));
  EXPECT_ERRNO(EBUSY, Rename("/d/.", "/x"));
  EXPECT_ERRNO(EINVAL, Rename("/b", "/c", RENAME_EXCHANGE | RENAME_NOREPLACE));
  EXPECT_ERRNO(EINVAL, Rename("/b", "/c", 8));
  EXPECT_ERRNO(ENOTDIR, Rename("/b", "/new/"));
  ASSERT_OK(Rename("/d/", "/moved/"));
  EXPECT_OK(At("/moved/e"));
  ASSERT_OK(Rename("/moved/e", "/e"));
  EXPECT_EQ(Stat("/moved")->nlink, 2u);
  ASSERT_OK(Rename("/moved", "/e"));  // over an empty directory
  ASSERT_OK(Rename("/full", "/b", RENAME_EXCHANGE));
  EXPECT_OK(At("/b/x"));
  ASSERT_OK(Rename("/full", "/white", RENAME_WHITEOUT));
  EXPECT_EQ(Lstat("/full")->type(), FileType::kCharDevice);
  // Links to the same file: nothing happens.
  ASSERT_OK(Link("/white", "/white2"));
  ASSERT_OK(Rename("/white", "/white2"));
  EXPECT_OK(At("/white"));
}

TEST_F(VfsTest, ChmodChownRules) {
  ASSERT_OK(Put("/f", "x"));
  EXPECT_ERRNO(EPERM, vfs::Chmod(user_, *At("/f"), 0777));
  ASSERT_OK(vfs::Chown(ctx_, *At("/f"), 1000, 1000));
  ASSERT_OK(vfs::Chmod(user_, *At("/f"), 06755));
  EXPECT_EQ(Stat("/f")->mode & 07777, 06755u);
  EXPECT_ERRNO(EPERM, vfs::Chown(user_, *At("/f"), 1001, ~0u));
  EXPECT_ERRNO(EPERM, vfs::Chown(user_, *At("/f"), ~0u, 7));
  user_.creds = User(1000, 1000, {7});
  ASSERT_OK(vfs::Chown(user_, *At("/f"), ~0u, 7));
  EXPECT_EQ(Stat("/f")->mode & 07777, 0755u);  // set-id bits are gone
  user_.creds = User(1000, 1000);
  ASSERT_OK(vfs::Chmod(user_, *At("/f"), 02755));
  EXPECT_EQ(Stat("/f")->mode & 07777, 0755u);  // not a member of group 7
}

TEST_F(VfsTest, WritingTakesSetIdBitsAway) {
  ASSERT_OK(Put("/f", "x"));
  ASSERT_OK(vfs::Chown(ctx_, *At("/f"), 1000, 1000));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 06777));
  {
    auto f = OpenAs(ctx_, "/f", O_WRONLY);
    ASSERT_OK(WriteTo(**f, "root"));
    EXPECT_EQ(Stat("/f")->mode & 07777, 06777u);
  }
  auto f = OpenAs(user_, "/f", O_WRONLY);
  EXPECT_EQ(Stat("/f")->mode & 07777, 06777u);
  ASSERT_OK(WriteTo(**f, "user"));
  EXPECT_EQ(Stat("/f")->mode & 07777, 0777u);
}

TEST_F(VfsTest, UtimesRules) {
  using K = vfs::TimeChange::Kind;
  ASSERT_OK(Put("/f", "x"));
  ASSERT_OK(vfs::Utimes(ctx_, *At("/f"), {K::kSet, 5}, {K::kSet, -7}));
  EXPECT_EQ(Stat("/f")->atime, 5);
  EXPECT_EQ(Stat("/f")->mtime, -7);
  EXPECT_EQ(Stat("/f")->ToStat().st_mtim.tv_sec, -1);
  EXPECT_EQ(Stat("/f")->ToStat().st_mtim.tv_nsec, 999'999'993);
  EXPECT_ERRNO(EPERM, vfs::Utimes(user_, *At("/f"), {K::kSet, 5}, {}));
  EXPECT_ERRNO(EACCES, vfs::Utimes(user_, *At("/f"), {K::kNow}, {K::kNow}));
  EXPECT_OK(vfs::Utimes(user_, *At("/f"), {}, {}));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/f"), 0666));
  EXPECT_OK(vfs::Utimes(user_, *At("/f"), {K::kNow}, {K::kNow}));
  EXPECT_ERRNO(EPERM, vfs::Utimes(user_, *At("/f"), {}, {K::kNow}));
}

TEST_F(VfsTest, TruncateRules) {
  ASSERT_OK(Mkdir("/d"));
  ASSERT_OK(Put("/f", "0123456789"));
  EXPECT_ERRNO(EISDIR, vfs::Truncate(ctx_, *At("/d"), 0));
  EXPECT_ERRNO(EINVAL, vfs::Truncate(ctx_, *At("/f"), -1));
  EXPECT_ERRNO(EACCES, vfs::Truncate(user_, *At("/f"), 0));
  ctx_.file_size_limit = 15;
  EXPECT_ERRNO(EFBIG, vfs::Truncate(ctx_, *At("/f"), 16));
  ASSERT_OK(vfs::Truncate(ctx_, *At("/f"), 5));
  ASSERT_OK(vfs::Truncate(ctx_, *At("/f"), 8));
  EXPECT_EQ(*Get("/f"), std::string("01234\0\0\0", 8));
}

TEST_F(VfsTest, ExecutedFilesAreNotWritten) {
  ASSERT_OK(Put("/f", "x", 0755));
  RefPtr<Inode> inode = At("/f")->inode();
  {
    auto writer = Open("/f", O_WRONLY);
    EXPECT_ERRNO(ETXTBSY, inode->DenyWriteAccess());
  }
  ASSERT_OK(inode->DenyWriteAccess());
  EXPECT_ERRNO(ETXTBSY, Open("/f", O_WRONLY));
  EXPECT_ERRNO(ETXTBSY, Open("/f", O_RDONLY | O_TRUNC));
  EXPECT_ERRNO(ETXTBSY, vfs::Truncate(ctx_, *At("/f"), 0));
  EXPECT_OK(Open("/f", O_RDONLY));
  inode->AllowWriteAccess();
  EXPECT_OK(Open("/f", O_WRONLY));
}

TEST_F(VfsTest, XattrRules) {
  ASSERT_OK(Put("/f", "x"));
  ASSERT_OK(Symlink("f", "/l"));
  VfsPath f = *At("/f");
  ASSERT_OK(vfs::SetXattr(ctx_, f, "user.a", "1", 0));
  EXPECT_ERRNO(EEXIST, vfs::SetXattr(ctx_, f, "user.a", "2", 1));
  EXPECT_ERRNO(ENODATA, vfs::SetXattr(ctx_, f, "user.b", "2", 2));
  EXPECT_EQ(*vfs::GetXattr(ctx_, f, "user.a"), "1");
  EXPECT_ERRNO(ENODATA, vfs::GetXattr(ctx_, f, "user.b"));
  EXPECT_ERRNO(EOPNOTSUPP, vfs::GetXattr(ctx_, f, "bad.x"));
  EXPECT_ERRNO(ERANGE, vfs::SetXattr(ctx_, f, "user." + std::string(251, 'x'), "", 0));
  EXPECT_ERRNO(E2BIG, vfs::SetXattr(ctx_, f, "user.big", std::string(65537, 'x'), 0));
  EXPECT_ERRNO(EPERM, vfs::SetXattr(ctx_, *At("/l", 0), "user.a", "1", 0));
  ASSERT_OK(vfs::SetXattr(ctx_, f, "trusted.t", "1", 0));
  EXPECT_ERRNO(EPERM, vfs::SetXattr(user_, f, "trusted.t", "1", 0));
  EXPECT_ERRNO(ENODATA, vfs::GetXattr(user_, f, "trusted.t"));
  EXPECT_ERRNO(EACCES, vfs::SetXattr(user_, f, "user.a", "1", 0));
  EXPECT_THAT(*vfs::ListXattr(ctx_, f), ElementsAre("trusted.t", "user.a"));
  EXPECT_THAT(*vfs::ListXattr(user_, f), ElementsAre("user.a"));
  ASSERT_OK(vfs::RemoveXattr(ctx_, f, "user.a"));
  EXPECT_ERRNO(ENODATA, vfs::RemoveXattr(ctx_, f, "user.a"));
}

TEST_F(VfsTest, DevicesAndFifosGoThroughTheRegistry) {
  EXPECT_ERRNO(EACCES, vfs::Mknod(user_, {}, "/dev0", S_IFCHR | 0666, 0x103));
  ASSERT_OK(vfs::Chmod(ctx_, *At("/"), 0777));
  EXPECT_ERRNO(EPERM, vfs::Mknod(user_, {}, "/dev0", S_IFCHR | 0666, 0x103));
  EXPECT_OK(vfs::Mknod(user_, {}, "/whiteout", S_IFCHR, 0));
  ASSERT_OK(vfs::Mknod(ctx_, {}, "/null", S_IFCHR | 0666, 0x103));
  EXPECT_EQ(Stat("/null")->rdev, 0x103u);
  EXPECT_ERRNO(ENXIO, Open("/null", O_RDONLY));
  ASSERT_OK(Put("/f", "device"));
  vfs::RegisterDevice(FileType::kCharDevice, 1, 3, [&](const VfsPath&, uint32_t flags, VfsContext& ctx) {
    return vfs::OpenPath(ctx, *At("/f"), flags);
  });
  auto f = Open("/null", O_RDONLY);
  ASSERT_OK(f);
  EXPECT_EQ(*ReadFrom(**f, 10), "device");
  vfs::RegisterDevice(FileType::kCharDevice, 1, 3, [](const VfsPath&, uint32_t, VfsContext&) { return Errno(ENXIO); });
  ASSERT_OK(Mkdir("/m"));
  ASSERT_OK(MountTmpfs("/m", {}, MS_NODEV));
  ASSERT_OK(vfs::Mknod(ctx_, {}, "/m/null", S_IFCHR | 0666, 0x103));
  EXPECT_ERRNO(EACCES, Open("/m/null", O_RDONLY));
  base::UniqueFd host;
  ASSERT_OK(vfs::BindSocket(ctx_, {}, "/sock", 0777, SOCK_STREAM, nullptr, host));
  EXPECT_ERRNO(EEXIST, vfs::BindSocket(ctx_, {}, "/sock", 0777, SOCK_STREAM, nullptr, host));
  EXPECT_ERRNO(ENXIO, Open("/sock", O_RDONLY));
}

TEST_F(VfsTest, MountNamespacesAreCopied) {
  ASSERT_OK(Mkdir("/m"));
  ASSERT_OK(MountTmpfs("/m"));
  ASSERT_OK(Put("/m/x", "1"));
  absl::flat_hash_map<const Mount*, RefPtr<Mount>> map;
  RefPtr<MountNamespace> copy = mounts_->Clone(map);
  VfsContext other = ctx_;
  other.mounts = copy.get();
  other.root = other.cwd = copy->Root();
  ASSERT_OK(mounts_->Unmount(*At("/m"), MNT_DETACH));
  EXPECT_ERRNO(ENOENT, At("/m/x"));
  EXPECT_OK(WalkPath(other, {}, "/m/x", 0));
  EXPECT_EQ(copy->List().size(), 2u);
  EXPECT_EQ(mounts_->List().size(), 1u);
}

TEST_F(VfsTest, PivotRootSwapsTheTree) {
  ASSERT_OK(Mkdir("/new"));
  ASSERT_OK(MountTmpfs("/new"));
  ASSERT_OK(Mkdir("/new/old"));
  EXPECT_ERRNO(EINVAL, mounts_->PivotRoot(*At("/new/old"), *At("/new/old")));
  ASSERT_OK(mounts_->PivotRoot(*At("/new"), *At("/new/old")));
  ctx_.root = ctx_.cwd = mounts_->Root();
  EXPECT_OK(At("/old/new"));
  EXPECT_ERRNO(ENOENT, At("/new"));
  EXPECT_EQ(Name(*At("/old/new")), "/old/new");
}

}  // namespace
}  // namespace sentry
