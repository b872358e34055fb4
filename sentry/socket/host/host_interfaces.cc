#include "sentry/socket/host/host_interfaces.h"

#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include "base/syscall_unsafe.h"

namespace sentry {
namespace {

// struct ifconf as a guest has it.
struct Ifconf {
  int32_t length, pad;
  uint64_t buffer;
};
constexpr int32_t kMaxIfconfBytes = 64 << 10;
constexpr size_t kMaxProcText = 4 << 20;

Result<int64_t> ListInterfaces(int fd, const IoctlArgs& args) {
  UserPtr<Ifconf> p{args.argument};
  Ifconf guest = TRY(args.memory.Read(p));
  std::unique_ptr<std::byte[]> buffer;
  ifconf own{};
  if (guest.buffer != 0) {
    own.ifc_len = std::clamp(guest.length, 0, kMaxIfconfBytes);
    buffer = std::make_unique<std::byte[]>(static_cast<size_t>(own.ifc_len) + 1);
    own.ifc_buf = reinterpret_cast<char*>(buffer.get());
  }
  TRY(base::Host(SYS_ioctl, fd, SIOCGIFCONF, &own));
  if (guest.buffer != 0) {
    std::span<const std::byte> answer(buffer.get(), static_cast<size_t>(std::clamp(own.ifc_len, 0, kMaxIfconfBytes)));
    if (TRY(args.memory.CopyOut(guest.buffer, answer)) != answer.size()) return Errno(EFAULT);
  }
  guest.length = own.ifc_len;
  TRY(args.memory.Write(p, guest));
  return 0;
}

}  // namespace

bool IsHostInterfaceIoctl(uint32_t command) {
  switch (command) {
    case SIOCGIFCONF:
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
      return true;
    default:
      return false;
  }
}

Result<int64_t> HostInterfaceIoctl(int fd, const IoctlArgs& args) {
  if (args.command == SIOCGIFCONF) return ListInterfaces(fd, args);
  UserPtr<ifreq> p{args.argument};
  ifreq request = TRY(args.memory.Read(p));
  TRY(base::Host(SYS_ioctl, fd, args.command, &request));
  TRY(args.memory.Write(p, request));
  return 0;
}

std::string HostProcText(int fd) {
  std::string text;
  while (text.size() < kMaxProcText) {
    const size_t have = text.size();
    text.resize(have + (64 << 10));
    auto n = base::HostRetry(SYS_pread64, fd, text.data() + have, text.size() - have, have);
    text.resize(have + (n.ok() ? static_cast<size_t>(*n) : 0));
    if (!n.ok() || *n == 0) break;
  }
  return text;
}

}  // namespace sentry
