// PortTable: who has which port of a protocol (kernel: inet_hashtables, udp_table), and who gets what is sent to an
// address.
#ifndef SENTRY_SOCKET_PORT_TABLE_H_
#define SENTRY_SOCKET_PORT_TABLE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/errno.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"

namespace sentry {

using base::Errno;
using base::RefPtr;
using base::Result;

// An IPv6 address; IPv4 ones are mapped (::ffff:127.0.0.1).
struct IpAddress {
  std::array<uint8_t, 16> bytes{};
  static IpAddress V4(uint32_t host_order);
  static IpAddress V6Loopback();
  static IpAddress V6Any() { return {}; }
  bool IsV4() const;
  uint32_t v4() const;  // host order
  bool IsAny() const;   // 0.0.0.0 or ::
  bool IsLoopback() const;
  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};
struct IpEndpoint {
  IpAddress address;
  uint16_t port = 0;
  friend bool operator==(const IpEndpoint&, const IpEndpoint&) = default;
};

// A socket's place in the table. A base of the families' endpoints. Its fields are guarded by the table's lock while it
// is in it.
class PortBinding : public virtual base::RefCounted {
 public:
  bool v6 = false;  // an AF_INET6 socket
  bool v6_only = false;
  IpEndpoint local;  // any address: all of its family (and IPv4, for a v6 socket that is not v6_only)
  IpEndpoint peer;   // port 0: not connected
  bool reuse_address = false, reuse_port = false;
  bool listening = false;
  uint32_t uid = 0;
  bool accepted = false;  // made by accept: shares its listener's port
  uint64_t ino = 0;       // for /proc/net

 private:
  friend class PortTable;
  bool in_table_ = false;
};

class PortTable {
 public:
  static constexpr uint16_t kFirstEphemeral = 32768, kLastEphemeral = 60999;  // net.ipv4.ip_local_port_range

  // Puts it in at its `local`; port 0: a free ephemeral one. EADDRINUSE, EADDRNOTAVAIL (no port free). `datagram`: the
  // rules of UDP.
  Result<void> Bind(PortBinding& binding, bool datagram) EXCLUDES(mu_);
  // For accepted connections: no check.
  void AddAccepted(PortBinding& binding) EXCLUDES(mu_);
  void Remove(PortBinding& binding) EXCLUDES(mu_);
  // Runs under the lock: the way to change a binding's fields.
  void Update(PortBinding& binding, const std::function<void(PortBinding&)>& change) EXCLUDES(mu_);
  // listen(2): EADDRINUSE if another listens there already.
  Result<void> SetListening(PortBinding& binding) EXCLUDES(mu_);
  // Who gets a packet or a connection request. Null: nobody. `listeners`: only those that listen.
  RefPtr<PortBinding> Find(const IpEndpoint& to, const IpEndpoint& from, bool listeners) EXCLUDES(mu_);
  // A copy of what is there, for /proc/net.
  std::vector<RefPtr<PortBinding>> List() EXCLUDES(mu_);
  size_t size() EXCLUDES(mu_);

 private:
  static bool Overlap(const PortBinding& a, const PortBinding& b);
  bool ConflictLocked(const PortBinding& binding, uint16_t port, bool datagram) const REQUIRES(mu_);
  void InsertLocked(PortBinding& binding) REQUIRES(mu_);

  base::Mutex mu_;
  absl::flat_hash_map<uint16_t, std::vector<PortBinding*>> ports_
      GUARDED_BY(mu_);  // weak: bindings take themselves out
  size_t count_ GUARDED_BY(mu_) = 0;
  uint32_t random_ GUARDED_BY(mu_) = 0;
};

}  // namespace sentry

#endif  // SENTRY_SOCKET_PORT_TABLE_H_
