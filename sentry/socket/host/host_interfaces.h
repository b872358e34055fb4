// What a guest with --network=host learns of the host's interfaces besides NETLINK_ROUTE, which are sockets of the host
// (host_socket.h): SIOCGIF… and the files of /proc/net.
#ifndef SENTRY_SOCKET_HOST_HOST_INTERFACES_H_
#define SENTRY_SOCKET_HOST_HOST_INTERFACES_H_

#include <string>

#include "sentry/vfs/file_description.h"

namespace sentry {

// Whether the host answers this command, and its answer: `fd` is a socket of the host. Only questions, and only those
// whose argument holds no pointers; SIOCGIFCONF's buffer is the sentry's.
bool IsHostInterfaceIoctl(uint32_t command);
Result<int64_t> HostInterfaceIoctl(int fd, const IoctlArgs& args);

// The text of a file of the host's /proc/net that was opened before the sandbox was closed. At most 4 MiB of it.
std::string HostProcText(int fd);

}  // namespace sentry

#endif  // SENTRY_SOCKET_HOST_HOST_INTERFACES_H_
