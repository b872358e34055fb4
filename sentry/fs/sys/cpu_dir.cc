// devices/system/cpu (Documentation/ABI/testing/sysfs-devices-system-cpu): one package whose cores have one thread
// each, as /proc/cpuinfo says, and the caches that CPUID tells of.
#include <cpuid.h>

#include <algorithm>
#include <bit>

#include "sentry/fs/proc/process_text.h"
#include "sentry/fs/sys/tree.h"

namespace sentry::sys {

namespace {

using proc::CpuList;
using proc::CpuMask;

struct Cache {
  int level;
  const char* type;
  uint32_t ways, partitions, line, sets;
  uint32_t sharing;  // processors that share one, at most
};

// Leaf 4 on Intel, 0x8000001d on AMD, in the same format.
std::vector<Cache> ReadCaches() {
  std::vector<Cache> caches;
  for (uint32_t leaf : {4u, 0x8000001du}) {
    for (uint32_t i = 0; i < 8; ++i) {
      uint32_t a = 0, b = 0, c = 0, d = 0;
      if (!__get_cpuid_count(leaf, i, &a, &b, &c, &d)) break;
      const uint32_t type = a & 31;
      if (type == 0 || type > 3) break;
      constexpr const char* kTypes[] = {"", "Data", "Instruction", "Unified"};
      caches.push_back({static_cast<int>((a >> 5) & 7), kTypes[type], (b >> 22) + 1, ((b >> 12) & 1023) + 1,
                        (b & 4095) + 1, c + 1, ((a >> 14) & 4095) + 1});
    }
    if (!caches.empty()) break;
  }
  return caches;
}

void AddCaches(StaticDir& dir, int cpu, int cpus, const std::vector<Cache>& caches) {
  for (size_t i = 0; i < caches.size(); ++i) {
    const Cache& c = caches[i];
    RefPtr<StaticDir> index = dir.Subdir("index" + std::to_string(i));
    // A cache that more than two threads of a core share belongs to the package; ours have a core each.
    const uint64_t mask = c.sharing > 2 ? ~uint64_t{0} : uint64_t{1} << cpu;
    AddLine(*index, "coherency_line_size", std::to_string(c.line));
    AddLine(*index, "id", std::to_string(c.sharing > 2 ? 0 : cpu));
    AddLine(*index, "level", std::to_string(c.level));
    AddLine(*index, "number_of_sets", std::to_string(c.sets));
    AddLine(*index, "physical_line_partition", std::to_string(c.partitions));
    AddLine(*index, "shared_cpu_list", CpuList(mask, cpus));
    AddLine(*index, "shared_cpu_map", CpuMask(mask, cpus));
    AddLine(*index, "size", std::to_string(uint64_t{c.ways} * c.partitions * c.line * c.sets >> 10) + "K");
    AddLine(*index, "type", c.type);
    AddLine(*index, "ways_of_associativity", std::to_string(c.ways));
  }
}

void AddTopology(StaticDir& dir, int cpu, int cpus) {
  const uint64_t self = uint64_t{1} << cpu, all = ~uint64_t{0};
  AddLine(dir, "core_id", std::to_string(cpu));
  AddLine(dir, "die_id", "0");
  AddLine(dir, "physical_package_id", "0");
  AddLine(dir, "cluster_id", "65535");
  for (const char* name : {"thread_siblings", "core_cpus", "cluster_cpus"}) {
    AddLine(dir, name, CpuMask(self, cpus));
    AddLine(dir, std::string(name) + "_list", CpuList(self, cpus));
  }
  for (const char* name : {"core_siblings", "package_cpus", "die_cpus"}) {
    AddLine(dir, name, CpuMask(all, cpus));
    AddLine(dir, std::string(name) + "_list", CpuList(all, cpus));
  }
}

}  // namespace

void AddCpus(StaticDir& system, Kernel& kernel) {
  // Masks have 64 bits; the kernel's options stay below.
  const int cpus = std::clamp(kernel.cpus(), 1, 64);
  const std::string all = CpuList(~uint64_t{0}, cpus);
  RefPtr<StaticDir> cpu = system.Subdir("cpu");
  for (const char* name : {"online", "possible", "present", "enabled"}) AddLine(*cpu, name, all);
  AddLine(*cpu, "offline", "");
  AddLine(*cpu, "isolated", "");
  AddLine(*cpu, "kernel_max", "8191");
  cpu->Add("uevent", kernfs::NewSink(cpu->kern_ref(), 0644));
  RefPtr<StaticDir> smt = cpu->Subdir("smt");
  AddLine(*smt, "active", "0");
  AddLine(*smt, "control", "notsupported");
  const std::vector<Cache> caches = ReadCaches();
  for (int i = 0; i < cpus; ++i) {
    const std::string name = "cpu" + std::to_string(i);
    RefPtr<StaticDir> dir = cpu->Subdir(name);
    AddCaches(*dir->Subdir("cache"), i, cpus, caches);
    AddTopology(*dir->Subdir("topology"), i, cpus);
    dir->Add("node0", kernfs::NewLink(dir->kern_ref(), "../../node/node0"));
    dir->Add("subsystem", kernfs::NewLink(dir->kern_ref(), "../../../../bus/cpu"));
    if (i > 0) AddLine(*dir, "online", "1");  // the first cannot be switched off, and has no such file
  }
}

}  // namespace sentry::sys
