#include "sentry/fs/proc/system_text.h"

#include <cpuid.h>

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "base/time.h"
#include "sentry/kernel/version.h"
#include "sentry/vfs/vfs.h"

namespace sentry::proc {

namespace {

constexpr int64_t kSecond = 1'000'000'000, kTickNs = 10'000'000;

[[gnu::format(printf, 2, 3)]] void Append(std::string& out, const char* format, ...) {
  char buffer[1024];
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(buffer, sizeof(buffer), format, args);
  va_end(args);
  if (n > 0) out.append(buffer, std::min<size_t>(static_cast<size_t>(n), sizeof(buffer) - 1));
}

std::string Meminfo(Kernel& kernel) {
  const uint64_t total = kernel.options().total_memory >> 10;
  const uint64_t used = std::min(kernel.memory_file().usage() >> 10, total);
  std::string out;
  auto row = [&](const char* name, uint64_t kb) { Append(out, "%-15s %8" PRIu64 " kB\n", (std::string(name) + ":").c_str(), kb); };
  row("MemTotal", total);
  row("MemFree", total - used);
  row("MemAvailable", total - used);
  for (const char* zero : {"Buffers", "Cached", "SwapCached"}) row(zero, 0);
  row("Active", used);
  row("Inactive", 0);
  row("Active(anon)", used);
  for (const char* zero : {"Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal", "SwapFree", "Dirty",
                           "Writeback"}) {
    row(zero, 0);
  }
  row("AnonPages", used);
  for (const char* zero : {"Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "PageTables",
                           "NFS_Unstable", "Bounce", "WritebackTmp"}) {
    row(zero, 0);
  }
  row("CommitLimit", total);
  row("Committed_AS", used);
  row("VmallocTotal", 34359738367);
  for (const char* zero : {"VmallocUsed", "VmallocChunk", "Percpu", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped"}) row(zero, 0);
  out += "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        0\nHugepagesize:       2048 kB\n";
  return out;
}

// The names that /proc/cpuinfo gives to CPUID's bits (arch/x86/include/asm/cpufeatures.h), for the leaves that programs look at.
struct FeatureWord {
  uint32_t leaf, subleaf;
  int reg;  // 0 eax, 1 ebx, 2 ecx, 3 edx
  const char* names[32];
};
constexpr FeatureWord kFeatures[] = {
    {1, 0, 3, {"fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", nullptr, "sep", "mtrr", "pge", "mca", "cmov", "pat", "pse36",
               "pn", "clflush", nullptr, "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe"}},
    {0x80000001, 0, 3, {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, "syscall", nullptr,
                        nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, "mp", "nx", nullptr, "mmxext", nullptr, nullptr, "fxsr_opt",
                        "pdpe1gb", "rdtscp", nullptr, "lm", "3dnowext", "3dnow"}},
    {1, 0, 2, {"pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", nullptr, "smx", "est", "tm2", "ssse3", "cid", "sdbg", "fma", "cx16", "xtpr",
               "pdcm", nullptr, "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt", "tsc_deadline_timer", "aes", "xsave", nullptr,
               "avx", "f16c", "rdrand", "hypervisor"}},
    {0x80000001, 0, 2, {"lahf_lm", "cmp_legacy", nullptr, "extapic", "cr8_legacy", "abm", "sse4a", "misalignsse", "3dnowprefetch", "osvw"}},
    {7, 0, 1, {"fsgsbase", "tsc_adjust", nullptr, "bmi1", "hle", "avx2", nullptr, "smep", "bmi2", "erms", "invpcid", "rtm", nullptr, nullptr,
               "mpx", nullptr, "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", nullptr, "clflushopt", "clwb", nullptr, "avx512pf",
               "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl"}},
    {7, 0, 2, {nullptr, "avx512vbmi", "umip", nullptr, nullptr, nullptr, "avx512_vbmi2", nullptr, "gfni", "vaes", "vpclmulqdq", "avx512_vnni",
               "avx512_bitalg", nullptr, "avx512_vpopcntdq", nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, "rdpid"}},
};

std::string FeatureNames() {
  std::string flags;
  for (const FeatureWord& w : kFeatures) {
    uint32_t r[4] = {};
    if (!__get_cpuid_count(w.leaf, w.subleaf, &r[0], &r[1], &r[2], &r[3])) continue;
    for (int bit = 0; bit < 32; ++bit) {
      if (w.names[bit] != nullptr && ((r[w.reg] >> bit) & 1)) flags += std::string(flags.empty() ? "" : " ") + w.names[bit];
    }
  }
  return flags;
}

std::string Cpuinfo(int cpus) {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  char vendor[13] = {};
  __get_cpuid(0, &a, &b, &c, &d);
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  uint32_t signature = 0, ignored;
  __get_cpuid(1, &signature, &b, &ignored, &ignored);
  uint32_t family = (signature >> 8) & 15, model = (signature >> 4) & 15;
  if (family == 15) family += (signature >> 20) & 255;
  if (family >= 6) model |= ((signature >> 16) & 15) << 4;
  uint32_t brand[13] = {};
  for (uint32_t i = 0; i < 3; ++i) __get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3]);
  const std::string flags = FeatureNames();
  std::string out;
  for (int i = 0; i < cpus; ++i) {
    Append(out, "processor\t: %d\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %.48s\nstepping\t: %u\n", i, vendor, family,
           model, reinterpret_cast<const char*>(brand), signature & 15);
    Append(out, "cpu MHz\t\t: 2000.000\ncache size\t: 1024 KB\nphysical id\t: 0\nsiblings\t: %d\ncore id\t\t: %d\ncpu cores\t: %d\napicid\t\t: %d\n",
           cpus, i, cpus, i);
    Append(out, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: ");
    out += flags;
    Append(out, "\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: %u\ncache_alignment\t: 64\naddress sizes\t: 48 bits physical, 48 bits virtual\npower management:\n\n",
           ((b >> 8) & 255) * 8);
  }
  return out;
}

std::string Stat(Kernel& kernel, const PidNamespace& ns) {
  int64_t user = 0, system = 0;
  uint64_t forks, switches = 0;
  int running = 0;
  {
    base::MutexLock tree(kernel.tasks().mu);
    forks = kernel.tasks().forks;
    for (auto& [tid, task] : ns.tasks) {
      if (task->state() == 'R') ++running;
      switches += task->usage().voluntary_switches;
      if (task->thread_group().leader != task) continue;
      Usage u = task->thread_group().TotalUsageLocked();
      u.Add(task->thread_group().children_usage);
      user += u.user_ns;
      system += u.system_ns;
    }
  }
  const int64_t up = base::HostClockNs(CLOCK_BOOTTIME);
  const int cpus = kernel.cpus();
  const int64_t idle = std::max<int64_t>(up * cpus - user - system, 0);
  std::string out;
  Append(out, "cpu  %" PRId64 " 0 %" PRId64 " %" PRId64 " 0 0 0 0 0 0\n", user / kTickNs, system / kTickNs, idle / kTickNs);
  for (int i = 0; i < cpus; ++i) {
    Append(out, "cpu%d %" PRId64 " 0 %" PRId64 " %" PRId64 " 0 0 0 0 0 0\n", i, user / cpus / kTickNs, system / cpus / kTickNs,
           idle / cpus / kTickNs);
  }
  Append(out, "intr 0\nctxt %" PRIu64 "\nbtime %" PRId64 "\nprocesses %" PRIu64 "\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
         switches, (base::HostClockNs(CLOCK_REALTIME) - up) / kSecond, forks, std::max(running, 1));
  return out;
}

std::string Loadavg(Kernel& kernel, const PidNamespace& ns) {
  int running = 0, total = 0, last = 0;
  {
    base::MutexLock tree(kernel.tasks().mu);
    for (auto& [tid, task] : ns.tasks) {
      ++total;
      if (task->state() == 'R') ++running;
    }
    last = ns.last_pid;
  }
  std::string out;
  Append(out, "0.00 0.00 0.00 %d/%d %d\n", std::max(running, 1), total, last);
  return out;
}

std::string Filesystems() {
  std::string out;
  for (const vfs::FileSystemType* t : vfs::FileSystems()) out += std::string(t->needs_device ? "" : "nodev") + "\t" + t->name + "\n";
  return out;
}

RefPtr<Inode> NewLink(const RefPtr<ProcSuperblock>& sb, std::string target) {
  kernfs::LinkOps ops;
  ops.text = [target = std::move(target)]() -> Result<std::string> { return target; };
  return base::MakeRef<kernfs::KernLink>(sb, std::move(ops));
}

}  // namespace

void AddSystemFiles(const RefPtr<ProcSuperblock>& sb, kernfs::StaticDir& root) {
  Kernel& kernel = sb->kernel();
  const PidNamespace& ns = sb->ns();
  auto text = [&](const char* name, std::function<std::string()> f) { root.Add(name, kernfs::NewText(sb, std::move(f))); };
  auto fixed = [&](const char* name, const char* value) { root.Add(name, kernfs::NewText(sb, std::string(value))); };
  text("meminfo", [&kernel] { return Meminfo(kernel); });
  text("cpuinfo", [&kernel] { return Cpuinfo(kernel.cpus()); });
  text("stat", [&kernel, &ns] { return Stat(kernel, ns); });
  text("loadavg", [&kernel, &ns] { return Loadavg(kernel, ns); });
  text("uptime", [] {
    const int64_t up = base::HostClockNs(CLOCK_BOOTTIME);
    char line[64];
    snprintf(line, sizeof(line), "%" PRId64 ".%02" PRId64 " 0.00\n", up / kSecond, up % kSecond / kTickNs);
    return std::string(line);
  });
  text("version", [] { return std::string("Linux version ") + kKernelRelease + " (runsc) " + kKernelVersion + "\n"; });
  text("filesystems", &Filesystems);
  fixed("cmdline", "\n");
  fixed("devices", "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n");
  fixed("partitions", "major minor  #blocks  name\n\n");
  fixed("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
  fixed("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
  fixed("modules", "");
  fixed("diskstats", "");
  fixed("locks", "");
  fixed("kallsyms", "");
  fixed("kmsg", "");
  fixed("interrupts", "");
  fixed("softirqs", "");
  fixed("zoneinfo", "");
  fixed("misc", "");
  fixed("crypto", "");
  fixed("consoles", "");
  fixed("execdomains", "0-0\tLinux           \t[kernel]\n");
  text("vmstat", [&kernel] { return "nr_free_pages " + std::to_string(kernel.options().total_memory / kPageSize) + "\npgfault 0\npgmajfault 0\n"; });
  root.Add("mounts", NewLink(sb, "self/mounts"));
  root.Add("net", NewLink(sb, "self/net"));
  root.Add("sys", NewSysctlDir(sb));
  for (const char* dir : {"bus", "driver", "fs", "irq", "sysvipc", "tty", "acpi", "scsi"}) {
    root.Add(dir, base::MakeRef<kernfs::StaticDir>(sb));
  }
}

}  // namespace sentry::proc
