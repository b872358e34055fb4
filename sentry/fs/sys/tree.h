// The parts of the tree, for sys.cc.
#ifndef SENTRY_FS_SYS_TREE_H_
#define SENTRY_FS_SYS_TREE_H_

#include <string>
#include <string_view>

#include "sentry/fs/kernfs/kernfs.h"
#include "sentry/kernel/kernel.h"

namespace sentry::sys {

using kernfs::StaticDir;

void AddCpus(StaticDir& system, Kernel& kernel);   // devices/system/cpu
void AddNodes(StaticDir& system, Kernel& kernel);  // devices/system/node
void AddNetDevices(StaticDir& virtual_devices, StaticDir& class_net);
void AddKernel(StaticDir& dir);  // kernel/

// Files of an attribute directory: one line each, with its newline added.
inline void AddLine(StaticDir& dir, std::string_view name, std::string_view line, uint32_t permissions = 0444) {
  dir.Add(std::string(name), kernfs::NewText(dir.kern_ref(), std::string(line) + "\n", permissions));
}

}  // namespace sentry::sys

#endif  // SENTRY_FS_SYS_TREE_H_
