#include "sentry/boot/registry.h"

#include "sentry/boot/host_links.h"
#include "sentry/fs/anon/pidfd.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/devpts.h"
#include "sentry/fs/host/host_fifo.h"
#include "sentry/fs/mqueue/mqueue_fs.h"
#include "sentry/fs/pipe/pipe_file.h"
#include "sentry/fs/proc/net.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sys.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/fs/tty/terminal.h"
#include "sentry/socket/host/host_interfaces.h"
#include "sentry/socket/host/host_socket.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/socket/network_namespace.h"
#include "sentry/socket/unix/unix_socket.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {
namespace {

void RegisterSockets(Kernel& kernel, const BootSpec& spec) {
  const NetworkMode network = spec.network;
  RegisterUnixSockets(&kernel.scheduler().reactor());
  RegisterInetSockets();
  RegisterNetlinkSockets();
  if (network == NetworkMode::kHost) {
    RegisterHostSockets(kernel.scheduler().reactor());
    sys::SetNetDevices(&HostLinks);
  }
  auto table = [](std::string name, std::string (*text)(NetworkNamespace & net, bool v6), bool v6) {
    proc::SetNetFile(std::move(name), [text, v6](base::RefCounted* object) {
      auto* net = dynamic_cast<NetworkNamespace*>(object);
      return net != nullptr ? text(*net, v6) : std::string();
    });
  };
  table("tcp", &TcpProcNet, false);
  table("tcp6", &TcpProcNet, true);
  table("udp", &UdpProcNet, false);
  table("udp6", &UdpProcNet, true);
  table("sockstat", &SockstatProcNet, false);
  table("sockstat6", &SockstatProcNet, true);
  table(
      "unix", [](NetworkNamespace& net, bool) { return UnixProcNet(net); }, false);
  for (const auto& [name, fd] : spec.host_net_files) {
    proc::SetNetFile(name, [fd = fd.get()](base::RefCounted*) { return HostProcText(fd); });
  }
}

}  // namespace

absl::Status RegisterAll(Kernel& kernel, const BootSpec& spec) {
  vfs::SetFileClock([&kernel] { return kernel.time().RealtimeNow(); });
  tmpfs::Register(kernel.memory_file(), kernel.options().total_memory);
  dev::RegisterMemDevices(kernel.memory_file());
  dev::RegisterDevtmpfs(kernel.memory_file());
  vfs::RegisterFifo(&OpenFifo);
  vfs::RegisterHostFifo([&kernel](const VfsPath& path, uint32_t flags, VfsContext& ctx) {
    return OpenHostFifo(kernel.scheduler().reactor(), path, flags, ctx);
  });
  proc::Register(kernel);
  sys::Register(kernel);
  mqueue::Register(kernel);
  devpts::Register(kernel);
  RegisterTtyDevice();
  kernel.SetPidfdFactory(&NewPidFd);
  RegisterSockets(kernel, spec);
  return absl::OkStatus();
}

RefPtr<base::RefCounted> NewNetworkNamespace(Kernel& kernel, const BootSpec& spec) {
  return base::MakeRef<NetworkNamespace>();
}

}  // namespace sentry::boot
