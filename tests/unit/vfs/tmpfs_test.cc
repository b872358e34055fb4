#include <linux/falloc.h>
#include <linux/memfd.h>

#include <random>

#include "sentry/fs/tmpfs/file.h"
#include "tests/unit/vfs/fixture.h"

namespace sentry {
namespace {

using TmpfsTest = FileTest;
using ::testing::ElementsAre;

TEST_F(TmpfsTest, ReadsWhatWasWritten) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  EXPECT_EQ(*WriteTo(*f, "hello "), 6u);
  EXPECT_EQ(*WriteTo(*f, "world"), 5u);
  EXPECT_EQ(f->position(), 11);
  EXPECT_EQ(*ReadFrom(*f, 100, 0), "hello world");
  EXPECT_EQ(*ReadFrom(*f, 100, 6), "world");
  EXPECT_EQ(*ReadFrom(*f, 100, 11), "");
  EXPECT_EQ(*ReadFrom(*f, 100, 1 << 30), "");
  EXPECT_EQ(*f->Seek(0, SEEK_SET), 0);
  EXPECT_EQ(*ReadFrom(*f, 5), "hello");
  EXPECT_EQ(*f->Seek(-5, SEEK_END), 6);
  EXPECT_ERRNO(EINVAL, f->Seek(-50, SEEK_CUR));
  char byte;
  KernelIo io(std::as_writable_bytes(std::span(&byte, 1)));
  EXPECT_ERRNO(EINVAL, f->PRead(io, -5, {}));
  auto append = *Open("/f", O_WRONLY | O_APPEND);
  EXPECT_EQ(*WriteTo(*append, "!"), 1u);
  EXPECT_EQ(append->position(), 12);
  EXPECT_EQ(*Get("/f"), "hello world!");
  EXPECT_ERRNO(EBADF, ReadFrom(*append, 1));
}

TEST_F(TmpfsTest, FileSizeLimitsCutWrites) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  IoFlags flags;
  flags.file_size_limit = 10;
  EXPECT_EQ(*WriteTo(*f, "0123456789abc", 5, flags), 5u);
  EXPECT_ERRNO(EFBIG, WriteTo(*f, "x", 10, flags));
  EXPECT_ERRNO(EINVAL, WriteTo(*f, "x", INT64_MAX, {}));
  EXPECT_OK(WriteTo(*f, "x", INT64_MAX - 1, {}));
}

TEST_F(TmpfsTest, HolesReadAsZeroAndCostNothing) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  constexpr int64_t kFar = int64_t{1} << 62;
  ASSERT_OK(WriteTo(*f, "far", kFar));
  ASSERT_OK(WriteTo(*f, "near", 100));
  EXPECT_EQ(f->GetAttr()->size, kFar + 3);
  EXPECT_EQ(f->GetAttr()->blocks, 16);
  EXPECT_EQ(*ReadFrom(*f, 8, kFar - 4), std::string("\0\0\0\0far", 7));
  EXPECT_EQ(*f->Seek(0, SEEK_DATA), 0);
  EXPECT_EQ(*f->Seek(0, SEEK_HOLE), 4096);
  EXPECT_EQ(*f->Seek(4096, SEEK_DATA), kFar);
  EXPECT_EQ(*f->Seek(kFar, SEEK_HOLE), kFar + 3);
  EXPECT_ERRNO(ENXIO, f->Seek(kFar + 3, SEEK_DATA));
  ASSERT_OK(f->Truncate(1));
  EXPECT_EQ(f->GetAttr()->blocks, 8);
  ASSERT_OK(f->Truncate(200));
  EXPECT_EQ(*ReadFrom(*f, 200, 0), std::string(200, '\0'));
}

TEST_F(TmpfsTest, BigWritesAndRandomOnesMatchAModel) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  std::string model(9 << 20, '\0');
  std::mt19937 rng(1);
  for (int i = 0; i < 200; ++i) {
    size_t offset = rng() % model.size();
    size_t length = std::min<size_t>(rng() % (i % 10 == 0 ? 3 << 20 : 20000), model.size() - offset);
    if (i % 7 == 3) {
      ASSERT_OK(f->Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<int64_t>(offset),
                            static_cast<int64_t>(length + 1)));
      model.replace(offset, std::min(length + 1, model.size() - offset), std::min(length + 1, model.size() - offset),
                    '\0');
      continue;
    }
    std::string text(length, static_cast<char>('a' + i % 26));
    if (length > 0) {
      ASSERT_EQ(*WriteTo(*f, text, static_cast<int64_t>(offset)), length);
    }
    model.replace(offset, length, text);
  }
  ASSERT_OK(f->Truncate(static_cast<int64_t>(model.size())));
  EXPECT_TRUE(*ReadFrom(*f, model.size() + 1, 0) == model);
}

TEST_F(TmpfsTest, SizeIsCharged) {
  ASSERT_OK(Mkdir("/m"));
  ASSERT_OK(MountTmpfs("/m", {.size = 10 * 4096, .inodes = 4}));
  auto f = *Open("/m/f", O_RDWR | O_CREAT);
  EXPECT_EQ(*WriteTo(*f, std::string(11 * 4096, 'x')), 10u * 4096);
  EXPECT_ERRNO(ENOSPC, WriteTo(*f, "x"));
  EXPECT_OK(WriteTo(*f, "y", 0));
  auto st = *At("/m")->dentry->superblock().StatFs();
  EXPECT_EQ(st.blocks, 10u);
  EXPECT_EQ(st.bfree, 0u);
  ASSERT_OK(f->Truncate(4096));
  EXPECT_EQ(At("/m")->dentry->superblock().StatFs()->bfree, 9u);
  EXPECT_ERRNO(ENOSPC, f->Allocate(0, 0, 11 * 4096));
  EXPECT_EQ(At("/m")->dentry->superblock().StatFs()->bfree, 9u);  // undone
  ASSERT_OK(f->Allocate(FALLOC_FL_KEEP_SIZE, 0, 10 * 4096));
  EXPECT_EQ(f->GetAttr()->size, 4096);
  EXPECT_ERRNO(EOPNOTSUPP, f->Allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
  // Also where the file system has no limit of its own.
  auto unlimited = *Open("/f", O_RDWR | O_CREAT);
  EXPECT_ERRNO(ENOSPC, unlimited->Allocate(0, 4096, int64_t{1} << 61));
  EXPECT_EQ(unlimited->GetAttr()->blocks, 0);
  unlimited = nullptr;
  ASSERT_OK(Unlink("/f"));
  ASSERT_OK(Unlink("/m/f"));
  f = nullptr;
  EXPECT_EQ(At("/m")->dentry->superblock().StatFs()->bfree, 10u);
  for (int i = 0; i < 3; ++i) ASSERT_OK(Put("/m/" + std::to_string(i), ""));
  EXPECT_ERRNO(ENOSPC, Mkdir("/m/d"));
  ASSERT_OK(Unlink("/m/0"));
  EXPECT_OK(Mkdir("/m/d"));
  EXPECT_ERRNO(ENOSPC, Symlink("x", "/m/l"));
}

TEST_F(TmpfsTest, PagesComeBackWhenFilesGo) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(Put("/f", std::string(8 << 20, 'x')));
    ASSERT_OK(Unlink("/f"));
  }
  memory_->TrimPool();
  EXPECT_LT(memory_->usage(), uint64_t{4} << 20);
}

TEST_F(TmpfsTest, MappingsSeeWritesAndSharePages) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  ASSERT_OK(WriteTo(*f, "0123456789"));
  auto mappable = *f->GetMappable(3, true);
  auto pages = mappable->Translate(0, 4096, true);
  ASSERT_OK(pages);
  EXPECT_EQ(pages->length, 4096u);
  char text[11] = {};
  ASSERT_EQ(pread(pages->fd, text, 10, static_cast<off_t>(pages->offset)), 10);
  EXPECT_STREQ(text, "0123456789");
  ASSERT_EQ(pwrite(pages->fd, "ab", 2, static_cast<off_t>(pages->offset)), 2);
  EXPECT_EQ(*ReadFrom(*f, 10, 0), "ab23456789");
  EXPECT_ERRNO(EINVAL, mappable->Translate(4096, 4096, false));
  ASSERT_OK(f->Truncate(64 << 10));
  auto hole = mappable->Translate(32 << 10, 4096, false);
  ASSERT_OK(hole);
  ASSERT_EQ(pwrite(hole->fd, "hole", 4, static_cast<off_t>(hole->offset)), 4);
  EXPECT_EQ(*ReadFrom(*f, 4, 32 << 10), "hole");
}

TEST_F(TmpfsTest, SequentialFilesAreFewExtents) {
  auto f = *Open("/f", O_RDWR | O_CREAT);
  std::string chunk(10000, 'x');
  for (int i = 0; i < 1000; ++i) ASSERT_OK(WriteTo(*f, chunk));
  auto mappable = *f->GetMappable(1, true);
  int pieces = 0;
  for (uint64_t at = 0; at < 10'000'000; ++pieces) {
    auto p = mappable->Translate(at, 10'000'000 - at, false);
    ASSERT_OK(p);
    at += p->length;
  }
  EXPECT_LE(pieces, 16);
}

TEST_F(TmpfsTest, DirectoryReadingSurvivesRemoval) {
  for (int i = 0; i < 500; ++i) ASSERT_OK(Put("/f" + std::to_string(i), ""));
  EXPECT_EQ(List("/", 7)->size(), 500u);
  // Remove what was seen while reading on: every name that was there all the time comes exactly once.
  auto dir = *Open("/", O_RDONLY | O_DIRECTORY);
  std::vector<std::string> seen;
  int64_t position = 0;
  for (;;) {
    std::vector<std::string> batch;
    int64_t next = *dir->ReadDir(position, [&](const Dirent& d) {
      if (batch.size() == 10) return false;
      batch.emplace_back(d.name);
      return true;
    });
    if (batch.empty()) break;
    for (const auto& name : batch) {
      if (name[0] == '.') continue;
      seen.push_back(name);
      ASSERT_OK(Unlink("/" + name));
    }
    position = next;
  }
  EXPECT_EQ(seen.size(), 500u);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  EXPECT_THAT(*List("/"), ElementsAre());
}

TEST_F(TmpfsTest, LinkCounts) {
  EXPECT_EQ(Stat("/")->nlink, 2u);
  ASSERT_OK(Mkdir("/a"));
  ASSERT_OK(Mkdir("/a/b"));
  EXPECT_EQ(Stat("/")->nlink, 3u);
  EXPECT_EQ(Stat("/a")->nlink, 3u);
  ASSERT_OK(Rename("/a/b", "/b"));
  EXPECT_EQ(Stat("/")->nlink, 4u);
  EXPECT_EQ(Stat("/a")->nlink, 2u);
  ASSERT_OK(Rmdir("/a"));
  EXPECT_EQ(Stat("/")->nlink, 3u);
}

TEST_F(TmpfsTest, Options) {
  auto parse = [](std::string_view text) { return tmpfs::ParseOptions(text, {}, 1000 << 20); };
  EXPECT_EQ(parse("size=64k,mode=755,uid=5")->size, 65536u);
  EXPECT_EQ(parse("mode=755")->mode, 0755u);
  EXPECT_EQ(parse("size=50%")->size, 500u << 20);
  EXPECT_EQ(parse("size=1")->size, 4096u);
  EXPECT_EQ(parse("nr_blocks=2")->size, 8192u);
  EXPECT_EQ(parse("nr_inodes=10k")->inodes, 10240u);
  EXPECT_EQ(parse("size=18446744073709551615")->size, UINT64_MAX);
  EXPECT_ERRNO(EINVAL, parse("size=99999999999999999999g"));
  EXPECT_ERRNO(EINVAL, parse("size=x"));
  EXPECT_ERRNO(EINVAL, parse("bogus"));
  EXPECT_ERRNO(EINVAL, parse("mode=9"));
}

TEST_F(TmpfsTest, XattrsAreLimitedAndCharged) {
  ASSERT_OK(Mkdir("/m"));
  ASSERT_OK(MountTmpfs("/m", {.size = 64 << 10}));
  ASSERT_OK(Put("/m/f", ""));
  VfsPath f = *At("/m/f");
  ASSERT_OK(vfs::SetXattr(ctx_, f, "user.a", std::string(40000, 'x'), 0));
  EXPECT_ERRNO(ENOSPC, vfs::SetXattr(ctx_, f, "user.b", std::string(40000, 'x'), 0));
  ASSERT_OK(vfs::SetXattr(ctx_, f, "user.a", "", 0));
  EXPECT_OK(vfs::SetXattr(ctx_, f, "user.b", std::string(40000, 'x'), 0));
}

TEST_F(TmpfsTest, MemfdSeals) {
  auto f = *tmpfs::NewMemfd(*memory_, ctx_, "name", MFD_ALLOW_SEALING);
  EXPECT_EQ(Name(f->path()), "/memfd:name (deleted)");
  ASSERT_OK(WriteTo(*f, "0123456789"));
  EXPECT_EQ(*tmpfs::GetSeals(*f), 0u);
  ASSERT_OK(tmpfs::AddSeals(*f, tmpfs::kSealShrink | tmpfs::kSealGrow));
  EXPECT_ERRNO(EPERM, f->Truncate(5));
  EXPECT_ERRNO(EPERM, f->Truncate(50));
  EXPECT_EQ(*WriteTo(*f, "abc", 8), 2u);
  EXPECT_ERRNO(EPERM, WriteTo(*f, "x", 10));
  ASSERT_OK(tmpfs::AddSeals(*f, tmpfs::kSealWrite | tmpfs::kSealSeal));
  EXPECT_ERRNO(EPERM, WriteTo(*f, "x", 0));
  EXPECT_ERRNO(EPERM, f->GetMappable(3, true));
  EXPECT_OK(f->GetMappable(3, false));
  EXPECT_ERRNO(EPERM, tmpfs::AddSeals(*f, tmpfs::kSealGrow));
  auto plain = *tmpfs::NewMemfd(*memory_, ctx_, "", 0);
  EXPECT_EQ(*tmpfs::GetSeals(*plain), tmpfs::kSealSeal);
  EXPECT_ERRNO(EINVAL, tmpfs::NewMemfd(*memory_, ctx_, std::string(250, 'x'), 0));
}

}  // namespace
}  // namespace sentry
