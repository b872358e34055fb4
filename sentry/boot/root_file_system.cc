#include "sentry/boot/root_file_system.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "sentry/fs/tmpfs/tmpfs.h"

namespace sentry::boot {

absl::StatusOr<RootFileSystems> RootFileSystems::Open(Kernel& kernel, BootSpec& spec) {
  RootFileSystems roots(kernel, spec);
  if (spec.gofer.valid()) roots.client_ = gofer::Client::Create(std::move(spec.gofer));
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
  return Tree(0, spec_->root_access, spec_->root_overlay, "the root file system");
}

absl::StatusOr<vfs::NewMount> RootFileSystems::Bind(const MountSpec& mount) {
  if (!client_ || mount.gofer_mount < 0) {
    return absl::InternalError(absl::StrCat("bind mount ", mount.destination, ": no gofer serves it"));
  }
  return Tree(mount.gofer_mount, mount.access, mount.overlay, mount.destination);
}

absl::StatusOr<vfs::NewMount> RootFileSystems::Tree(int index, FileAccess access, OverlayMedium overlay, const std::string& what) {
  return absl::UnimplementedError(absl::StrCat("no gofer file system for ", what));
}

}  // namespace sentry::boot
