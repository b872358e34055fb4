#include "sentry/socket/port_table.h"

#include <algorithm>
#include <cstring>

#include "absl/hash/hash.h"
#include "base/time.h"

namespace sentry {

IpAddress IpAddress::V4(uint32_t a) {
  IpAddress ip;
  ip.bytes[10] = ip.bytes[11] = 0xff;
  for (int i = 0; i < 4; ++i) ip.bytes[12 + i] = static_cast<uint8_t>(a >> (24 - 8 * i));
  return ip;
}

IpAddress IpAddress::V6Loopback() {
  IpAddress ip;
  ip.bytes[15] = 1;
  return ip;
}

bool IpAddress::IsV4() const {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return memcmp(bytes.data(), kPrefix, sizeof(kPrefix)) == 0;
}

uint32_t IpAddress::v4() const {
  return uint32_t{bytes[12]} << 24 | uint32_t{bytes[13]} << 16 | uint32_t{bytes[14]} << 8 | bytes[15];
}

bool IpAddress::IsAny() const { return IsV4() ? v4() == 0 : *this == V6Any(); }

bool IpAddress::IsLoopback() const { return IsV4() ? v4() >> 24 == 127 : *this == V6Loopback(); }

// Whether some address belongs to both (ipv6_rcv_saddr_equal).
bool PortTable::Overlap(const PortBinding& a, const PortBinding& b) {
  auto any = [](const PortBinding& x) { return x.local.address.IsAny(); };
  auto takes_v4 = [&](const PortBinding& x) { return x.local.address.IsV4() || (x.v6 && any(x) && !x.v6_only); };
  auto takes_v6 = [&](const PortBinding& x) { return !x.local.address.IsV4(); };
  if (any(a) || any(b)) return (takes_v4(a) && takes_v4(b)) || (takes_v6(a) && takes_v6(b));
  return a.local.address == b.local.address;
}

// inet_csk_bind_conflict(), udp's inet_rcv_saddr_equal with sk_reuse.
bool PortTable::ConflictLocked(const PortBinding& binding, uint16_t port, bool datagram) const {
  auto it = ports_.find(port);
  if (it == ports_.end()) return false;
  for (const PortBinding* other : it->second) {
    if (other == &binding || !Overlap(binding, *other)) continue;
    if (binding.reuse_address && other->reuse_address && (datagram || !other->listening)) continue;
    if (binding.reuse_port && other->reuse_port && binding.uid == other->uid) continue;
    return true;
  }
  return false;
}

void PortTable::InsertLocked(PortBinding& binding) {
  ports_[binding.local.port].push_back(&binding);
  binding.in_table_ = true;
  ++count_;
}

Result<void> PortTable::Bind(PortBinding& binding, bool datagram) {
  base::MutexLock lock(mu_);
  if (binding.in_table_) return Errno(EINVAL);
  if (binding.local.port != 0) {
    if (ConflictLocked(binding, binding.local.port, datagram)) return Errno(EADDRINUSE);
    InsertLocked(binding);
    return {};
  }
  constexpr uint32_t kCount = kLastEphemeral - kFirstEphemeral + 1;
  // A linear congruential step is enough: ports are not secrets inside a sandbox.
  if (random_ == 0) random_ = static_cast<uint32_t>(base::MonotonicNow()) | 1;
  random_ = random_ * 1664525 + 1013904223;
  uint32_t start = (random_ >> 8) % kCount;
  for (uint32_t i = 0; i < kCount; ++i) {
    auto port = static_cast<uint16_t>(kFirstEphemeral + (start + i) % kCount);
    auto it = ports_.find(port);
    if (it != ports_.end() && !it->second.empty()) continue;
    binding.local.port = port;
    InsertLocked(binding);
    return {};
  }
  return Errno(EADDRINUSE);
}

void PortTable::AddAccepted(PortBinding& binding) {
  base::MutexLock lock(mu_);
  binding.accepted = true;
  InsertLocked(binding);
}

void PortTable::Remove(PortBinding& binding) {
  base::MutexLock lock(mu_);
  if (!binding.in_table_) return;
  auto it = ports_.find(binding.local.port);
  auto& list = it->second;
  list.erase(std::find(list.begin(), list.end(), &binding));
  if (list.empty()) ports_.erase(it);
  binding.in_table_ = false;
  --count_;
}

void PortTable::Update(PortBinding& binding, const std::function<void(PortBinding&)>& change) {
  base::MutexLock lock(mu_);
  change(binding);
}

Result<void> PortTable::SetListening(PortBinding& binding) {
  base::MutexLock lock(mu_);
  auto it = ports_.find(binding.local.port);
  if (it != ports_.end()) {
    for (const PortBinding* other : it->second) {
      if (other == &binding || !other->listening || !Overlap(binding, *other)) continue;
      if (binding.reuse_port && other->reuse_port && binding.uid == other->uid) continue;
      return Errno(EADDRINUSE);
    }
  }
  binding.listening = true;
  return {};
}

// compute_score() of net/ipv4/udp.c and inet_hashtables.c: the most specific wins; among equals with SO_REUSEPORT a
// hash of the sender.
RefPtr<PortBinding> PortTable::Find(const IpEndpoint& to, const IpEndpoint& from, bool listeners) {
  base::MutexLock lock(mu_);
  auto it = ports_.find(to.port);
  if (it == ports_.end()) return nullptr;
  int best = -1;
  size_t equals = 0;
  PortBinding* found = nullptr;
  const bool v4 = to.address.IsV4();
  for (PortBinding* b : it->second) {
    if (listeners ? !b->listening : b->accepted) continue;
    int score = 0;
    if (b->local.address.IsAny()) {
      // "::" takes IPv4 as well unless it may not; 0.0.0.0 and ::ffff:0.0.0.0 take nothing else.
      if (b->local.address.IsV4() ? !v4 : v4 && b->v6_only) continue;
    } else {
      if (b->local.address != to.address) continue;
      score += 4;
    }
    if (b->peer.port != 0) {
      if (!(b->peer == from)) continue;
      score += 8;
    }
    if (b->v6 != v4) score += 1;  // a socket of the packet's own family first
    if (score > best) {
      best = score;
      found = b;
      equals = 1;
    } else if (score == best && b->reuse_port && found->reuse_port) {
      // Reservoir over the hash of the four-tuple: the same sender always meets the same socket while the set does not
      // change.
      ++equals;
      size_t hash = absl::HashOf(from.port, from.address.bytes, to.port, equals);
      if (hash % equals == 0) found = b;
    } else if (score == best) {
      found = b;  // the one bound last (SO_REUSEADDR)
    }
  }
  if (found == nullptr || !found->TryRef()) return nullptr;
  return RefPtr<PortBinding>::Adopt(found);
}

std::vector<RefPtr<PortBinding>> PortTable::List() {
  std::vector<RefPtr<PortBinding>> all;
  base::MutexLock lock(mu_);
  all.reserve(count_);
  for (auto& [port, list] : ports_) {
    for (PortBinding* b : list) {
      if (b->TryRef()) all.push_back(RefPtr<PortBinding>::Adopt(b));
    }
  }
  return all;
}

size_t PortTable::size() {
  base::MutexLock lock(mu_);
  return count_;
}

}  // namespace sentry
