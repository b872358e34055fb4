// SIOCGIF… (man 7 netdevice): what there is to know about lo. Changing it is EPERM.
#ifndef SENTRY_SOCKET_INTERFACE_IOCTL_H_
#define SENTRY_SOCKET_INTERFACE_IOCTL_H_

#include "sentry/vfs/file_description.h"

namespace sentry {

// ENOTTY for other commands, ENODEV for other interfaces.
Result<int64_t> InterfaceIoctl(const IoctlArgs& args);

}  // namespace sentry

#endif  // SENTRY_SOCKET_INTERFACE_IOCTL_H_
