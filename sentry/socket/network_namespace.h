// NetworkNamespace: what sockets of one network share: names and ports. One interface, lo, which is always up.
#ifndef SENTRY_SOCKET_NETWORK_NAMESPACE_H_
#define SENTRY_SOCKET_NETWORK_NAMESPACE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/socket/port_table.h"

namespace sentry {

using base::RefPtr;

class NetworkNamespace final : public base::RefCounted {
 public:
  PortTable& tcp() { return tcp_; }
  PortTable& udp() { return udp_; }

  // --- Abstract UNIX names (man 7 unix). The object is the family's.
  bool AddName(const std::string& name, RefPtr<base::RefCounted> object) EXCLUDES(mu_);
  RefPtr<base::RefCounted> FindName(const std::string& name) EXCLUDES(mu_);
  void RemoveName(const std::string& name, const base::RefCounted* object) EXCLUDES(mu_);
  // The names of autobind: five hexadecimal digits.
  uint32_t NextAutobind() { return next_autobind_.fetch_add(1, std::memory_order_relaxed) & 0xfffff; }

  // --- All UNIX sockets, for /proc/net/unix. `describe` gives the line of one; called without locks. The object takes
  // itself out.
  void AddUnix(base::RefCounted* object) EXCLUDES(mu_);
  void RemoveUnix(base::RefCounted* object) EXCLUDES(mu_);
  std::vector<RefPtr<base::RefCounted>> UnixObjects() EXCLUDES(mu_);

  // net.ipv4.ip_unprivileged_port_start
  std::atomic<int> unprivileged_port_start{1024};

 private:
  PortTable tcp_, udp_;
  base::Mutex mu_;
  absl::flat_hash_map<std::string, RefPtr<base::RefCounted>> names_ GUARDED_BY(mu_);
  std::map<base::RefCounted*, bool> unix_objects_ GUARDED_BY(mu_);
  std::atomic<uint32_t> next_autobind_{0};
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_NETWORK_NAMESPACE_H_
