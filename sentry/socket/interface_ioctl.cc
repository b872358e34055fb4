#include "sentry/socket/interface_ioctl.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>

#include <cstring>

namespace sentry {
namespace {

constexpr int kIndex = 1;
constexpr size_t kIfreqSize = 40;  // struct ifreq on amd64: a name of 16 bytes and a union of 24
static_assert(sizeof(ifreq) == kIfreqSize);

sockaddr AddressOf(uint32_t host_order) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(host_order);
  sockaddr a;
  memcpy(&a, &in, sizeof(a));
  return a;
}

// ifconf: as many entries as fit; a null buffer asks for the size.
Result<int64_t> ListInterfaces(const IoctlArgs& args) {
  struct Ifconf {
    int32_t length, pad;
    uint64_t buffer;
  };
  UserPtr<Ifconf> p{args.argument};
  Ifconf conf = TRY(args.memory.Read(p));
  int32_t written = kIfreqSize;
  if (conf.buffer != 0) {
    written = 0;
    if (conf.length >= static_cast<int32_t>(kIfreqSize)) {
      ifreq request{};
      strcpy(request.ifr_name, "lo");
      request.ifr_addr = AddressOf(INADDR_LOOPBACK);
      TRY(args.memory.Write(UserPtr<ifreq>{conf.buffer}, request));
      written = kIfreqSize;
    }
  }
  conf.length = written;
  TRY(args.memory.Write(p, conf));
  return 0;
}

}  // namespace

Result<int64_t> InterfaceIoctl(const IoctlArgs& args) {
  switch (args.command) {
    case SIOCGIFCONF:
      return ListInterfaces(args);
    case SIOCGIFNAME:
    case SIOCGIFINDEX:
    case SIOCGIFFLAGS:
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
    case SIOCGIFBRDADDR:
    case SIOCGIFNETMASK:
    case SIOCGIFMETRIC:
    case SIOCGIFMTU:
    case SIOCGIFHWADDR:
    case SIOCGIFTXQLEN:
    case SIOCGIFMAP:
      break;
    case SIOCSIFFLAGS:
    case SIOCSIFADDR:
    case SIOCSIFDSTADDR:
    case SIOCSIFBRDADDR:
    case SIOCSIFNETMASK:
    case SIOCSIFMETRIC:
    case SIOCSIFMTU:
    case SIOCSIFHWADDR:
    case SIOCSIFNAME:
    case SIOCSIFTXQLEN:
    case SIOCADDRT:
    case SIOCDELRT:
      return Errno(EPERM);
    default:
      return Errno(ENOTTY);
  }
  UserPtr<ifreq> p{args.argument};
  ifreq request = TRY(args.memory.Read(p));
  if (args.command == SIOCGIFNAME) {
    if (request.ifr_ifindex != kIndex) return Errno(ENODEV);
    memset(request.ifr_name, 0, sizeof(request.ifr_name));
    strcpy(request.ifr_name, "lo");
    TRY(args.memory.Write(p, request));
    return 0;
  }
  request.ifr_name[IFNAMSIZ - 1] = 0;
  if (strcmp(request.ifr_name, "lo") != 0) return Errno(ENODEV);
  memset(&request.ifr_ifru, 0, sizeof(request.ifr_ifru));
  switch (args.command) {
    case SIOCGIFINDEX:
      request.ifr_ifindex = kIndex;
      break;
    case SIOCGIFFLAGS:
      request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
      break;
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
      request.ifr_addr = AddressOf(INADDR_LOOPBACK);
      break;
    case SIOCGIFBRDADDR:
      request.ifr_addr = AddressOf(0);
      break;
    case SIOCGIFNETMASK:
      request.ifr_addr = AddressOf(0xff000000);
      break;
    case SIOCGIFMTU:
      request.ifr_mtu = 65536;
      break;
    case SIOCGIFTXQLEN:
      request.ifr_qlen = 1000;
      break;
    case SIOCGIFHWADDR:
      request.ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
      break;
    default:
      break;
  }
  TRY(args.memory.Write(p, request));
  return 0;
}

}  // namespace sentry
