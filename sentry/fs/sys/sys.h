// sysfs (man 5 sysfs): what programs look for to learn how many processors, caches and memory nodes there are, and
// which network devices. Devices of the host do not exist here.
//
//   sys.cc         the root, and the directories that are there and empty
//   cpu_dir.cc     devices/system/cpu, with topology and caches
//   node_dir.cc    devices/system/node: one memory node
//   net_dir.cc     devices/virtual/net and class/net: the loopback device, or what SetNetDevices says
//   kernel_dir.cc  kernel/
//
// The tree is made when somebody looks into a mount for the first time.
#ifndef SENTRY_FS_SYS_SYS_H_
#define SENTRY_FS_SYS_SYS_H_

#include <linux/if_link.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::sys {

Result<vfs::NewMount> Create(Kernel& kernel);
// A network device as class/net shows it.
struct NetDevice {
  std::string name;
  uint32_t index = 0, link = 0;  // of itself, of the device that it stands on
  uint32_t flags = 0, type = 0, mtu = 0, queue_length = 0;
  std::string address, broadcast;  // bytes
  uint8_t state = 0, carrier = 1;  // IF_OPER_…
  rtnl_link_stats64 statistics{};
};
// Instead of the loopback device, what `source` returns: which there are when a mount is first looked into, what is to
// be said of each when its files are read. Before the first mount; called on fibers.
void SetNetDevices(std::function<std::vector<NetDevice>()> source);

// Registers "sysfs".
void Register(Kernel& kernel);

}  // namespace sentry::sys

#endif  // SENTRY_FS_SYS_SYS_H_
