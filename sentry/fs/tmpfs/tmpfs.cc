#include "sentry/fs/tmpfs/tmpfs.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "absl/strings/str_cat.h"
#include "sentry/fs/tmpfs/file.h"
#include "sentry/fs/tmpfs/inode.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 16U
#endif

namespace sentry::tmpfs {

namespace {

Result<vfs::NewMount> MountOf(RefPtr<TmpfsSuperblock> sb, const Options& options) {
  InodeCharge charge = TRY(InodeCharge::Take(*sb));
  auto root = base::MakeRef<TmpfsDirectory>(sb, NewNode{.mode = options.mode, .uid = options.uid, .gid = options.gid});
  charge.Keep();
  vfs::NewMount mount;
  mount.superblock = std::move(sb);
  mount.root = Dentry::MakeRoot(std::move(root));
  return mount;
}

}  // namespace

Result<vfs::NewMount> Create(platform::MemoryFile& memory, const Options& options) {
  return MountOf(base::MakeRef<TmpfsSuperblock>(memory, options), options);
}

Result<vfs::NewMount> Create(std::unique_ptr<platform::MemoryFile> memory, const Options& options) {
  return MountOf(base::MakeRef<TmpfsSuperblock>(std::move(memory), options), options);
}

void Register(platform::MemoryFile& memory, uint64_t total_memory) {
  vfs::FileSystemType type;
  type.name = "tmpfs";
  type.mount = [&memory, total_memory](VfsContext&, const vfs::MountRequest& request) -> Result<vfs::NewMount> {
    Options defaults;
    defaults.size = PageRoundUp(total_memory / 2);
    if (request.creds) {
      defaults.uid = request.creds->fsuid;
      defaults.gid = request.creds->fsgid;
    }
    return Create(memory, TRY(ParseOptions(request.options, defaults, total_memory)));
  };
  vfs::RegisterFileSystem(type);
}

Result<RefPtr<FileDescription>> NewMemfd(platform::MemoryFile& memory, VfsContext& ctx, std::string_view name,
                                         uint32_t flags) {
  constexpr uint32_t kKnown = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
  if ((flags & ~kKnown) || ((flags & MFD_EXEC) && (flags & MFD_NOEXEC_SEAL))) return Errno(EINVAL);
  if (name.size() > 249) return Errno(EINVAL);  // NAME_MAX without "memfd:"
  // Linux has one kernel mount for all of them (shm_mnt); the limit here is the memory file's.
  auto sb = base::MakeRef<TmpfsSuperblock>(memory, Options{});
  InodeCharge charge = TRY(InodeCharge::Take(*sb));
  uint32_t seals = flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) ? 0 : kSealSeal;
  uint32_t mode = 0777;
  if (flags & MFD_NOEXEC_SEAL) {
    mode = 0666;
    seals |= kSealExec;
  }
  NewNode node{.mode = mode, .uid = ctx.creds->fsuid, .gid = ctx.creds->fsgid};
  auto file = base::MakeRef<TmpfsFile>(sb, node, seals);
  charge.Keep();
  file->AddLinks(-1);
  std::string shown = absl::StrCat("/memfd:", absl::string_view(name.data(), name.size()), " (deleted)");
  file->SetMappedName(shown);
  VfsPath path{nullptr, Dentry::MakeAnonymous(file, std::move(shown))};
  return file->Open(path, O_RDWR | O_LARGEFILE, ctx);
}

Result<uint32_t> GetSeals(FileDescription& file) {
  RefPtr<Inode> inode = file.inode();
  auto* f = dynamic_cast<TmpfsFile*>(inode.get());
  if (f == nullptr) return Errno(EINVAL);
  return f->seals();
}

Result<void> AddSeals(FileDescription& file, uint32_t seals) {
  RefPtr<Inode> inode = file.inode();
  auto* f = dynamic_cast<TmpfsFile*>(inode.get());
  if (f == nullptr) return Errno(EINVAL);
  if (!file.writable()) return Errno(EPERM);
  if (seals & ~(kSealSeal | kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite | kSealExec)) return Errno(EINVAL);
  return f->AddSeals(seals);
}

}  // namespace sentry::tmpfs
