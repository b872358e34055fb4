// Which code makes the sockets of a family: filled by sentry/boot before the first task, read-only afterwards (kernel:
// net_families and inetsw). With --network=host boot registers others for the internet families.
#ifndef SENTRY_SOCKET_PROVIDER_H_
#define SENTRY_SOCKET_PROVIDER_H_

#include <functional>

#include "sentry/socket/network_namespace.h"
#include "sentry/socket/socket.h"

namespace sentry {

struct SocketRequest {
  RefPtr<NetworkNamespace> net;
  int family, type, protocol;
  uint32_t file_flags = 0;  // O_NONBLOCK
  CredentialsRef creds;
};
struct SocketProvider {
  int family;
  std::function<Result<RefPtr<Socket>>(const SocketRequest&)> create;
  // EOPNOTSUPP if empty.
  std::function<Result<std::pair<RefPtr<Socket>, RefPtr<Socket>>>(const SocketRequest&)> create_pair;
};
// Replaces an earlier one for the same family.
void RegisterSocketProvider(SocketProvider provider);
// EAFNOSUPPORT without one.
Result<const SocketProvider*> FindSocketProvider(int family);

}  // namespace sentry

#endif  // SENTRY_SOCKET_PROVIDER_H_
