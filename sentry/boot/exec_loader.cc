#include "sentry/boot/exec_loader.h"

#include <fcntl.h>
#include <sys/mount.h>

#include "sentry/kernel/exec_credentials.h"
#include "sentry/loader/loader.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

namespace {

// do_open_execat: a regular file, on a mount that allows it, executable for the caller.
Result<RefPtr<FileDescription>> OpenExecutable(VfsContext& ctx, const VfsPath& start, std::string_view path,
                                               uint32_t at_flags) {
  uint32_t walk = (at_flags & AT_SYMLINK_NOFOLLOW) ? 0 : static_cast<uint32_t>(WalkFlag::kFollow);
  if (at_flags & AT_EMPTY_PATH) walk |= static_cast<uint32_t>(WalkFlag::kEmptyPath);
  WalkResult found = TRY(WalkPath(ctx, start, path, walk));
  RefPtr<Inode> inode = found.path.inode();
  if (!inode) return Errno(ENOENT);
  if (inode->type() == FileType::kSymlink) return Errno(ELOOP);
  if (inode->type() != FileType::kRegular) return Errno(EACCES);
  if (found.path.mount && (found.path.mount->flags() & MS_NOEXEC)) return Errno(EACCES);
  TRY(inode->CheckAccess(*ctx.creds, 1));
  // Even CAP_DAC_OVERRIDE needs one execute bit.
  Attr attr = TRY(inode->GetAttr());
  if ((attr.mode & 0111) == 0) return Errno(EACCES);
  RefPtr<FileDescription> file = TRY(vfs::OpenPath(ctx, found.path, O_RDONLY, /*trusted=*/true));
  TRY(file->DenyWrites());
  return file;
}

// Whether an exec that gains nothing keeps the host's side of the task's address space: nobody else uses it, and
// nobody watches. A task that is alone there stays so, for only itself could make another.
bool MayTakeOver(Task& task) {
  return task.has_mm() && task.mm().users() == 1 && task.mm().dumpable.load() == 1 && !task.traced() &&
         task.mm().address_space().CanRenew(task.context());
}

}  // namespace

ExecLoader MakeExecLoader(Kernel& kernel, RefPtr<loader::Vdso> vdso) {
  return [&kernel, vdso = std::move(vdso)](Task& task, const Task::ExecRequest& request) -> Result<ExecImage> {
    VfsContext ctx = task.MakeVfsContext();
    ctx.blocker = nullptr;
    loader::LoadArgs args;
    args.env = &kernel.mm_env();
    args.vdso = vdso.get();
    args.file = TRY(OpenExecutable(ctx, request.start, request.path, request.at_flags));
    args.filename = request.filename.empty() ? request.path : request.filename;
    args.path_inaccessible = request.path_inaccessible;
    args.open = [&](const std::string& path) { return OpenExecutable(ctx, task.fs().cwd(), path, 0); };
    ExecCredentials fresh;
    args.identify = [&](FileDescription& executable) -> Result<loader::ExecIdentity> {
      fresh = TRY(CredentialsAfterExec(task.creds(), executable, task.WatchedWithoutCapability()));
      return loader::ExecIdentity{fresh.creds->ruid, fresh.creds->euid, fresh.creds->rgid, fresh.creds->egid,
                                  fresh.secure};
    };
    args.argv = request.argv;
    args.envp = request.envp;
    args.limits = task.mm_limits();
    kernel.GetRandom(args.random);
    constexpr uint64_t kAddrNoRandomize = 0x0040000;
    args.randomize = !(task.personality & kAddrNoRandomize);
    args.detached = true;
    loader::LoadedImage loaded = TRY(loader::Load(std::move(args)));
    ExecImage image;
    image.mm = loaded.mm;
    image.entry = loaded.entry;
    image.stack = loaded.stack;
    image.comm = loaded.comm;
    image.path = loaded.executable->path();
    image.creds = fresh.creds;
    image.secure = fresh.secure;
    // man 2 prctl, PR_SET_DUMPABLE: off for programs that gained ids, or that their user may not read.
    Result<void> readable = loaded.executable->inode()->CheckAccess(*fresh.creds, 4);
    const bool dumpable = !fresh.ids_changed && readable.ok();
    image.mm->dumpable.store(dumpable ? 1 : 0);
    image.takes_over = dumpable && !fresh.gains && MayTakeOver(task);
    if (image.takes_over) return image;
    if (Result<void> attached = image.mm->Attach(); !attached.ok()) {
      image.mm->DropUser();
      return attached.error();
    }
    return image;
  };
}

}  // namespace sentry::boot
