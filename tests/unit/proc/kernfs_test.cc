#include "sentry/fs/kernfs/kernfs.h"

#include <fcntl.h>

#include "gtest/gtest.h"
#include "sentry/vfs/vfs.h"

namespace sentry::kernfs {
namespace {

// Parts of 1,000 bytes each, of which every one is a digit.
class CountedFile final : public TextFile {
 public:
  CountedFile(RefPtr<KernSuperblock> sb, int parts) : TextFile(std::move(sb), 0644), parts_(parts) {}
  Result<std::string> Generate(VfsContext&, uint64_t& cursor) override {
    ++generated;
    if (fail) return Errno(ESRCH);
    if (cursor >= static_cast<uint64_t>(parts_)) {
      cursor = kDone;
      return std::string();
    }
    std::string text(1000, static_cast<char>('0' + cursor % 10));
    ++cursor;
    return text;
  }
  Result<void> Store(VfsContext&, std::string_view text) override {
    stored = std::string(text);
    return {};
  }
  base::WaitQueue* Events(RefPtr<base::RefCounted>* hold) override { return pollable ? &events : nullptr; }

  int generated = 0;
  bool fail = false, pollable = false;
  std::string stored;
  base::WaitQueue events;

 private:
  const int parts_;
};

class KernfsTest : public ::testing::Test {
 protected:
  KernfsTest() {
    RefPtr<Credentials> creds = base::MakeRef<Credentials>();
    creds->permitted = creds->effective = kAllCapabilities;
    ctx_.creds = CredentialsRef(std::move(creds));
    sb_ = base::MakeRef<KernSuperblock>("test", 1, /*revalidate=*/true);
    root_ = base::MakeRef<StaticDir>(sb_);
    dentry_ = Dentry::MakeRoot(root_);
    mount_ = base::MakeRef<Mount>(sb_, dentry_, 0, "none");
    mounts_ = base::MakeRef<MountNamespace>(mount_);
    ctx_.mounts = mounts_.get();
    ctx_.root = ctx_.cwd = mounts_->Root();
  }
  RefPtr<CountedFile> AddFile(const char* name, int parts) {
    RefPtr<CountedFile> file = base::MakeRef<CountedFile>(sb_, parts);
    root_->Add(name, file);
    return file;
  }
  RefPtr<FileDescription> Open(const char* path, uint32_t flags = O_RDONLY) {
    Result<RefPtr<FileDescription>> file = vfs::Open(ctx_, ctx_.root, path, {flags, 0, 0});
    EXPECT_TRUE(file.ok()) << path;
    return file.ok() ? *file : nullptr;
  }
  static Result<std::string> ReadAt(FileDescription& file, int64_t offset, size_t size) {
    std::vector<std::byte> buffer(size);
    KernelIo io(buffer);
    const size_t n = TRY(file.PRead(io, offset, {}));
    return std::string(reinterpret_cast<char*>(buffer.data()), n);
  }

  VfsContext ctx_;
  RefPtr<KernSuperblock> sb_;
  RefPtr<StaticDir> root_;
  RefPtr<Dentry> dentry_;
  RefPtr<Mount> mount_;
  RefPtr<MountNamespace> mounts_;
};

TEST_F(KernfsTest, ReadsALongTextInPartsAndKeepsOnlyOne) {
  RefPtr<CountedFile> file = AddFile("f", 30);
  const size_t before = RetainedText();
  RefPtr<FileDescription> f = Open("/f");
  std::string all;
  for (;;) {
    Result<std::string> piece = ReadAt(*f, static_cast<int64_t>(all.size()), 300);
    ASSERT_TRUE(piece.ok());
    if (piece->empty()) break;
    all += *piece;
    EXPECT_LE(RetainedText() - before, 1000u);
  }
  ASSERT_EQ(all.size(), 30000u);
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<char>('0' + i / 1000 % 10));
  EXPECT_EQ(file->generated, 31);
  EXPECT_EQ(RetainedText(), before);  // given back at the end of the file
}

TEST_F(KernfsTest, AnswersAnyOffset) {
  AddFile("f", 3);
  RefPtr<FileDescription> f = Open("/f");
  EXPECT_EQ(*ReadAt(*f, 2500, 1), "2");
  EXPECT_EQ(*ReadAt(*f, 1, 1), "0");
  EXPECT_EQ(*ReadAt(*f, 999, 10), "0");
  EXPECT_EQ(*ReadAt(*f, 1000, 1), "1");
  EXPECT_EQ(*ReadAt(*f, 3000, 10), "");
  EXPECT_EQ(*ReadAt(*f, INT64_MAX, 10), "");
  EXPECT_EQ(ReadAt(*f, -1, 10).error().value(), EINVAL);
  EXPECT_EQ(ReadAt(*f, INT64_MIN, 10).error().value(), EINVAL);
  EXPECT_EQ(*ReadAt(*f, 5, 0), "");
}

TEST_F(KernfsTest, SeeksWithinSixtyThreeBitsAndNotFromTheEnd) {
  AddFile("f", 3);
  RefPtr<FileDescription> f = Open("/f");
  EXPECT_EQ(*f->Seek(INT64_MAX, SEEK_SET), INT64_MAX);
  EXPECT_EQ(f->Seek(1, SEEK_CUR).error().value(), EINVAL);
  EXPECT_EQ(f->Seek(-1, SEEK_SET).error().value(), EINVAL);
  EXPECT_EQ(f->Seek(0, SEEK_END).error().value(), EINVAL);
  EXPECT_EQ(f->Seek(0, 77).error().value(), EINVAL);
}

TEST_F(KernfsTest, GeneratesAnewFromTheStartAndAfterAnError) {
  RefPtr<CountedFile> file = AddFile("f", 1);
  RefPtr<FileDescription> f = Open("/f");
  EXPECT_EQ(ReadAt(*f, 0, 10)->size(), 10u);
  EXPECT_EQ(ReadAt(*f, 10, 10)->size(), 10u);
  EXPECT_EQ(file->generated, 1);
  file->fail = true;
  EXPECT_EQ(ReadAt(*f, 20, 10)->size(), 10u);  // still in the part that is there
  EXPECT_EQ(ReadAt(*f, 0, 10).error().value(), ESRCH);
  EXPECT_EQ(ReadAt(*f, 20, 10).error().value(), ESRCH);
  file->fail = false;
  EXPECT_EQ(ReadAt(*f, 20, 10)->size(), 10u);
}

TEST_F(KernfsTest, BoundsWhatOpenFilesKeep) {
  root_->Add("big", NewText(sb_, [] { return std::string(kMaxRetainedText / 4, 'x'); }));
  const size_t before = RetainedText();
  std::vector<RefPtr<FileDescription>> files;
  int served = 0, refused = 0;
  for (int i = 0; i < 8; ++i) {
    files.push_back(Open("/big"));
    Result<std::string> r = ReadAt(*files.back(), 0, 1);
    (r.ok() ? served : refused)++;
    if (!r.ok()) {
      EXPECT_EQ(r.error().value(), ENOMEM);
    }
  }
  EXPECT_GE(served, 3);
  EXPECT_GE(refused, 4);
  files.clear();
  EXPECT_EQ(RetainedText(), before);
}

TEST_F(KernfsTest, TakesOnePageOfAWrite) {
  RefPtr<CountedFile> file = AddFile("f", 1);
  RefPtr<FileDescription> f = Open("/f", O_WRONLY);
  std::vector<std::byte> data(100000, std::byte{'a'});
  KernelIo io(data);
  EXPECT_EQ(*f->PWrite(io, 0, {}), 4095u);
  EXPECT_EQ(file->stored, std::string(4095, 'a'));
}

TEST_F(KernfsTest, TellsPollersOnceAboutAChange) {
  RefPtr<CountedFile> file = AddFile("f", 1);
  file->pollable = true;
  RefPtr<FileDescription> f = Open("/f");
  ASSERT_NE(f->wait_queue(), nullptr);
  EXPECT_EQ(f->Readiness() & (base::kEventPri | base::kEventErr), 0u);
  file->events.Notify(base::kEventPri | base::kEventErr);
  EXPECT_EQ(f->Readiness() & (base::kEventPri | base::kEventErr), base::kEventPri | base::kEventErr);
  EXPECT_EQ(f->Readiness() & (base::kEventPri | base::kEventErr), 0u);
  f.reset();
  file->events.Notify(base::kEventPri);  // nobody listens any more
}

TEST_F(KernfsTest, ListsWhatLookupFindsUnderTheSameNumbers) {
  for (int i = 0; i < 40; ++i) root_->Add("e" + std::to_string(i), NewText(sb_, std::string("x")));
  RefPtr<StaticDir> sub = root_->Subdir("sub");
  RefPtr<FileDescription> dir = Open("/", O_RDONLY | O_DIRECTORY);
  // One entry at a time.
  std::vector<std::pair<std::string, uint64_t>> seen;
  int64_t position = 0;
  for (;;) {
    bool taken = false;
    Result<int64_t> next = dir->ReadDir(position, [&](const Dirent& d) {
      if (taken) return false;
      seen.emplace_back(std::string(d.name), d.ino);
      return taken = true;
    });
    ASSERT_TRUE(next.ok());
    if (!taken) break;
    ASSERT_GT(*next, position);
    position = *next;
  }
  ASSERT_EQ(seen.size(), 43u);
  EXPECT_EQ(seen[0].first, ".");
  EXPECT_EQ(seen[1].first, "..");
  for (size_t i = 2; i < seen.size(); ++i) {
    Result<RefPtr<Inode>> child = root_->Lookup(seen[i].first);
    ASSERT_TRUE(child.ok());
    EXPECT_EQ((*child)->ino(), seen[i].second);
  }
  EXPECT_EQ(root_->GetAttr()->nlink, 3u);
}

TEST_F(KernfsTest, EndsADirectoryAtAnyForgedPosition) {
  root_->Add("a", NewText(sb_, std::string("x")));
  RefPtr<FileDescription> dir = Open("/", O_RDONLY | O_DIRECTORY);
  for (int64_t position :
       {int64_t{3}, int64_t{1000}, INT64_MAX, INT64_MAX - 1, int64_t{1} << 62, int64_t{-1}, INT64_MIN}) {
    int count = 0;
    EXPECT_TRUE(dir->ReadDir(position, [&](const Dirent&) { return ++count, true; }).ok());
    EXPECT_EQ(count, 0) << position;
  }
}

TEST_F(KernfsTest, FillsALazyDirectoryOnce) {
  int filled = 0;
  root_->Add("lazy", base::MakeRef<LazyDir>(sb_, [&filled](StaticDir& d) {
               ++filled;
               d.Add("x", NewText(d.kern_ref(), std::string("y")));
             }));
  EXPECT_EQ(filled, 0);
  EXPECT_EQ(*ReadAt(*Open("/lazy/x"), 0, 10), "y");
  EXPECT_FALSE(vfs::Open(ctx_, ctx_.root, "/lazy/z", {O_RDONLY, 0, 0}).ok());
  EXPECT_EQ(filled, 1);
}

TEST_F(KernfsTest, RefusesToMakeOrRemoveNames) {
  root_->Add("a", NewText(sb_, std::string("x")));
  EXPECT_EQ(vfs::Mkdir(ctx_, ctx_.root, "/d", 0755).error().value(), EPERM);
  EXPECT_EQ(vfs::Unlink(ctx_, ctx_.root, "/a").error().value(), EPERM);
  EXPECT_FALSE(vfs::Open(ctx_, ctx_.root, "/new", {O_WRONLY | O_CREAT, 0644, 0}).ok());
}

}  // namespace
}  // namespace sentry::kernfs
