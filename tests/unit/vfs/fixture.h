// A tmpfs root with a context to use it from: for tests of everything that is made of files.
#ifndef TESTS_UNIT_VFS_FIXTURE_H_
#define TESTS_UNIT_VFS_FIXTURE_H_

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/safe_copy_unsafe.h"
#include "platform/memory_file.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/permission.h"
#include "sentry/vfs/vfs.h"

namespace sentry {

// EXPECT_OK(result) and EXPECT_ERRNO(ENOENT, result): with the name of the errno when they fail.
inline std::string ErrorOf(int e) { return e == 0 ? "success" : base::ErrnoName(e); }
template <typename T>
std::string ErrorOf(const Result<T>& r) {
  return ErrorOf(r.ok() ? 0 : r.error().value());
}
#define EXPECT_OK(...) EXPECT_EQ("success", ::sentry::ErrorOf(__VA_ARGS__))
#define ASSERT_OK(...) ASSERT_EQ("success", ::sentry::ErrorOf(__VA_ARGS__))
#define EXPECT_ERRNO(e, ...) EXPECT_EQ(::sentry::ErrorOf(e), ::sentry::ErrorOf(__VA_ARGS__))

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base::InstallSafeCopyHandlers();
    memory_ = std::move(*platform::MemoryFile::Create({}));
    MountRoot(*tmpfs::Create(*memory_, {.mode = 0755}));
  }
  void TearDown() override {
    ctx_ = {};
    user_ = {};
    mounts_ = nullptr;
    DentryCache::Get().ShrinkTo(0);
    EXPECT_EQ(DentryCache::Get().size(), 0u);
  }

  void MountRoot(vfs::NewMount root, uint64_t flags = 0) {
    auto mount = base::MakeRef<Mount>(root.superblock, root.root, flags, "none");
    mounts_ = base::MakeRef<MountNamespace>(mount);
    ctx_.mounts = mounts_.get();
    ctx_.root = ctx_.cwd = mounts_->Root();
    auto creds = base::MakeRef<Credentials>();
    creds->permitted = creds->effective = kAllCapabilities;
    ctx_.creds = creds;
    user_ = ctx_;
    user_.creds = User(1000, 1000);
  }
  static CredentialsRef User(uint32_t uid, uint32_t gid, std::vector<uint32_t> groups = {}) {
    auto creds = base::MakeRef<Credentials>();
    creds->ruid = creds->euid = creds->suid = creds->fsuid = uid;
    creds->rgid = creds->egid = creds->sgid = creds->fsgid = gid;
    creds->groups.assign(groups.begin(), groups.end());
    return creds;
  }
  // Mounts a new tmpfs on `path`.
  Result<RefPtr<Mount>> MountTmpfs(std::string_view path, const tmpfs::Options& options = {}, uint64_t flags = 0) {
    vfs::NewMount fs = TRY(tmpfs::Create(*memory_, options));
    return mounts_->AddMount(TRY(At(path)), base::MakeRef<Mount>(fs.superblock, fs.root, flags, "tmpfs"));
  }

  Result<VfsPath> At(std::string_view path, uint32_t flags = static_cast<uint32_t>(WalkFlag::kFollow)) {
    return TRY(WalkPath(ctx_, {}, path, flags)).path;
  }
  Result<RefPtr<FileDescription>> Open(std::string_view path, uint32_t flags, uint32_t mode = 0644) {
    return OpenAs(ctx_, path, flags, mode);
  }
  static Result<RefPtr<FileDescription>> OpenAs(VfsContext& ctx, std::string_view path, uint32_t flags,
                                                uint32_t mode = 0644) {
    return vfs::Open(ctx, {}, path, {.flags = flags, .mode = mode});
  }
  Result<void> Mkdir(std::string_view path, uint32_t mode = 0755) { return vfs::Mkdir(ctx_, {}, path, mode); }
  Result<void> Symlink(std::string_view target, std::string_view path) { return vfs::Symlink(ctx_, target, {}, path); }
  Result<void> Unlink(std::string_view path) { return vfs::Unlink(ctx_, {}, path); }
  Result<void> Rmdir(std::string_view path) { return vfs::Rmdir(ctx_, {}, path); }
  Result<void> Link(std::string_view from, std::string_view to) { return vfs::Link(ctx_, {}, from, {}, to, 0); }
  Result<void> Rename(std::string_view from, std::string_view to, uint32_t flags = 0) {
    return vfs::Rename(ctx_, {}, from, {}, to, flags);
  }
  Result<Attr> Stat(std::string_view path) { return TRY(At(path)).inode()->GetAttr(); }
  Result<Attr> Lstat(std::string_view path) { return TRY(At(path, 0)).inode()->GetAttr(); }
  std::string Name(const VfsPath& path) { return PathName(ctx_, path); }

  static Result<size_t> WriteTo(FileDescription& file, std::string_view text, int64_t offset = -1, IoFlags flags = {}) {
    std::string copy(text);
    KernelIo io(std::as_writable_bytes(std::span(copy)));
    flags.append = flags.append || (file.flags() & O_APPEND);
    return offset < 0 ? file.Write(io, flags) : file.PWrite(io, offset, flags);
  }
  static Result<std::string> ReadFrom(FileDescription& file, size_t max, int64_t offset = -1) {
    std::string text(max, '\0');
    KernelIo io(std::as_writable_bytes(std::span(text)));
    text.resize(TRY(offset < 0 ? file.Read(io, {}) : file.PRead(io, offset, {})));
    return text;
  }
  Result<void> Put(std::string_view path, std::string_view text, uint32_t mode = 0644) {
    auto file = TRY(Open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
    if (!text.empty()) TRY(WriteTo(*file, text));
    return {};
  }
  Result<std::string> Get(std::string_view path) {
    auto file = TRY(Open(path, O_RDONLY));
    std::string all;
    for (;;) {
      std::string part = TRY(ReadFrom(*file, 65536));
      if (part.empty()) return all;
      all += part;
    }
  }
  // Names in a directory, sorted, without "." and "..". `step`: entries per ReadDir.
  Result<std::vector<std::string>> List(std::string_view path, size_t step = 1000) {
    auto file = TRY(Open(path, O_RDONLY | O_DIRECTORY));
    std::vector<std::string> names;
    int64_t position = 0;
    for (;;) {
      size_t taken = 0;
      int64_t next = TRY(file->ReadDir(position, [&](const Dirent& d) {
        if (taken == step) return false;
        ++taken;
        if (d.name != "." && d.name != "..") names.emplace_back(d.name);
        return true;
      }));
      if (taken == 0) break;
      position = next;
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  std::unique_ptr<platform::MemoryFile> memory_;
  RefPtr<MountNamespace> mounts_;
  VfsContext ctx_;   // root with all capabilities
  VfsContext user_;  // uid and gid 1000 without any
};

}  // namespace sentry

#endif  // TESTS_UNIT_VFS_FIXTURE_H_
