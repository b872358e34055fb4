// The trees that the gofer serves, as file systems with their overlays: the root, and every bind mount.
#ifndef SENTRY_BOOT_ROOT_FILE_SYSTEM_H_
#define SENTRY_BOOT_ROOT_FILE_SYSTEM_H_

#include "absl/status/statusor.h"
#include "gofer/client/client.h"
#include "sentry/boot/boot.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

class RootFileSystems {
 public:
  // Takes the connection out of the spec. Without one (tests) the root is an empty tmpfs.
  static absl::StatusOr<RootFileSystems> Open(Kernel& kernel, BootSpec& spec);
  absl::StatusOr<vfs::NewMount> Root();
  absl::StatusOr<vfs::NewMount> Bind(MountSpec& mount);

 private:
  RootFileSystems(Kernel& kernel, BootSpec& spec) : kernel_(&kernel), spec_(&spec) {}
  // `file`: taken with OverlayMedium::kFile.
  absl::StatusOr<vfs::NewMount> Tree(int index, FileAccess access, OverlayMedium overlay, base::UniqueFd& file,
                                     const std::string& what);
  Kernel* kernel_;
  BootSpec* spec_;
  RefPtr<gofer::Client> client_;
};

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_ROOT_FILE_SYSTEM_H_
