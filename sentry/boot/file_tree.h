// Builds a container's mount namespace out of its BootSpec. With sentry/boot/registry.cc the only place that names
// concrete file systems.
#ifndef SENTRY_BOOT_FILE_TREE_H_
#define SENTRY_BOOT_FILE_TREE_H_

#include "absl/status/statusor.h"
#include "sentry/boot/boot.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

// Takes the gofer connection and the overlay's file out of the spec. Parks. The message says which mount failed.
absl::StatusOr<RefPtr<MountNamespace>> BuildFileTree(Kernel& kernel, BootSpec& spec);

// The type that serves a mount of the configuration; null if there is none.
const vfs::FileSystemType* FindFileSystemFor(const MountSpec& spec);

// mkdir -p as root, before the first process. Existing directories are left alone.
Result<void> MakeDirectories(VfsContext& ctx, std::string_view path, uint32_t mode);
// A context with all capabilities at the root of `mounts`.
VfsContext RootContext(MountNamespace& mounts);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_FILE_TREE_H_
