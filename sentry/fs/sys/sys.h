// sysfs (man 5 sysfs): what programs look for to learn how many processors, caches and memory nodes there are, and
// which network devices. Devices of the host do not exist here.
//
//   sys.cc         the root, and the directories that are there and empty
//   cpu_dir.cc     devices/system/cpu, with topology and caches
//   node_dir.cc    devices/system/node: one memory node
//   net_dir.cc     devices/virtual/net and class/net: the loopback device
//   kernel_dir.cc  kernel/
//
// The tree is made when somebody looks into a mount for the first time.
#ifndef SENTRY_FS_SYS_SYS_H_
#define SENTRY_FS_SYS_SYS_H_

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry::sys {

Result<vfs::NewMount> Create(Kernel& kernel);
// Registers "sysfs".
void Register(Kernel& kernel);

}  // namespace sentry::sys

#endif  // SENTRY_FS_SYS_SYS_H_
