// /proc/sys (Documentation/admin-guide/sysctl). Values without an effect here are kept when root writes them.
#include "base/syscall_unsafe.h"
#include "sentry/fs/proc/system_text.h"
#include "sentry/kernel/version.h"

namespace sentry::proc {

namespace {

using kernfs::StaticDir;

struct Setting {
  const char* path;  // below /proc/sys
  const char* value;
  uint32_t permissions = 0644;
};

constexpr Setting kSettings[] = {
    {"kernel/ostype", "Linux\n", 0444},
    {"kernel/osrelease", nullptr, 0444},
    {"kernel/version", nullptr, 0444},
    {"kernel/pid_max", "4194304\n"},
    {"kernel/threads-max", "127000\n"},
    {"kernel/cap_last_cap", "40\n", 0444},
    {"kernel/ngroups_max", "65536\n", 0444},
    {"kernel/overflowuid", "65534\n"},
    {"kernel/overflowgid", "65534\n"},
    {"kernel/shmmax", "18446744073692774399\n"},
    {"kernel/shmall", "18446744073692774399\n"},
    {"kernel/shmmni", "4096\n"},
    {"kernel/sem", "32000\t1024000000\t500\t32000\n"},
    {"kernel/msgmax", "8192\n"},
    {"kernel/msgmnb", "16384\n"},
    {"kernel/msgmni", "32000\n"},
    {"kernel/printk", "4\t4\t1\t7\n"},
    {"kernel/core_pattern", "core\n"},
    {"kernel/core_uses_pid", "0\n"},
    {"kernel/randomize_va_space", "2\n"},
    {"kernel/panic", "0\n"},
    {"kernel/tainted", "0\n"},
    {"kernel/sysrq", "0\n"},
    {"kernel/dmesg_restrict", "1\n"},
    {"kernel/kptr_restrict", "1\n"},
    {"kernel/perf_event_paranoid", "4\n"},
    {"kernel/unprivileged_bpf_disabled", "2\n"},
    {"kernel/sched_child_runs_first", "0\n"},
    {"kernel/random/poolsize", "256\n", 0444},
    {"kernel/random/entropy_avail", "256\n", 0444},
    {"kernel/seccomp/actions_avail", "kill_process kill_thread trap errno user_notif trace log allow\n", 0444},
    {"kernel/seccomp/actions_logged", "kill_process kill_thread trap errno user_notif trace log\n"},
    {"kernel/keys/root_maxkeys", "1000000\n"},
    {"vm/overcommit_memory", "0\n"},
    {"vm/overcommit_ratio", "50\n"},
    {"vm/max_map_count", "65530\n"},
    {"vm/mmap_min_addr", "65536\n"},
    {"vm/swappiness", "60\n"},
    {"vm/nr_hugepages", "0\n"},
    {"vm/drop_caches", "0\n"},
    {"vm/dirty_ratio", "20\n"},
    {"vm/dirty_background_ratio", "10\n"},
    {"vm/min_free_kbytes", "67584\n"},
    {"fs/file-max", "9223372036854775807\n"},
    {"fs/file-nr", "0\t0\t9223372036854775807\n", 0444},
    {"fs/inode-nr", "0\t0\n", 0444},
    {"fs/nr_open", "1048576\n"},
    {"fs/pipe-max-size", "1048576\n"},
    {"fs/pipe-user-pages-soft", "16384\n"},
    {"fs/aio-max-nr", "65536\n"},
    {"fs/aio-nr", "0\n", 0444},
    {"fs/inotify/max_user_watches", "65536\n"},
    {"fs/inotify/max_user_instances", "128\n"},
    {"fs/inotify/max_queued_events", "16384\n"},
    {"fs/epoll/max_user_watches", "1000000\n"},
    {"fs/protected_hardlinks", "0\n"},
    {"fs/protected_symlinks", "0\n"},
    {"fs/protected_fifos", "0\n"},
    {"fs/protected_regular", "0\n"},
    {"fs/suid_dumpable", "0\n"},
    {"fs/lease-break-time", "45\n"},
    {"net/core/somaxconn", "4096\n"},
    {"net/core/rmem_max", "212992\n"},
    {"net/core/wmem_max", "212992\n"},
    {"net/core/rmem_default", "212992\n"},
    {"net/core/wmem_default", "212992\n"},
    {"net/core/netdev_max_backlog", "1000\n"},
    {"net/ipv4/ip_local_port_range", "32768\t60999\n"},
    {"net/ipv4/ip_forward", "0\n"},
    {"net/ipv4/ip_unprivileged_port_start", "1024\n"},
    {"net/ipv4/ip_nonlocal_bind", "0\n"},
    {"net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"},
    {"net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"},
    {"net/ipv4/tcp_fin_timeout", "60\n"},
    {"net/ipv4/tcp_keepalive_time", "7200\n"},
    {"net/ipv4/tcp_keepalive_intvl", "75\n"},
    {"net/ipv4/tcp_keepalive_probes", "9\n"},
    {"net/ipv4/tcp_max_syn_backlog", "4096\n"},
    {"net/ipv4/tcp_syncookies", "1\n"},
    {"net/ipv4/tcp_tw_reuse", "2\n"},
    {"net/ipv4/tcp_timestamps", "1\n"},
    {"net/ipv4/tcp_sack", "1\n"},
    {"net/ipv4/tcp_congestion_control", "cubic\n"},
    {"net/ipv4/tcp_available_congestion_control", "reno cubic\n", 0444},
    {"net/ipv4/tcp_fastopen", "1\n"},
    {"net/ipv6/conf/all/disable_ipv6", "0\n"},
    {"net/ipv6/conf/default/disable_ipv6", "0\n"},
    {"net/ipv6/conf/lo/disable_ipv6", "0\n"},
    {"net/ipv6/bindv6only", "0\n"},
    {"net/unix/max_dgram_qlen", "512\n"},
};

std::string RandomUuid(Kernel& kernel) {
  uint8_t b[16];
  kernel.GetRandom(std::as_writable_bytes(std::span(b)));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  char text[40];
  snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", b[0], b[1],
           b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  return text;
}

// The name of the UTS namespace of whoever reads or writes.
RefPtr<Inode> NewHostname(const RefPtr<kernfs::KernSuperblock>& sb, bool domain) {
  kernfs::TextOps ops;
  ops.generate = [domain](VfsContext&) -> Result<std::string> {
    Task* task = Task::Current();
    if (task == nullptr) return std::string("\n");
    base::MutexLock l(task->uts().mu);
    return (domain ? task->uts().domainname : task->uts().hostname) + "\n";
  };
  ops.store = [domain](VfsContext& ctx, std::string_view text) -> Result<void> {
    Task* task = Task::Current();
    if (task == nullptr || !ctx.creds->Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    if (text.size() > 64) return Errno(EINVAL);
    {
      base::MutexLock l(task->uts().mu);
      (domain ? task->uts().domainname : task->uts().hostname) = std::string(text);
    }
    task->kernel().ChangeAnswers();
    return {};
  };
  return base::MakeRef<kernfs::TextOpsFile>(sb, 0644, std::move(ops));
}

}  // namespace

namespace {

void Fill(Kernel& kernel, StaticDir& root) {
  const RefPtr<kernfs::KernSuperblock> sb = root.kern_ref();
  for (const Setting& s : kSettings) {
    RefPtr<StaticDir> dir(&root);
    std::string_view path = s.path;
    for (size_t slash; (slash = path.find('/')) != std::string_view::npos; path = path.substr(slash + 1)) {
      dir = dir->Subdir(path.substr(0, slash));
    }
    std::string value = s.value != nullptr                      ? s.value
                        : path == std::string_view("osrelease") ? std::string(kKernelRelease) + "\n"
                                                                : std::string(kKernelVersion) + "\n";
    dir->Add(std::string(path), (s.permissions & 0222) ? kernfs::NewValue(sb, value, s.permissions)
                                                       : kernfs::NewText(sb, value, s.permissions));
  }
  RefPtr<StaticDir> kern = root.Subdir("kernel");
  kern->Add("hostname", NewHostname(sb, false));
  kern->Add("domainname", NewHostname(sb, true));
  RefPtr<StaticDir> random = kern->Subdir("random");
  random->Add("boot_id", kernfs::NewText(sb, RandomUuid(kernel)));
  random->Add("uuid", kernfs::NewText(sb, [&kernel] { return RandomUuid(kernel); }));
}

}  // namespace

RefPtr<Inode> NewSysctlDir(const RefPtr<ProcSuperblock>& sb) {
  return base::MakeRef<kernfs::LazyDir>(sb, [&kernel = sb->kernel()](StaticDir& root) { Fill(kernel, root); });
}

}  // namespace sentry::proc
