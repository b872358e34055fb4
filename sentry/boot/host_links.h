// The network devices that a guest with --network=host sees, for /sys/class/net.
#ifndef SENTRY_BOOT_HOST_LINKS_H_
#define SENTRY_BOOT_HOST_LINKS_H_

#include <vector>

#include "sentry/fs/sys/sys.h"

namespace sentry::boot {

// As the host's RTM_GETLINK answers now; at most kMaxLinks. Empty if the host does not answer.
std::vector<sys::NetDevice> HostLinks();
inline constexpr size_t kMaxLinks = 4096;

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_HOST_LINKS_H_
