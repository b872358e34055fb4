#include "sentry/boot/file_tree.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "sentry/boot/root_file_system.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

namespace {

constexpr uint32_t kFollowDirectory =
    static_cast<uint32_t>(WalkFlag::kFollow) | static_cast<uint32_t>(WalkFlag::kDirectory);
constexpr uint64_t kGuestVisible =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

absl::Status MountError(std::string_view what, const std::string& path, base::Errno error) {
  return absl::InternalError(
      absl::StrCat(absl::string_view(what.data(), what.size()), " ", path, ": ", strerror(error.value())));
}

// The mount point, made if it is missing: a directory, or an empty file for a bind mount of a file.
absl::StatusOr<VfsPath> MountPoint(VfsContext& ctx, const MountSpec& spec) {
  if (spec.source_is_file) {
    const size_t slash = spec.destination.rfind('/');
    if (slash != std::string::npos && slash > 0) {
      Result<void> made = MakeDirectories(ctx, spec.destination.substr(0, slash), 0755);
      if (!made.ok()) return MountError("cannot make the directory of the mount point", spec.destination, made.error());
    }
    (void)vfs::Open(ctx, ctx.root, spec.destination, {O_RDONLY | O_CREAT | O_NONBLOCK, 0644, 0});
    Result<WalkResult> found = WalkPath(ctx, ctx.root, spec.destination, static_cast<uint32_t>(WalkFlag::kFollow));
    if (!found.ok()) return MountError("cannot find the mount point", spec.destination, found.error());
    return found->path;
  }
  Result<void> made = MakeDirectories(ctx, spec.destination, 0755);
  if (!made.ok()) return MountError("cannot make the mount point", spec.destination, made.error());
  Result<WalkResult> found = WalkPath(ctx, ctx.root, spec.destination, kFollowDirectory);
  if (!found.ok()) return MountError("cannot find the mount point", spec.destination, found.error());
  return found->path;
}

absl::Status MountOne(Kernel& kernel, VfsContext& ctx, BootSpec& boot, RootFileSystems& roots, MountSpec& spec) {
  vfs::NewMount fresh;
  std::string source = spec.source.empty() ? spec.type : spec.source;
  if (spec.type == "bind") {
    ASSIGN_OR_RETURN(fresh, roots.Bind(spec));
  } else {
    const vfs::FileSystemType* type = FindFileSystemFor(spec);
    if (type == nullptr) {
      // What the sandbox has no file system for is left out, as an empty directory: engines mount cgroup by default.
      LOG_WARNING("mount %s: no file system of type \"%s\" in the sandbox; left out", spec.destination.c_str(),
                  spec.type.c_str());
      return absl::OkStatus();
    }
    Result<vfs::NewMount> made = type->mount(ctx, {source, spec.data, spec.flags, ctx.creds});
    if (!made.ok()) return MountError(absl::StrCat("cannot mount ", spec.type, " at"), spec.destination, made.error());
    fresh = *made;
  }
  ASSIGN_OR_RETURN(VfsPath at, MountPoint(ctx, spec));
  RefPtr<Mount> mount = base::MakeRef<Mount>(fresh.superblock, fresh.root, spec.flags & kGuestVisible, source);
  Result<RefPtr<Mount>> added = ctx.mounts->AddMount(at, mount);
  if (!added.ok()) return MountError("cannot mount", spec.destination, added.error());
  return absl::OkStatus();
}

// A mount of part of the tree on itself, read-only.
absl::Status RemountReadOnly(VfsContext& ctx, const std::string& path) {
  Result<WalkResult> found = WalkPath(ctx, ctx.root, path, static_cast<uint32_t>(WalkFlag::kFollow));
  if (!found.ok()) return absl::OkStatus();  // as runc: what is not there needs no protection
  const Mount& below = *found->path.mount;
  RefPtr<Mount> mount = base::MakeRef<Mount>(RefPtr<Superblock>(&found->path.dentry->superblock()), found->path.dentry,
                                             below.flags() | MS_RDONLY, below.source());
  Result<RefPtr<Mount>> added = ctx.mounts->AddMount(found->path, mount);
  if (!added.ok()) return MountError("cannot make read-only", path, added.error());
  return absl::OkStatus();
}

// Directories are hidden by an empty read-only tmpfs, files by /dev/null (runtime specification, maskedPaths).
absl::Status Mask(VfsContext& ctx, const std::string& path) {
  Result<WalkResult> found = WalkPath(ctx, ctx.root, path, static_cast<uint32_t>(WalkFlag::kFollow));
  if (!found.ok()) return absl::OkStatus();
  RefPtr<Inode> inode = found->path.inode();
  if (!inode) return absl::OkStatus();
  RefPtr<Mount> mount;
  if (inode->is_dir()) {
    Result<vfs::NewMount> empty =
        vfs::FindFileSystem("tmpfs")->mount(ctx, {"tmpfs", "size=0k,nr_inodes=1", MS_RDONLY, ctx.creds});
    if (!empty.ok()) return MountError("cannot mask", path, empty.error());
    mount = base::MakeRef<Mount>(empty->superblock, empty->root, MS_RDONLY, "tmpfs");
  } else {
    Result<WalkResult> null = WalkPath(ctx, ctx.root, "/dev/null", 0);
    if (!null.ok()) return MountError("cannot mask (no /dev/null)", path, null.error());
    mount =
        base::MakeRef<Mount>(RefPtr<Superblock>(&null->path.dentry->superblock()), null->path.dentry, 0, "/dev/null");
  }
  Result<RefPtr<Mount>> added = ctx.mounts->AddMount(found->path, mount);
  if (!added.ok()) return MountError("cannot mask", path, added.error());
  return absl::OkStatus();
}

bool Mounts(const BootSpec& spec, std::string_view destination) {
  for (const MountSpec& m : spec.mounts) {
    if (m.destination == destination) return true;
  }
  return false;
}

}  // namespace

const vfs::FileSystemType* FindFileSystemFor(const MountSpec& spec) {
  // runc fills a tmpfs at /dev with the default devices of the specification; ours comes filled.
  if (spec.destination == "/dev" && spec.type == "tmpfs") return vfs::FindFileSystem("devtmpfs");
  return vfs::FindFileSystem(spec.type);
}

VfsContext RootContext(MountNamespace& mounts) {
  VfsContext ctx;
  ctx.mounts = &mounts;
  ctx.root = ctx.cwd = mounts.Root();
  RefPtr<Credentials> root = base::MakeRef<Credentials>();
  root->permitted = root->effective = root->bounding = kAllCapabilities;
  ctx.creds = CredentialsRef(std::move(root));
  ctx.umask = 0;
  return ctx;
}

Result<void> MakeDirectories(VfsContext& ctx, std::string_view path, uint32_t mode) {
  for (size_t at = 0; at < path.size();) {
    at = path.find('/', at + 1);
    const std::string_view prefix = path.substr(0, at);
    if (prefix.empty() || prefix == "/") continue;
    Result<WalkResult> found = WalkPath(ctx, ctx.root, prefix, static_cast<uint32_t>(WalkFlag::kFollow));
    if (!found.ok()) {
      if (!found.failed_with(ENOENT)) return found.error();
      Result<void> made = vfs::Mkdir(ctx, ctx.root, prefix, mode);
      if (!made.ok() && !made.failed_with(EEXIST)) return made.error();
    }
    if (at == std::string_view::npos) break;
  }
  return {};
}

absl::StatusOr<RefPtr<MountNamespace>> BuildFileTree(Kernel& kernel, BootSpec& spec) {
  ASSIGN_OR_RETURN(RootFileSystems roots, RootFileSystems::Open(kernel, spec));
  ASSIGN_OR_RETURN(vfs::NewMount root, roots.Root());
  RefPtr<MountNamespace> mounts =
      base::MakeRef<MountNamespace>(base::MakeRef<Mount>(root.superblock, root.root, 0, "none"));
  VfsContext ctx = RootContext(*mounts);
  // A container without /proc or /dev runs hardly any program: those two are there even if the configuration leaves
  // them out.
  for (auto [destination, type] : {std::pair("/proc", "proc"), std::pair("/dev", "devtmpfs")}) {
    if (Mounts(spec, destination)) continue;
    MountSpec extra;
    extra.destination = destination;
    extra.type = type;
    absl::Status status = MountOne(kernel, ctx, spec, roots, extra);
    if (!status.ok()) LOG_WARNING("%s", std::string(status.message()).c_str());
  }
  for (MountSpec& m : spec.mounts) RETURN_IF_ERROR(MountOne(kernel, ctx, spec, roots, m));
  for (const std::string& path : spec.readonly_paths) RETURN_IF_ERROR(RemountReadOnly(ctx, path));
  for (const std::string& path : spec.masked_paths) RETURN_IF_ERROR(Mask(ctx, path));
  if (spec.root_readonly) ctx.root.mount->set_flags(ctx.root.mount->flags() | MS_RDONLY);
  return mounts;
}

}  // namespace sentry::boot
