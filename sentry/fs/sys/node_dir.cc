// devices/system/node (Documentation/ABI/stable/sysfs-devices-node).
#include <algorithm>
#include <cinttypes>

#include "sentry/fs/proc/process_text.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::sys {

void AddNodes(StaticDir& system, Kernel& kernel) {
  const int cpus = std::clamp(kernel.cpus(), 1, 64);
  RefPtr<StaticDir> node = system.Subdir("node");
  for (const char* name : {"online", "possible", "has_cpu", "has_memory", "has_normal_memory"})
    AddLine(*node, name, "0");
  RefPtr<StaticDir> dir = node->Subdir("node0");
  AddLine(*dir, "cpulist", proc::CpuList(~uint64_t{0}, cpus));
  AddLine(*dir, "cpumap", proc::CpuMask(~uint64_t{0}, cpus));
  AddLine(*dir, "distance", "10");
  dir->Add("meminfo", kernfs::NewText(dir->kern_ref(), [&kernel] {
             const uint64_t total = kernel.options().total_memory >> 10;
             const uint64_t used = std::min(kernel.memory_file().usage() >> 10, total);
             std::string out;
             for (auto [name, kb] :
                  {std::pair("MemTotal", total), std::pair("MemFree", total - used), std::pair("MemUsed", used)}) {
               char line[64];
               snprintf(line, sizeof(line), "Node 0 %-14s %8" PRIu64 " kB\n", (std::string(name) + ":").c_str(), kb);
               out += line;
             }
             return out;
           }));
  dir->Add("numastat",
           kernfs::NewText(
               dir->kern_ref(),
               std::string("numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n")));
  for (int i = 0; i < cpus; ++i) {
    const std::string name = "cpu" + std::to_string(i);
    dir->Add(name, kernfs::NewLink(dir->kern_ref(), "../../cpu/" + name));
  }
}

}  // namespace sentry::sys
