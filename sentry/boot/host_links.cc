#include "sentry/boot/host_links.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "base/syscall_unsafe.h"
#include "base/unique_fd.h"

namespace sentry::boot {
namespace {

// Consumes what stands in front of `bytes`, with the padding behind it. False if there is no more.
template <typename T>
bool Take(std::string_view& bytes, T* header, std::string_view* body, size_t (*length_of)(const T&)) {
  if (bytes.size() < sizeof(T)) return false;
  memcpy(header, bytes.data(), sizeof(T));
  const size_t length = length_of(*header);
  if (length < sizeof(T) || length > bytes.size()) return false;
  *body = bytes.substr(sizeof(T), length - sizeof(T));
  bytes.remove_prefix(std::min(bytes.size(), (length + 3) & ~size_t{3}));
  return true;
}

template <typename T>
void Copy(std::string_view from, T* to) {
  memcpy(to, from.data(), std::min(from.size(), sizeof(T)));
}

sys::NetDevice Parse(std::string_view body) {
  sys::NetDevice d;
  ifinfomsg info{};
  Copy(body, &info);
  d.index = d.link = static_cast<uint32_t>(info.ifi_index);
  d.flags = info.ifi_flags;
  d.type = info.ifi_type;
  body.remove_prefix(std::min(body.size(), sizeof(info)));
  rtattr attribute;
  std::string_view value;
  while (Take<rtattr>(body, &attribute, &value, [](const rtattr& a) { return size_t{a.rta_len}; })) {
    switch (attribute.rta_type) {
      case IFLA_IFNAME:
        d.name = std::string(value.substr(0, value.find('\0')));
        break;
      case IFLA_ADDRESS:
        d.address = std::string(value);
        break;
      case IFLA_BROADCAST:
        d.broadcast = std::string(value);
        break;
      case IFLA_MTU:
        Copy(value, &d.mtu);
        break;
      case IFLA_TXQLEN:
        Copy(value, &d.queue_length);
        break;
      case IFLA_LINK:
        Copy(value, &d.link);
        break;
      case IFLA_OPERSTATE:
        Copy(value, &d.state);
        break;
      case IFLA_CARRIER:
        Copy(value, &d.carrier);
        break;
      case IFLA_STATS64:
        Copy(value, &d.statistics);
        break;
      default:
        break;
    }
  }
  return d;
}

}  // namespace

std::vector<sys::NetDevice> HostLinks() {
  std::vector<sys::NetDevice> links;
  auto made = base::Host(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (!made.ok()) return links;
  const base::UniqueFd socket(static_cast<int>(*made));
  struct {
    nlmsghdr header;
    ifinfomsg body;
  } request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  iovec iov{&request, sizeof(request)};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (!base::HostRetry(SYS_sendmsg, socket.get(), &message, 0).ok()) return links;
  std::vector<char> buffer(32 << 10);  // the most that one part of a dump has
  while (links.size() < kMaxLinks) {
    iov = {buffer.data(), buffer.size()};
    // The host makes the parts of a dump when they are asked for: nothing to wait for.
    auto n = base::HostRetry(SYS_recvmsg, socket.get(), &message, MSG_DONTWAIT);
    if (!n.ok() || *n <= 0) return links;
    std::string_view part(buffer.data(), static_cast<size_t>(*n));
    nlmsghdr header;
    std::string_view body;
    while (Take<nlmsghdr>(part, &header, &body, [](const nlmsghdr& h) { return size_t{h.nlmsg_len}; })) {
      if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) return links;
      if (header.nlmsg_type == RTM_NEWLINK) links.push_back(Parse(body));
    }
  }
  return links;
}

}  // namespace sentry::boot
