#include "sentry/boot/root_file_system.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/socket/host/host_socket.h"

namespace sentry::boot {

absl::StatusOr<RootFileSystems> RootFileSystems::Open(Kernel& kernel, BootSpec& spec) {
  RootFileSystems roots(kernel, spec);
  if (spec.gofer.valid()) roots.client_ = gofer::Client::Create(std::move(spec.gofer));
  if (roots.client_ && spec.network == NetworkMode::kHost) {
    SetPortBinder([client = roots.client_](int fd, std::string_view address) { return client->BindPort(fd, address); });
  }
  return roots;
}

absl::StatusOr<vfs::NewMount> RootFileSystems::Root() {
  if (!client_) {
    tmpfs::Options options;
    options.mode = 0755;
    Result<vfs::NewMount> root = tmpfs::Create(kernel_->memory_file(), options);
    if (!root.ok()) return absl::InternalError(absl::StrCat("cannot make the root: ", strerror(root.error().value())));
    return *root;
  }
  return Tree(0, spec_->root_access, spec_->root_overlay, spec_->overlay_file, "the root file system");
}

absl::StatusOr<vfs::NewMount> RootFileSystems::Bind(MountSpec& mount) {
  if (!client_ || mount.gofer_mount < 0) {
    return absl::InternalError(absl::StrCat("bind mount ", mount.destination, ": no gofer serves it"));
  }
  return Tree(mount.gofer_mount, mount.access, mount.overlay, mount.overlay_file, mount.destination);
}

absl::StatusOr<vfs::NewMount> RootFileSystems::Tree(int index, FileAccess access, OverlayMedium overlay,
                                                    base::UniqueFd& file, const std::string& what) {
  auto failed = [&](base::Errno error) {
    return absl::InternalError(absl::StrCat("cannot serve ", what, ": ", strerror(error.value())));
  };
  goferfs::Options options;
  // Under an overlay nobody writes the tree but the host, and a tree that is only read may be cached as long as the
  // mount says so.
  options.access = access == FileAccess::kExclusive ? goferfs::Access::kExclusive : goferfs::Access::kShared;
  Result<vfs::NewMount> tree = goferfs::Create(client_, static_cast<uint32_t>(index), options);
  if (!tree.ok()) return failed(tree.error());
  if (overlay == OverlayMedium::kNone) return *tree;

  RefPtr<Inode> root = tree->root->inode();
  if (!root || !root->is_dir()) return *tree;
  Result<Attr> attr = root->GetAttr();
  if (!attr.ok()) return failed(attr.error());
  tmpfs::Options memory;
  memory.mode = attr->mode & 07777;
  memory.uid = attr->uid;
  memory.gid = attr->gid;
  memory.charged_to = &kernel_->memory_file();
  if (spec_->overlay_size_limit != 0) memory.size = spec_->overlay_size_limit;
  Result<vfs::NewMount> upper = Errno(EINVAL);
  if (overlay == OverlayMedium::kFile) {
    auto disk = platform::MemoryFile::CreateOn(std::move(file), {});
    if (!disk.ok()) {
      return absl::InternalError(absl::StrCat("--overlay2: the file that holds the changes to ", what,
                                              " cannot be used: ", strerror(disk.error().value())));
    }
    upper = tmpfs::Create(std::move(*disk), memory);
  } else {
    upper = tmpfs::Create(kernel_->memory_file(), memory);
  }
  if (!upper.ok()) return failed(upper.error());
  Result<vfs::NewMount> joined = overlay::Create({*upper, *tree});
  if (!joined.ok()) return failed(joined.error());
  return *joined;
}

}  // namespace sentry::boot
