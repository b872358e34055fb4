// /proc/<pid>/fd and fdinfo.
#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>

#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

constexpr uint32_t kLargeFile = 0100000;  // force_o_largefile: every file of a 64-bit program

std::optional<Fd> ParseFd(std::string_view name) {
  Fd fd = -1;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), fd);
  if (error != std::errc() || end != name.data() + name.size() || fd < 0) return std::nullopt;
  if (name.size() > 1 && name[0] == '0') return std::nullopt;
  return fd;
}

Result<RefPtr<FileDescription>> FileOf(Task& task, Fd fd) {
  RefPtr<FdTable> fds = task.SnapshotFds();
  if (!fds) return Errno(ENOENT);
  Result<RefPtr<FileDescription>> file = fds->Get(fd, /*allow_path=*/true);
  if (!file.ok()) return Errno(ENOENT);
  return file;
}

// fd/<n>: leads to the open file itself, whatever its name means by now. The number may come to mean another file while
// the link is in use, so that everything is looked up when it is asked for.
class FdLink final : public kernfs::KernLink {
 public:
  FdLink(const TaskRef& ref, Fd fd)
      : KernLink(ref.sb, 0, InoOf(ref, Area::kFd, static_cast<uint32_t>(fd) + 1)), ref_(ref), fd_(fd) {}
  Result<Attr> GetAttr() override {
    Attr a = TRY(KernLink::GetAttr());
    Result<RefPtr<FileDescription>> file = FileOf(*ref_.task, fd_);
    // tid_fd_update_inode: how it was opened.
    if (file.ok()) a.mode |= ((*file)->readable() ? 0500 : 0) | ((*file)->writable() ? 0300 : 0);
    a.size = 64;
    return a;
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return KernLink::SetAttr(change);
  }
  Result<std::string> ReadLink() override {
    VfsContext ctx;
    if (Task* reader = Task::Current()) {
      ctx = reader->MakeVfsContext();
      TRY(MayInspect(ctx, *ref_.task));
    }
    RefPtr<FileDescription> file = TRY(FileOf(*ref_.task, fd_));
    return PathName(ctx, file->path());
  }
  bool IsMagicLink() const override { return true; }
  Result<VfsPath> FollowMagicLink(VfsContext& ctx) override {
    TRY(MayInspect(ctx, *ref_.task));
    RefPtr<FileDescription> file = TRY(FileOf(*ref_.task, fd_));
    return file->path();
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*ref_.task); }

 private:
  const TaskRef ref_;
  const Fd fd_;
};

class FdInfo final : public kernfs::TextFile {
 public:
  FdInfo(const TaskRef& ref, Fd fd)
      : TextFile(ref.sb, 0444, InoOf(ref, Area::kFdInfo, static_cast<uint32_t>(fd) + 1)), ref_(ref), fd_(fd) {}
  Result<void> CheckOpen(VfsContext& ctx) override { return MayInspect(ctx, *ref_.task); }
  Result<std::string> Generate(VfsContext&, uint64_t& cursor) override {
    cursor = kDone;
    RefPtr<FdTable> fds = ref_.task->SnapshotFds();
    if (!fds) return Errno(ENOENT);
    RefPtr<FileDescription> file = TRY(FileOf(*ref_.task, fd_));
    const bool cloexec = fds->CloseOnExec(fd_).value_or(false);
    char text[160];
    snprintf(text, sizeof(text), "pos:\t%" PRId64 "\nflags:\t0%o\nmnt_id:\t%d\nino:\t%" PRIu64 "\n", file->position(),
             file->flags() | (cloexec ? O_CLOEXEC : 0) | kLargeFile, file->path().mount ? file->path().mount->id() : 0,
             file->inode()->ino());
    return text + file->FdInfo();
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*ref_.task); }

 private:
  const TaskRef ref_;
  const Fd fd_;
};

class FdDir final : public kernfs::KernDir {
 public:
  FdDir(const TaskRef& ref, bool info, uint64_t ino)
      : KernDir(ref.sb, info ? 0555 : 0500, ino), ref_(ref), info_(info) {}

  Result<void> CheckAccess(const Credentials& creds, int may) override {
    // The process itself may always look (proc_fd_permission).
    Task* reader = Task::Current();
    if (reader != nullptr && &reader->thread_group() == &ref_.task->thread_group()) return {};
    if (info_) {
      // proc_fdinfo_permission: whoever may inspect the process.
      VfsContext ctx;
      ctx.creds = CredentialsRef(&creds);
      return MayInspect(ctx, *ref_.task);
    }
    return KernDir::CheckAccess(creds, may);
  }
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return KernDir::SetAttr(change);
  }

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    std::optional<Fd> fd = ParseFd(name);
    if (!fd) return Errno(ENOENT);
    TRY(FileOf(*ref_.task, *fd));
    if (info_) return RefPtr<Inode>(base::MakeRef<FdInfo>(ref_, *fd));
    return RefPtr<Inode>(base::MakeRef<FdLink>(ref_, *fd));
  }
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    std::optional<Fd> fd = ParseFd(name);
    return fd && child != nullptr && FileOf(*ref_.task, *fd).ok();
  }

  Result<std::vector<Entry>> List(int64_t after) override {
    std::vector<Entry> entries;
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    RefPtr<FdTable> fds = ref_.task->SnapshotFds();
    if (!fds) return entries;
    const Area area = info_ ? Area::kFdInfo : Area::kFd;
    constexpr size_t kBatch = 1024;
    for (Fd fd : fds->List()) {
      if (fd + 1 <= after) continue;
      entries.push_back({std::to_string(fd), info_ ? FileType::kRegular : FileType::kSymlink,
                         InoOf(ref_, area, static_cast<uint32_t>(fd) + 1), int64_t{fd} + 1});
      if (entries.size() == kBatch) break;
    }
    return entries;
  }

 protected:
  kernfs::Owner GetOwner() override { return OwnerOf(*ref_.task); }
  // proc_readfd_count: the number of descriptors, so that programs need not list them.
  int64_t Size() override {
    if (info_) return 0;
    RefPtr<FdTable> fds = ref_.task->SnapshotFds();
    return fds ? static_cast<int64_t>(fds->List().size()) : 0;
  }

 private:
  const TaskRef ref_;
  const bool info_;
};

}  // namespace

RefPtr<Inode> NewFdDir(const TaskRef& ref, uint64_t ino) { return base::MakeRef<FdDir>(ref, /*info=*/false, ino); }
RefPtr<Inode> NewFdInfoDir(const TaskRef& ref, uint64_t ino) { return base::MakeRef<FdDir>(ref, /*info=*/true, ino); }

}  // namespace sentry::proc
