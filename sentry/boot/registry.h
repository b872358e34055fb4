// Everything that the kernel knows only through registries: file systems, devices, namespaces of sockets.
#ifndef SENTRY_BOOT_REGISTRY_H_
#define SENTRY_BOOT_REGISTRY_H_

#include "absl/status/status.h"
#include "sentry/boot/boot.h"
#include "sentry/kernel/kernel.h"

namespace sentry::boot {

// Once per process, before the first mount.
absl::Status RegisterAll(Kernel& kernel, const BootSpec& spec);
// The container's network namespace, for Task::net().
RefPtr<base::RefCounted> NewNetworkNamespace(Kernel& kernel, const BootSpec& spec);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_REGISTRY_H_
