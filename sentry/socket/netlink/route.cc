// The answers of NETLINK_ROUTE about lo. (man 7 rtnetlink, net/core/rtnetlink.c)
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>

#include <cstring>

#include "sentry/socket/netlink/netlink_socket.h"

namespace sentry {
namespace {

using std::string_view_literals::operator""sv;

constexpr uint32_t kLoIndex = 1;

// Builds one netlink message: a header, a fixed part, attributes.
class Message {
 public:
  template <typename T>
  Message(uint16_t type, uint16_t flags, uint32_t sequence, uint32_t port_id, const T& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = flags;
    header.nlmsg_seq = sequence;
    header.nlmsg_pid = port_id;
    bytes_.append(reinterpret_cast<const char*>(&header), sizeof(header));
    bytes_.append(reinterpret_cast<const char*>(&body), sizeof(body));
    Pad();
  }
  Message& Attribute(uint16_t type, std::string_view value) {
    rtattr a{static_cast<uint16_t>(RTA_LENGTH(value.size())), type};
    bytes_.append(reinterpret_cast<const char*>(&a), sizeof(a));
    bytes_.append(value);
    Pad();
    return *this;
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T> &&
      (!std::is_convertible_v<T, std::string_view>)Message& Attribute(uint16_t type, const T& value) {
    return Attribute(type, std::string_view(reinterpret_cast<const char*>(&value), sizeof(value)));
  }
  std::string Take() {
    auto length = static_cast<uint32_t>(bytes_.size());
    memcpy(bytes_.data(), &length, sizeof(length));
    return std::move(bytes_);
  }

 private:
  void Pad() { bytes_.resize(NLMSG_ALIGN(bytes_.size())); }
  std::string bytes_;
};

struct Request {
  nlmsghdr header{};
  std::string_view body;
  uint32_t port_id;
  bool dump() const { return (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }
  uint16_t answer_flags() const { return dump() ? NLM_F_MULTI : 0; }
  // The fixed part; what is missing is zero.
  template <typename T>
  T As() const {
    T value{};
    memcpy(&value, body.data(), std::min(sizeof(T), body.size()));
    return value;
  }
  // An attribute behind a fixed part of type T.
  template <typename T>
  std::string_view Find(uint16_t type) const {
    size_t at = NLMSG_ALIGN(sizeof(T));
    while (at + sizeof(rtattr) <= body.size()) {
      rtattr a;
      memcpy(&a, body.data() + at, sizeof(a));
      if (a.rta_len < sizeof(a) || a.rta_len > body.size() - at) break;
      if ((a.rta_type & NLA_TYPE_MASK) == type) return body.substr(at + sizeof(a), a.rta_len - sizeof(a));
      at += RTA_ALIGN(a.rta_len);
    }
    return {};
  }
};

std::string Acknowledgement(const Request& request, int error) {
  nlmsgerr body{};
  body.error = -error;
  body.msg = request.header;
  return Message(NLMSG_ERROR, 0, request.header.nlmsg_seq, request.port_id, body).Take();
}

std::string Done(const Request& request) {
  int32_t zero = 0;
  return Message(NLMSG_DONE, NLM_F_MULTI, request.header.nlmsg_seq, request.port_id, zero).Take();
}

std::string Link(const Request& request) {
  ifinfomsg info{};
  info.ifi_type = ARPHRD_LOOPBACK;
  info.ifi_index = kLoIndex;
  info.ifi_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | 0x10000 /*IFF_LOWER_UP*/;
  uint8_t address[6] = {};
  Message m(RTM_NEWLINK, request.answer_flags(), request.header.nlmsg_seq, request.port_id, info);
  m.Attribute(IFLA_IFNAME, "lo\0"sv)
      .Attribute(IFLA_TXQLEN, uint32_t{1000})
      .Attribute(IFLA_OPERSTATE, uint8_t{0})
      .Attribute(IFLA_LINKMODE, uint8_t{0})
      .Attribute(IFLA_MTU, uint32_t{65536})
      .Attribute(IFLA_GROUP, uint32_t{0})
      .Attribute(IFLA_PROMISCUITY, uint32_t{0})
      .Attribute(IFLA_NUM_TX_QUEUES, uint32_t{1})
      .Attribute(IFLA_NUM_RX_QUEUES, uint32_t{1})
      .Attribute(IFLA_CARRIER, uint8_t{1})
      .Attribute(IFLA_QDISC, "noqueue\0"sv)
      .Attribute(IFLA_ADDRESS, address)
      .Attribute(IFLA_BROADCAST, address)
      .Attribute(IFLA_STATS64, rtnl_link_stats64{})
      .Attribute(IFLA_STATS, rtnl_link_stats{});
  return m.Take();
}

ifa_cacheinfo Forever() { return {UINT32_MAX, UINT32_MAX, 0, 0}; }

std::string Address4(const Request& request) {
  ifaddrmsg body{AF_INET, 8, IFA_F_PERMANENT, RT_SCOPE_HOST, kLoIndex};
  uint32_t address = htonl(INADDR_LOOPBACK);
  Message m(RTM_NEWADDR, request.answer_flags(), request.header.nlmsg_seq, request.port_id, body);
  m.Attribute(IFA_ADDRESS, address)
      .Attribute(IFA_LOCAL, address)
      .Attribute(IFA_LABEL, "lo\0"sv)
      .Attribute(IFA_FLAGS, uint32_t{IFA_F_PERMANENT})
      .Attribute(IFA_CACHEINFO, Forever());
  return m.Take();
}

std::string Address6(const Request& request) {
  ifaddrmsg body{AF_INET6, 128, IFA_F_PERMANENT, RT_SCOPE_HOST, kLoIndex};
  Message m(RTM_NEWADDR, request.answer_flags(), request.header.nlmsg_seq, request.port_id, body);
  m.Attribute(IFA_ADDRESS, in6addr_loopback)
      .Attribute(IFA_CACHEINFO, Forever())
      .Attribute(IFA_FLAGS, uint32_t{IFA_F_PERMANENT});
  return m.Take();
}

// The local table's route to lo's own addresses.
std::string Route4(const Request& request, uint32_t destination, uint8_t length, uint8_t type) {
  rtmsg body{};
  body.rtm_family = AF_INET;
  body.rtm_dst_len = length;
  body.rtm_table = RT_TABLE_LOCAL;
  body.rtm_protocol = RTPROT_KERNEL;
  body.rtm_scope = RT_SCOPE_HOST;
  body.rtm_type = type;
  Message m(RTM_NEWROUTE, request.answer_flags(), request.header.nlmsg_seq, request.port_id, body);
  m.Attribute(RTA_TABLE, uint32_t{RT_TABLE_LOCAL})
      .Attribute(RTA_DST, htonl(destination))
      .Attribute(RTA_PREFSRC, htonl(INADDR_LOOPBACK))
      .Attribute(RTA_OIF, kLoIndex);
  return m.Take();
}

std::string Route6(const Request& request) {
  rtmsg body{};
  body.rtm_family = AF_INET6;
  body.rtm_dst_len = 128;
  body.rtm_table = RT_TABLE_LOCAL;
  body.rtm_protocol = RTPROT_KERNEL;
  body.rtm_type = RTN_LOCAL;
  Message m(RTM_NEWROUTE, request.answer_flags(), request.header.nlmsg_seq, request.port_id, body);
  m.Attribute(RTA_TABLE, uint32_t{RT_TABLE_LOCAL})
      .Attribute(RTA_DST, in6addr_loopback)
      .Attribute(RTA_PRIORITY, uint32_t{0})
      .Attribute(RTA_OIF, kLoIndex);
  return m.Take();
}

// `ip route get`: what is on lo has a route, the rest has none.
std::vector<std::string> OneRoute(const Request& request) {
  auto body = request.As<rtmsg>();
  std::string_view to = request.Find<rtmsg>(RTA_DST);
  if (body.rtm_family == AF_INET && to.size() == 4) {
    uint32_t address;
    memcpy(&address, to.data(), 4);
    if (ntohl(address) >> 24 == 127) return {Route4(request, ntohl(address), 32, RTN_LOCAL)};
  }
  if (body.rtm_family == AF_INET6 && to.size() == 16 && memcmp(to.data(), &in6addr_loopback, 16) == 0)
    return {Route6(request)};
  return {Acknowledgement(request, ENETUNREACH)};
}

std::vector<std::string> Links(const Request& request) {
  if (request.dump()) return {Link(request) + Done(request)};
  auto info = request.As<ifinfomsg>();
  std::string_view name = request.Find<ifinfomsg>(IFLA_IFNAME);
  bool found =
      info.ifi_index == static_cast<int>(kLoIndex) || (info.ifi_index == 0 && name.substr(0, name.find('\0')) == "lo");
  return {found ? Link(request) : Acknowledgement(request, ENODEV)};
}

std::vector<std::string> Addresses(const Request& request) {
  if (!request.dump()) return {Acknowledgement(request, EOPNOTSUPP)};
  uint8_t family = request.As<rtgenmsg>().rtgen_family;
  std::string all;
  if (family == AF_UNSPEC || family == AF_INET) all += Address4(request);
  if (family == AF_UNSPEC || family == AF_INET6) all += Address6(request);
  return {all + Done(request)};
}

std::vector<std::string> Routes(const Request& request) {
  if (!request.dump()) return OneRoute(request);
  uint8_t family = request.As<rtgenmsg>().rtgen_family;
  std::string all;
  if (family == AF_UNSPEC || family == AF_INET) {
    all += Route4(request, 0x7f000000, 8, RTN_LOCAL) + Route4(request, INADDR_LOOPBACK, 32, RTN_LOCAL) +
           Route4(request, 0x7fffffff, 32, RTN_BROADCAST);
  }
  if (family == AF_UNSPEC || family == AF_INET6) all += Route6(request);
  return {all + Done(request)};
}

}  // namespace

std::vector<std::string> AnswerRoute(std::string_view bytes, uint32_t port_id) {
  Request request;
  if (bytes.size() < sizeof(request.header)) return {};
  memcpy(&request.header, bytes.data(), sizeof(request.header));
  request.body = bytes.substr(NLMSG_HDRLEN);
  request.port_id = port_id;
  // netlink_rcv_skb(): what is no request, and control messages, get an acknowledgement at most.
  const bool wants_ack = (request.header.nlmsg_flags & NLM_F_ACK) != 0;
  if ((request.header.nlmsg_flags & NLM_F_REQUEST) == 0 || request.header.nlmsg_type < NLMSG_MIN_TYPE) {
    return wants_ack ? std::vector<std::string>{Acknowledgement(request, 0)} : std::vector<std::string>{};
  }
  if (request.body.empty()) return {Acknowledgement(request, EINVAL)};
  std::vector<std::string> answers;
  switch (request.header.nlmsg_type) {
    case RTM_GETLINK:
      answers = Links(request);
      break;
    case RTM_GETADDR:
      answers = Addresses(request);
      break;
    case RTM_GETROUTE:
      answers = Routes(request);
      break;
    case RTM_GETNEIGH:
    case RTM_GETRULE:
    case RTM_GETQDISC:
    case RTM_GETNEIGHTBL:
      if (!request.dump()) return {Acknowledgement(request, EOPNOTSUPP)};
      answers = {Done(request)};  // there are none
      break;
    case RTM_NEWLINK:
    case RTM_DELLINK:
    case RTM_SETLINK:
    case RTM_NEWADDR:
    case RTM_DELADDR:
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return {Acknowledgement(request, EPERM)};
    default:
      return {Acknowledgement(request, EOPNOTSUPP)};
  }
  if (wants_ack && !request.dump()) answers.push_back(Acknowledgement(request, 0));
  return answers;
}

}  // namespace sentry
