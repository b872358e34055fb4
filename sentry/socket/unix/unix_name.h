// The three forms of a UNIX socket's address: a path, an abstract name (a NUL first), or none. (man 7 unix)
#ifndef SENTRY_SOCKET_UNIX_UNIX_NAME_H_
#define SENTRY_SOCKET_UNIX_UNIX_NAME_H_

#include <sys/un.h>

#include <cstddef>
#include <string>

#include "base/errno.h"
#include "sentry/socket/socket_address.h"

namespace sentry {

inline constexpr size_t kUnixPathOffset = offsetof(sockaddr_un, sun_path);

inline bool IsAbstractUnixName(const SocketAddress& a) {
  return a.length > kUnixPathOffset && a.bytes[kUnixPathOffset] == 0;
}
// All bytes behind the family, NULs included.
inline std::string UnixNameBytes(const SocketAddress& a) {
  return std::string(reinterpret_cast<const char*>(a.bytes) + kUnixPathOffset, a.length - kUnixPathOffset);
}
// The path, which ends at the first NUL.
inline std::string UnixPathOf(const SocketAddress& a) {
  std::string path = UnixNameBytes(a);
  return path.substr(0, path.find('\0'));
}
inline SocketAddress UnnamedUnixSocket() {
  uint16_t family = AF_UNIX;
  return SocketAddress::Of(family);
}
// unix_validate_addr()
inline base::Result<void> ValidateUnixName(const SocketAddress& a) {
  if (a.length <= kUnixPathOffset || a.length > sizeof(sockaddr_un) || a.family() != AF_UNIX) {
    return base::Errno(EINVAL);
  }
  return {};
}

}  // namespace sentry

#endif  // SENTRY_SOCKET_UNIX_UNIX_NAME_H_
