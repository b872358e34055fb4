// /proc/<pid>/fd and fdinfo.
#include <fcntl.h>

#include <charconv>
#include <cinttypes>

#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

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

std::string NameOf(const FileDescription& file) {
  VfsContext ctx;
  if (Task* reader = Task::Current()) ctx = reader->MakeVfsContext();
  return PathName(ctx, file.path());
}

class FdDir final : public kernfs::KernDir {
 public:
  FdDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, bool info)
      : KernDir(sb, 0500, OwnerOf(task)), sb_(std::move(sb)), task_(std::move(task)), info_(info) {}

  Result<void> CheckAccess(const Credentials& creds, int may) override {
    // The process itself may always look (fs/proc/fd.c, proc_fd_permission).
    Task* reader = Task::Current();
    if (reader != nullptr && &reader->thread_group() == &task_->thread_group()) return {};
    return Inode::CheckAccess(creds, may);
  }

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    std::optional<Fd> fd = ParseFd(name);
    if (!fd) return Errno(ENOENT);
    RefPtr<FileDescription> file = TRY(FileOf(*task_, *fd));
    if (info_) {
      kernfs::TextOps ops;
      ops.generate = [task = task_, n = *fd](VfsContext&) -> Result<std::string> {
        RefPtr<FileDescription> f = TRY(FileOf(*task, n));
        char text[160];
        RefPtr<FdTable> fds = task->SnapshotFds();
        const bool cloexec = fds && fds->CloseOnExec(n).value_or(false);
        snprintf(text, sizeof(text), "pos:\t%" PRId64 "\nflags:\t0%o\nmnt_id:\t%d\nino:\t%" PRIu64 "\n", f->position(),
                 f->flags() | (cloexec ? O_CLOEXEC : 0), f->path().mount ? f->path().mount->id() : 0, f->inode()->ino());
        return text + f->FdInfo();
      };
      return RefPtr<Inode>(base::MakeRef<kernfs::TextFile>(sb_, 0444, std::move(ops), OwnerOf(task_)));
    }
    kernfs::LinkOps ops;
    ops.text = [task = task_, n = *fd]() -> Result<std::string> {
      RefPtr<FileDescription> f = TRY(FileOf(*task, n));
      return NameOf(*f);
    };
    ops.follow = [task = task_, n = *fd](VfsContext& ctx) -> Result<VfsPath> {
      TRY(MayInspect(ctx, *task));
      RefPtr<FileDescription> f = TRY(FileOf(*task, n));
      return f->path();
    };
    const uint32_t permissions = (file->readable() ? 0500 : 0) | (file->writable() ? 0300 : 0);
    return RefPtr<Inode>(base::MakeRef<kernfs::KernLink>(sb_, std::move(ops), OwnerOf(task_), permissions));
  }

  // Never stale by name alone: the number may mean another file now.
  Result<bool> Revalidate(std::string_view name, Inode* child) override { return false; }

  std::vector<Entry> List(int64_t after, VfsContext& ctx) override {
    std::vector<Entry> entries;
    RefPtr<FdTable> fds = task_->SnapshotFds();
    if (!fds) return entries;
    for (Fd fd : fds->List()) {
      if (fd + 1 <= after) continue;
      entries.push_back({std::to_string(fd), info_ ? FileType::kRegular : FileType::kSymlink, 0, fd + 1});
    }
    return entries;
  }

 private:
  RefPtr<ProcSuperblock> sb_;
  RefPtr<Task> task_;
  const bool info_;
};

}  // namespace

RefPtr<Inode> NewFdDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, bool info) {
  return base::MakeRef<FdDir>(std::move(sb), std::move(task), info);
}

}  // namespace sentry::proc
