#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <algorithm>

#include "tests/unit/gofer/gofer_fixture.h"

namespace gofer {
namespace {

TEST_F(GoferTest, DonatedDescriptorsReadWriteAndMapWithoutTheGofer) {
  dir_.Write("file", "0123456789");
  auto node = Get({"file"});
  auto file = node->Open(O_RDWR);
  ASSERT_OK(file);
  EXPECT_NE(fcntl(file->get(), F_GETFD) & FD_CLOEXEC, 0);
  client_->Disconnect();
  EXPECT_EQ(pwrite(file->get(), "ab", 2, 2), 2);
  void* mapped = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file->get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  static_cast<char*>(mapped)[9] = 'Z';
  munmap(mapped, 4096);
  EXPECT_EQ(dir_.Read("file"), "01ab45678Z");
  EXPECT_ERRNO(EIO, node->GetAttr());
}

TEST_F(GoferTest, OpenHonoursModeAndFlags) {
  dir_.Write("file", "content");
  dir_.MakeDirectory("dir");
  auto node = Get({"file"});
  auto writer = node->Open(O_WRONLY | O_APPEND);
  ASSERT_OK(writer);
  char c;
  EXPECT_EQ(read(writer->get(), &c, 1), -1);
  EXPECT_EQ(write(writer->get(), "!", 1), 1);
  EXPECT_EQ(dir_.Read("file"), "content!");
  EXPECT_OK(node->Open(O_RDWR | O_TRUNC));
  EXPECT_EQ(dir_.Read("file"), "");
  EXPECT_ERRNO(EINVAL, node->Open(O_ACCMODE));
  EXPECT_ERRNO(EINVAL, node->Open(O_CREAT));
  EXPECT_ERRNO(EINVAL, node->Open(O_PATH));
  EXPECT_ERRNO(EISDIR, Get({"dir"})->Open(O_RDONLY));
  dir_.Write("file", "12345678");
  auto walked = Walk({"file"}, {.open = true, .open_flags = O_WRONLY | O_TRUNC});
  ASSERT_OK(walked);
  EXPECT_EQ(walked->components[0].attributes.size, 0u);
}

TEST_F(GoferTest, SpecialFilesAreNotOpened) {
  ASSERT_EQ(mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  EXPECT_ERRNO(ENXIO, Get({"fifo"})->Open(O_RDONLY));
  if (mknod((dir_ / "null").c_str(), S_IFCHR | 0666, 0x103) == 0) {
    auto null = Get({"null"});
    EXPECT_ERRNO(ENXIO, null->Open(O_RDONLY));
    auto attributes = null->GetAttr();
    ASSERT_OK(attributes);
    EXPECT_EQ(attributes->rdev, 0x103u);
    EXPECT_ERRNO(ENXIO, null->Open(O_RDWR));
    EXPECT_ERRNO(ENODATA, null->GetXattr("user.x"));
    EXPECT_ERRNO(EINVAL, null->Fsync());
  }
}

TEST_F(GoferTest, FifosAreOpenedWhereTheMountAllowsIt) {
  ASSERT_EQ(mkfifo((other_ / "fifo").c_str(), 0600), 0);
  auto attached = client_->Attach(2);
  ASSERT_OK(attached);
  std::vector<std::string_view> names = {"fifo"};
  auto walked = attached->root->Walk(names);
  ASSERT_OK(walked);
  Node& fifo = *walked->components[0].node;
  EXPECT_ERRNO(ENXIO, fifo.Open(O_WRONLY));  // nobody reads, and the gofer does not wait
  auto reader = fifo.Open(O_RDONLY);
  ASSERT_OK(reader);
  auto writer = fifo.Open(O_WRONLY);
  ASSERT_OK(writer);
  EXPECT_EQ(write(writer->get(), "hi", 2), 2);
  char buffer[4];
  EXPECT_EQ(read(reader->get(), buffer, 4), 2);
}

base::UniqueFd Listen(const std::string& path) {
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path.c_str());
  EXPECT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(listen(socket.get(), 1), 0);
  return socket;
}

TEST_F(GoferTest, SocketsAreConnectedToWhereTheMountAllowsIt) {
  base::UniqueFd denied = Listen(dir_ / "socket");
  EXPECT_ERRNO(ECONNREFUSED, Get({"socket"})->Connect(SOCK_STREAM));
  base::UniqueFd listener = Listen(other_ / "socket");
  other_.Write("file", "");
  auto attached = client_->Attach(2);
  ASSERT_OK(attached);
  std::vector<std::string_view> names = {"socket"};
  auto node = attached->root->Walk(names)->components[0].node;
  EXPECT_ERRNO(EPROTOTYPE, node->Connect(SOCK_DGRAM));
  EXPECT_ERRNO(EINVAL, node->Connect(SOCK_RAW));
  auto connected = node->Connect(SOCK_STREAM);
  ASSERT_OK(connected);
  base::UniqueFd accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(accepted.valid());
  EXPECT_EQ(write(accepted.get(), "x", 1), 1);
  char c;
  EXPECT_EQ(read(connected->get(), &c, 1), 1);
  names[0] = "file";
  EXPECT_ERRNO(ECONNREFUSED, attached->root->Walk(names)->components[0].node->Connect(SOCK_STREAM));
  // The backlog of 1 fills up: an error, not a gofer that waits.
  std::vector<base::UniqueFd> waiting;
  int error = 0;
  for (int i = 0; i < 10 && error == 0; ++i) {
    auto more = attached->root->Walk(std::vector<std::string_view>{"socket"})->components[0].node->Connect(SOCK_STREAM);
    if (more.ok()) {
      waiting.push_back(std::move(*more));
    } else {
      error = more.error().value();
    }
  }
  EXPECT_EQ(error, EAGAIN);
}

TEST_F(GoferTest, SetAttrChangesWhatItNames) {
  dir_.Write("file", "0123456789");
  auto node = Get({"file"});
  auto before = node->GetAttr();
  ASSERT_OK(before);
  auto sized = node->SetAttr({.which = kSetSize, .size = 4});
  ASSERT_OK(sized);
  EXPECT_EQ(sized->size, 4u);
  EXPECT_EQ(dir_.Read("file"), "0123");
  auto moded = node->SetAttr({.which = kSetMode, .mode = 01741});
  ASSERT_OK(moded);
  EXPECT_EQ(moded->mode & 07777, 01741u);
  auto timed = node->SetAttr({.which = kSetAtime | kSetMtime, .atime_ns = 1'500'000'000, .mtime_ns = -1});
  ASSERT_OK(timed);
  EXPECT_EQ(timed->atime_ns, 1'500'000'000);
  EXPECT_EQ(timed->mtime_ns, -1);
  auto one = node->SetAttr({.which = kSetMtimeNow});
  ASSERT_OK(one);
  EXPECT_EQ(one->atime_ns, 1'500'000'000);
  EXPECT_GT(one->mtime_ns, before->mtime_ns - 1);
  if (geteuid() == 0) {
    auto owned = node->SetAttr({.which = kSetUid | kSetGid | kSetMode, .mode = 04755, .uid = 77, .gid = 88});
    ASSERT_OK(owned);
    EXPECT_EQ(owned->uid, 77u);
    EXPECT_EQ(owned->gid, 88u);
    EXPECT_EQ(owned->mode & 07777, 04755u);
    auto group = node->SetAttr({.which = kSetGid, .gid = 99});
    ASSERT_OK(group);
    EXPECT_EQ(group->uid, 77u);
    EXPECT_EQ(group->gid, 99u);
  }
  EXPECT_ERRNO(EISDIR, root_->SetAttr({.which = kSetSize}));
  EXPECT_ERRNO(EINVAL, node->SetAttr({.which = kSetAll + 1}));
  EXPECT_ERRNO(EINVAL, node->SetAttr({.which = kSetSize, .size = UINT64_MAX}));
  // A link's own times and owner can be set.
  ASSERT_EQ(symlink("file", (dir_ / "link").c_str()), 0);
  auto link = Get({"link"})->SetAttr({.which = kSetMtime, .mtime_ns = 42});
  ASSERT_OK(link);
  EXPECT_EQ(link->mtime_ns, 42);
  EXPECT_NE(node->GetAttr()->mtime_ns, 42);
}

TEST_F(GoferTest, StatFsFsyncAndSyncFs) {
  auto st = root_->StatFs();
  ASSERT_OK(st);
  struct statfs host;
  ASSERT_EQ(statfs(dir_.path().c_str(), &host), 0);
  EXPECT_EQ(st->type, static_cast<uint64_t>(host.f_type));
  EXPECT_EQ(st->block_size, static_cast<uint64_t>(host.f_bsize));
  EXPECT_EQ(st->name_length, 255u);
  dir_.Write("file", "x");
  EXPECT_OK(Get({"file"})->Fsync());
  EXPECT_OK(Get({"file"})->Fsync(/*data_only=*/true));
  EXPECT_OK(root_->Fsync());
  EXPECT_OK(root_->SyncFs());
}

TEST_F(GoferTest, ExtendedAttributes) {
  dir_.Write("file", "x");
  if (setxattr((dir_ / "file").c_str(), "user.probe", "1", 1, 0) != 0) GTEST_SKIP() << "no user xattrs in /tmp";
  auto node = Get({"file"});
  EXPECT_OK(node->SetXattr("user.name", "value", 0));
  EXPECT_ERRNO(EEXIST, node->SetXattr("user.name", "value", XATTR_CREATE));
  EXPECT_ERRNO(ENODATA, node->SetXattr("user.none", "value", XATTR_REPLACE));
  auto value = node->GetXattr("user.name");
  ASSERT_OK(value);
  EXPECT_EQ(*value, "value");
  auto names = node->ListXattr();
  ASSERT_OK(names);
  EXPECT_NE(std::find(names->begin(), names->end(), "user.name"), names->end());
  EXPECT_OK(node->RemoveXattr("user.name"));
  EXPECT_ERRNO(ENODATA, node->GetXattr("user.name"));
  EXPECT_ERRNO(EPERM, node->SetXattr("security.capability", "x", 0));
  EXPECT_ERRNO(EINVAL, node->GetXattr(""));
  ASSERT_EQ(symlink("file", (dir_ / "link").c_str()), 0);
  EXPECT_ERRNO(ENODATA, Get({"link"})->GetXattr("user.probe"));
  EXPECT_ERRNO(EPERM, Get({"link"})->SetXattr("user.probe", "2", 0));
  auto none = Get({"link"})->ListXattr();
  ASSERT_OK(none);
  EXPECT_TRUE(none->empty());
}

TEST_F(GoferTest, SocketsAreMadeOnlyWhereTheMountAllowsIt) {
  EXPECT_ERRNO(EPERM, root_->Bind("socket", SOCK_STREAM, {.mode = 0600}));
  EXPECT_ERRNO(EROFS, client_->Attach(1)->root->Bind("socket", SOCK_STREAM, {.mode = 0600}));
  auto attached = client_->Attach(2);
  ASSERT_OK(attached);
  Node& root = *attached->root;
  for (int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    const std::string name = "made" + std::to_string(type);
    auto made = root.Bind(name, type, {.mode = 0640});
    ASSERT_OK(made);
    EXPECT_EQ(made->attributes.mode, static_cast<uint32_t>(S_IFSOCK | 0640));
    EXPECT_ERRNO(EEXIST, root.Bind(name, type, {.mode = 0640}));
    base::UniqueFd client(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, (other_ / name).c_str());
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), -1);
    EXPECT_EQ(errno, ECONNREFUSED);
    ASSERT_EQ(listen(made->file.get(), 1), 0);
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  // Never through a link, wherever it leads.
  ASSERT_EQ(symlink("elsewhere", (other_ / "link").c_str()), 0);
  EXPECT_ERRNO(EEXIST, root.Bind("link", SOCK_STREAM, {}));
  EXPECT_ERRNO(EINVAL, root.Bind(std::string(kMaxBindNameBytes + 1, 'x'), SOCK_STREAM, {}));
  EXPECT_OK(root.Bind(std::string(kMaxBindNameBytes, 'x'), SOCK_STREAM, {}));
  EXPECT_ERRNO(EINVAL, root.Bind("raw", SOCK_RAW, {}));
  EXPECT_ERRNO(EINVAL, root.Bind("../up", SOCK_STREAM, {}));
}

TEST_F(GoferTest, ANamelessFileMayGetANameLater) {
  auto made = root_->Tmpfile(O_RDWR, {.mode = 0600});
  ASSERT_OK(made);
  EXPECT_EQ(made->attributes.nlink, 0u);
  EXPECT_EQ(write(made->file.get(), "text", 4), 4);
  auto linked = root_->Link(*made->node, "named");
  ASSERT_OK(linked);
  EXPECT_EQ(linked->nlink, 1u);
  EXPECT_EQ(linked->size, 4u);
  EXPECT_ERRNO(EINVAL, root_->Tmpfile(O_RDONLY, {}));
  EXPECT_ERRNO(ENOTDIR, Get({"named"})->Tmpfile(O_RDWR, {}));
  EXPECT_ERRNO(EROFS, client_->Attach(1)->root->Tmpfile(O_RDWR, {}));
}

TEST_F(GoferTest, ARenameMayLeaveAWhiteout) {
  dir_.Write("from", "");
  EXPECT_OK(root_->Rename("from", *root_, "to", kRenameWhiteout));
  auto walked = Walk({"from"});
  ASSERT_OK(walked);
  EXPECT_EQ(walked->components[0].attributes.mode & S_IFMT, static_cast<uint32_t>(S_IFCHR));
  EXPECT_EQ(walked->components[0].attributes.rdev, 0u);
}

}  // namespace
}  // namespace gofer
