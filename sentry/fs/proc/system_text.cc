#include "sentry/fs/proc/system_text.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "base/time.h"
#include "sentry/fs/proc/append.h"
#include "sentry/kernel/version.h"
#include "sentry/vfs/vfs.h"

namespace sentry::proc {

namespace {

constexpr int64_t kSecond = 1'000'000'000, kTickNs = 10'000'000;

std::string Meminfo(Kernel& kernel) {
  const uint64_t total = kernel.options().total_memory >> 10;
  const uint64_t used = std::min((kernel.memory_file().usage() + base::ChargedMemory::used()) >> 10, total);
  std::string out;
  auto row = [&](const char* name, uint64_t kb) {
    Append(out, "%-15s %8" PRIu64 " kB\n", (std::string(name) + ":").c_str(), kb);
  };
  row("MemTotal", total);
  row("MemFree", total - used);
  row("MemAvailable", total - used);
  for (const char* zero : {"Buffers", "Cached", "SwapCached"}) row(zero, 0);
  row("Active", used);
  row("Inactive", 0);
  row("Active(anon)", used);
  for (const char* zero : {"Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "SwapTotal",
                           "SwapFree", "Dirty", "Writeback"}) {
    row(zero, 0);
  }
  row("AnonPages", used);
  for (const char* zero : {"Mapped", "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack",
                           "PageTables", "NFS_Unstable", "Bounce", "WritebackTmp"}) {
    row(zero, 0);
  }
  row("CommitLimit", total);
  row("Committed_AS", used);
  row("VmallocTotal", 34359738367);
  for (const char* zero :
       {"VmallocUsed", "VmallocChunk", "Percpu", "AnonHugePages", "ShmemHugePages", "ShmemPmdMapped"})
    row(zero, 0);
  out +=
      "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\nHugePages_Surp:        "
      "0\nHugepagesize:       2048 kB\n";
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
  const int64_t up = kernel.time().BoottimeNow();
  const int cpus = kernel.cpus();
  const int64_t idle = std::max<int64_t>(up * cpus - user - system, 0);
  std::string out;
  Append(out, "cpu  %" PRId64 " 0 %" PRId64 " %" PRId64 " 0 0 0 0 0 0\n", user / kTickNs, system / kTickNs,
         idle / kTickNs);
  for (int i = 0; i < cpus; ++i) {
    Append(out, "cpu%d %" PRId64 " 0 %" PRId64 " %" PRId64 " 0 0 0 0 0 0\n", i, user / cpus / kTickNs,
           system / cpus / kTickNs, idle / cpus / kTickNs);
  }
  Append(out,
         "intr 0\nctxt %" PRIu64 "\nbtime %" PRId64 "\nprocesses %" PRIu64
         "\nprocs_running %d\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
         switches, (kernel.time().RealtimeNow() - up) / kSecond, forks, std::max(running, 1));
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
  const LoadAverage::Values loads = kernel.SampleLoad();
  std::string out;
  for (uint64_t load : loads) {
    // Two digits, rounded, as loadavg_proc_show.
    const uint64_t hundredths = (load * 100 + LoadAverage::kOne / 2) / LoadAverage::kOne;
    Append(out, "%" PRIu64 ".%02" PRIu64 " ", hundredths / 100, hundredths % 100);
  }
  Append(out, "%d/%d %d\n", std::max(running, 1), total, last);
  return out;
}

std::string Filesystems() {
  std::string out;
  for (const vfs::FileSystemType* t : vfs::FileSystems())
    out += std::string(t->needs_device ? "" : "nodev") + "\t" + t->name + "\n";
  return out;
}

std::string Interrupts(int cpus, bool soft) {
  std::string out = soft ? "                    " : "           ";
  for (int i = 0; i < cpus; ++i) Append(out, soft ? "CPU%-8d" : "CPU%-7d ", i);
  out += '\n';
  if (!soft) return out;
  for (const char* name :
       {"HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"}) {
    Append(out, "%12s:", name);
    for (int i = 0; i < cpus; ++i) Append(out, " %10u", 0u);
    out += '\n';
  }
  return out;
}

std::string Vmstat(Kernel& kernel) {
  const uint64_t total = kernel.options().total_memory / kPageSize;
  const uint64_t used = std::min((kernel.memory_file().usage() + base::ChargedMemory::used()) / kPageSize, total);
  std::string out;
  auto row = [&](const char* name, uint64_t value) { Append(out, "%s %" PRIu64 "\n", name, value); };
  row("nr_free_pages", total - used);
  row("nr_zone_active_anon", used);
  for (const char* zero : {"nr_zone_inactive_anon", "nr_zone_inactive_file", "nr_zone_active_file", "nr_mlock"})
    row(zero, 0);
  row("nr_anon_pages", used);
  for (const char* zero : {"nr_mapped", "nr_file_pages", "nr_dirty", "nr_writeback", "nr_shmem", "nr_slab_reclaimable",
                           "nr_slab_unreclaimable", "pgpgin", "pgpgout", "pswpin", "pswpout", "pgalloc_normal",
                           "pgfree", "pgfault", "pgmajfault", "oom_kill"}) {
    row(zero, 0);
  }
  return out;
}

constexpr char kSlabinfo[] =
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> "
    "<sharedfactor> : "
    "slabdata <active_slabs> <num_slabs> <sharedavail>\n";
constexpr char kTtyDrivers[] =
    "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
    "/dev/console         /dev/console    5       1 system:console\n"
    "/dev/ptmx            /dev/ptmx       5       2 system\n"
    "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
    "pty_master           /dev/ptm      128 0-1048575 pty:master\n";

}  // namespace

void AddSystemFiles(const RefPtr<ProcSuperblock>& sb, kernfs::StaticDir& root) {
  Kernel& kernel = sb->kernel();
  const PidNamespace& ns = sb->ns();
  auto text = [&](const char* name, std::function<std::string()> f) {
    root.Add(name, kernfs::NewText(sb, std::move(f)));
  };
  auto fixed = [&](const char* name, const char* value) { root.Add(name, kernfs::NewText(sb, std::string(value))); };
  text("meminfo", [&kernel] { return Meminfo(kernel); });
  text("cpuinfo", [&kernel] { return CpuinfoText(kernel.cpus()); });
  text("stat", [&kernel, &ns] { return Stat(kernel, ns); });
  text("loadavg", [&kernel, &ns] { return Loadavg(kernel, ns); });
  text("uptime", [&kernel] {
    const int64_t up = kernel.time().BoottimeNow();
    const int64_t idle = std::max<int64_t>(up * kernel.cpus() - kernel.TotalCpuNs(), 0);
    std::string line;
    Append(line, "%" PRId64 ".%02" PRId64 " %" PRId64 ".%02" PRId64 "\n", up / kSecond, up % kSecond / kTickNs,
           idle / kSecond, idle % kSecond / kTickNs);
    return line;
  });
  text("version",
       [] { return std::string("Linux version ") + kKernelRelease + " (runsc@runsc) (gcc) " + kKernelVersion + "\n"; });
  text("filesystems", &Filesystems);
  fixed("cmdline", "\n");
  fixed("devices",
        "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n");
  fixed("partitions", "major minor  #blocks  name\n\n");
  fixed("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
  fixed("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
  fixed("execdomains", "0-0\tLinux           \t[kernel]\n");
  fixed("key-users", "    0:     1 1/1 1/1000000 9/25000000\n");
  fixed("buddyinfo", "");
  // What there is none of in a sandbox: modules, disks, interrupts, zones, keys.
  for (const char* empty : {"consoles", "crypto", "diskstats", "dma", "ioports", "iomem", "kallsyms", "keys", "locks",
                            "misc", "modules", "zoneinfo"}) {
    fixed(empty, "");
  }
  root.Add("kmsg", kernfs::NewText(sb, std::string(), 0400));
  root.Add("slabinfo", kernfs::NewText(sb, std::string(kSlabinfo), 0400));
  root.Add("pagetypeinfo", kernfs::NewText(sb, std::string("Page block order: 9\nPages per block:  512\n\n"), 0400));
  root.Add("timer_list",
           kernfs::NewText(sb, std::string("Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: 8\n"), 0400));
  root.Add("vmallocinfo", kernfs::NewText(sb, std::string(), 0400));
  // Requests that nothing here can do are refused, not swallowed.
  kernfs::TextOps sysrq;
  sysrq.store = [](VfsContext&, std::string_view) -> Result<void> { return Errno(EPERM); };
  root.Add("sysrq-trigger", base::MakeRef<kernfs::TextOpsFile>(sb, 0200, std::move(sysrq)));
  text("interrupts", [&kernel] { return Interrupts(kernel.cpus(), false); });
  text("softirqs", [&kernel] { return Interrupts(kernel.cpus(), true); });
  text("vmstat", [&kernel] { return Vmstat(kernel); });
  root.Add("mounts", kernfs::NewLink(sb, "self/mounts"));
  root.Add("net", kernfs::NewLink(sb, "self/net"));
  root.Add("sys", NewSysctlDir(sb));
  for (const char* dir : {"acpi", "bus", "driver", "fs", "irq", "scsi"}) root.Subdir(dir);
  for (const char* dir : {"input", "pci"}) root.Subdir("bus")->Subdir(dir);
  AddSysvIpcFiles(sb, *root.Subdir("sysvipc"));
  RefPtr<kernfs::StaticDir> tty = root.Subdir("tty");
  tty->Add("drivers", kernfs::NewText(sb, std::string(kTtyDrivers)));
  tty->Add("ldiscs", kernfs::NewText(sb, std::string("n_tty       0\n")));
  tty->Subdir("driver");
  tty->Subdir("ldisc");
}

}  // namespace sentry::proc
