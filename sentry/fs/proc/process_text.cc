#include "sentry/fs/proc/process_text.h"

#include <sys/resource.h>

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>

namespace sentry::proc {

namespace {

constexpr int64_t kTickNs = 10'000'000;  // USER_HZ is 100

[[gnu::format(printf, 2, 3)]] void Append(std::string& out, const char* format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  const int n = vsnprintf(buffer, sizeof(buffer), format, args);
  va_end(args);
  if (n > 0) out.append(buffer, std::min<size_t>(static_cast<size_t>(n), sizeof(buffer) - 1));
}

const char* StateName(char state) {
  switch (state) {
    case 'R': return "R (running)";
    case 'S': return "S (sleeping)";
    case 'D': return "D (disk sleep)";
    case 'T': return "T (stopped)";
    case 'Z': return "Z (zombie)";
    default: return "X (dead)";
  }
}

// What the tree knows of a task.
struct TreeInfo {
  int tid = 0, tgid = 0, ppid = 0, pgid = 0, sid = 0, tty = 0, tpgid = -1, threads = 0, exit_signal = 17, wait_status = 0;
  Usage usage, children;
  uint64_t pending = 0, shared_pending = 0, ignored = 0, caught = 0, queued = 0;
  std::string nspids;
};

TreeInfo Snapshot(Task& task, const PidNamespace& ns, bool whole) {
  TreeInfo info;
  ThreadGroup& tg = task.thread_group();
  base::MutexLock tree(task.kernel().tasks().mu);
  info.tid = task.TidIn(ns);
  info.tgid = tg.PidIn(ns);
  info.ppid = tg.parent != nullptr ? tg.parent->PidIn(ns) : 0;
  if (tg.process_group) {
    info.pgid = tg.process_group->IdIn(ns);
    info.sid = tg.process_group->session->IdIn(ns);
    if (Tty* tty = tg.process_group->session->tty) {
      info.tty = tty->device_number();
      info.tpgid = tty->ForegroundIdLocked(ns);
    }
  }
  info.threads = tg.live_count;
  info.exit_signal = std::max(tg.exit_signal, 0);
  info.wait_status = tg.zombie ? tg.wait_status : 0;
  info.usage = whole ? tg.TotalUsageLocked() : task.usage();
  info.children = tg.children_usage;
  base::MutexLock sig(tg.handlers->mu);
  info.pending = task.PendingForTimers().set().bits();
  info.shared_pending = tg.pending.set().bits();
  info.queued = task.PendingForTimers().queued() + tg.pending.queued();
  for (int i = 0; i < kSignals; ++i) {
    const uint64_t handler = tg.handlers->actions[i].handler;
    if (handler == kSigIgn) info.ignored |= uint64_t{1} << i;
    if (handler != kSigIgn && handler != kSigDfl) info.caught |= uint64_t{1} << i;
  }
  return info;
}

}  // namespace

Result<void> MayInspect(VfsContext& ctx, Task& target) {
  const Credentials& mine = *ctx.creds;
  CredentialsRef theirs = target.SnapshotCreds();
  const bool same = mine.fsuid == theirs->euid && mine.fsuid == theirs->suid && mine.fsuid == theirs->ruid && mine.fsgid == theirs->egid &&
                    mine.fsgid == theirs->sgid && mine.fsgid == theirs->rgid;
  if (mine.Capable(CAP_SYS_PTRACE)) return {};
  if (!same) return Errno(EACCES);
  RefPtr<MemoryManager> mm = target.SnapshotMm();
  if (mm && mm->dumpable.load() != 1) return Errno(EACCES);
  return {};
}

std::string StatText(Task& task, const PidNamespace& ns, bool whole) {
  TreeInfo i = Snapshot(task, ns, whole);
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  MemoryManager::Usage memory;
  MemoryManager::Layout layout;
  if (mm) {
    memory = mm->usage();
    layout = mm->layout();
  }
  std::string out;
  Append(out, "%d (%s) %c %d %d %d %d %d %u ", whole ? i.tgid : i.tid, task.comm().c_str(), task.state(), i.ppid, i.pgid, i.sid, i.tty,
         i.tpgid, 0x400000u);
  Append(out, "%" PRIu64 " 0 %" PRIu64 " 0 ", i.usage.minor_faults, i.usage.major_faults);
  Append(out, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " ", i.usage.user_ns / kTickNs, i.usage.system_ns / kTickNs,
         i.children.user_ns / kTickNs, i.children.system_ns / kTickNs);
  const int nice = task.nice.load();
  Append(out, "%d %d %d 0 %" PRId64 " ", 20 + nice, nice, std::max(i.threads, 1), task.start_time_ns / kTickNs);
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " ", memory.virtual_bytes, memory.resident_bytes / kPageSize,
         task.thread_group().Limit(RLIMIT_RSS));
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " 0 0 ", layout.start_code, layout.end_code, layout.start_stack);
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ", i.pending & 0x7fffffff, task.blocked().bits() & 0x7fffffff,
         i.ignored & 0x7fffffff, i.caught & 0x7fffffff);
  Append(out, "0 0 0 %d %d 0 0 0 0 0 ", i.exit_signal, std::max(task.context().LastCpu(), 0) % std::max(task.kernel().cpus(), 1));
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n", layout.start_data, layout.end_data,
         layout.start_brk, layout.arg_start, layout.arg_end, layout.env_start, layout.env_end, i.wait_status);
  return out;
}

std::string StatusText(Task& task, const PidNamespace& ns, bool whole) {
  TreeInfo i = Snapshot(task, ns, whole);
  CredentialsRef c = task.SnapshotCreds();
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  std::string out;
  Append(out, "Name:\t%s\n", task.comm().c_str());
  if (RefPtr<FsContext> fs = task.SnapshotFs()) Append(out, "Umask:\t%04o\n", fs->umask());
  Append(out, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t0\n", StateName(task.state()), i.tgid, i.tid, i.ppid);
  Append(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", c->ruid, c->euid, c->suid, c->fsuid, c->rgid, c->egid, c->sgid, c->fsgid);
  RefPtr<FdTable> fds = task.SnapshotFds();
  Append(out, "FDSize:\t%d\nGroups:\t", std::max(64, fds ? fds->count() : 0));
  for (uint32_t g : c->groups) Append(out, "%u ", g);
  Append(out, "\nNStgid:\t%d\nNSpid:\t%d\nNSpgid:\t%d\nNSsid:\t%d\n", i.tgid, i.tid, i.pgid, i.sid);
  if (mm) {
    MemoryManager::Usage m = mm->usage();
    auto kb = [&](const char* name, uint64_t bytes) { Append(out, "%s:\t%8" PRIu64 " kB\n", name, bytes >> 10); };
    kb("VmPeak", m.peak_virtual_bytes);
    kb("VmSize", m.virtual_bytes);
    kb("VmLck", m.locked_bytes);
    kb("VmPin", 0);
    kb("VmHWM", m.peak_resident_bytes);
    kb("VmRSS", m.resident_bytes);
    kb("RssAnon", m.resident_bytes - std::min(m.shared_bytes, m.resident_bytes));
    kb("RssFile", std::min(m.shared_bytes, m.resident_bytes));
    kb("RssShmem", 0);
    kb("VmData", m.data_bytes);
    kb("VmStk", m.stack_bytes);
    kb("VmExe", m.text_bytes);
    kb("VmLib", 0);
    kb("VmPTE", m.resident_bytes / 512);
    kb("VmSwap", 0);
    Append(out, "HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\n");
  }
  Append(out, "Threads:\t%d\nSigQ:\t%" PRIu64 "/%" PRIu64 "\n", std::max(i.threads, 1), i.queued, task.thread_group().Limit(RLIMIT_SIGPENDING));
  Append(out, "SigPnd:\t%016" PRIx64 "\nShdPnd:\t%016" PRIx64 "\nSigBlk:\t%016" PRIx64 "\nSigIgn:\t%016" PRIx64 "\nSigCgt:\t%016" PRIx64 "\n",
         i.pending, i.shared_pending, task.blocked().bits(), i.ignored, i.caught);
  Append(out, "CapInh:\t%016" PRIx64 "\nCapPrm:\t%016" PRIx64 "\nCapEff:\t%016" PRIx64 "\nCapBnd:\t%016" PRIx64 "\nCapAmb:\t%016" PRIx64 "\n",
         c->inheritable, c->permitted, c->effective, c->bounding, c->ambient);
  Append(out, "NoNewPrivs:\t%d\nSeccomp:\t0\nSeccomp_filters:\t0\nSpeculation_Store_Bypass:\tvulnerable\n", c->no_new_privs ? 1 : 0);
  const int cpus = task.kernel().cpus();
  Append(out, "Cpus_allowed:\t%x\nCpus_allowed_list:\t0-%d\nMems_allowed:\t1\nMems_allowed_list:\t0\n",
         cpus >= 32 ? ~0u : (1u << cpus) - 1, cpus - 1);
  Append(out, "voluntary_ctxt_switches:\t%" PRIu64 "\nnonvoluntary_ctxt_switches:\t%" PRIu64 "\n", i.usage.voluntary_switches,
         i.usage.involuntary_switches);
  return out;
}

std::string StatmText(Task& task) {
  MemoryManager::Usage m;
  if (RefPtr<MemoryManager> mm = task.SnapshotMm()) m = mm->usage();
  std::string out;
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " 0 %" PRIu64 " 0\n", m.virtual_bytes / kPageSize, m.resident_bytes / kPageSize,
         m.shared_bytes / kPageSize, m.text_bytes / kPageSize, (m.data_bytes + m.stack_bytes) / kPageSize);
  return out;
}

namespace {

void AppendVma(std::string& out, const MemoryManager::VmaInfo& v) {
  const size_t start = out.size();
  Append(out, "%08" PRIx64 "-%08" PRIx64 " %c%c%c%c %08" PRIx64 " %02x:%02x %" PRIu64 " ", v.range.start, v.range.end, v.prot & 1 ? 'r' : '-',
         v.prot & 2 ? 'w' : '-', v.prot & 4 ? 'x' : '-', v.shared ? 's' : 'p', v.offset, static_cast<unsigned>(v.identity.dev >> 8 & 0xfff),
         static_cast<unsigned>((v.identity.dev & 0xff) | (v.identity.dev >> 12 & 0xfff00)), v.identity.ino);
  if (!v.identity.path.empty()) {
    // show_map_vma pads to column 73.
    const size_t width = out.size() - start;
    if (width < 73) out.append(73 - width, ' ');
    for (char c : v.identity.path) {
      if (c == '\n') {
        out += "\\012";
      } else {
        out += c;
      }
    }
  } else {
    out.pop_back();
    out += ' ';
  }
  out += '\n';
}

void AppendSmap(std::string& out, const MemoryManager::VmaInfo& v) {
  const uint64_t rss = v.resident_bytes >> 10, dirty = v.dirty_bytes >> 10;
  const uint64_t clean = rss - std::min(dirty, rss);
  Append(out, "Size:           %8" PRIu64 " kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n", v.range.length() >> 10);
  Append(out, "Rss:            %8" PRIu64 " kB\nPss:            %8" PRIu64 " kB\nPss_Dirty:      %8" PRIu64 " kB\n", rss, rss, dirty);
  Append(out, "Shared_Clean:   %8" PRIu64 " kB\nShared_Dirty:   %8" PRIu64 " kB\n", v.shared ? clean : 0, v.shared ? dirty : 0);
  Append(out, "Private_Clean:  %8" PRIu64 " kB\nPrivate_Dirty:  %8" PRIu64 " kB\n", v.shared ? 0 : clean, v.shared ? 0 : dirty);
  Append(out, "Referenced:     %8" PRIu64 " kB\nAnonymous:      %8" PRIu64 " kB\nKSM:                   0 kB\n", rss, v.shared ? 0 : dirty);
  Append(out, "LazyFree:              0 kB\nAnonHugePages:         0 kB\nShmemPmdMapped:        0 kB\nFilePmdMapped:         0 kB\n");
  Append(out, "Shared_Hugetlb:        0 kB\nPrivate_Hugetlb:       0 kB\nSwap:                  0 kB\nSwapPss:               0 kB\n");
  Append(out, "Locked:         %8" PRIu64 " kB\n", v.locked ? rss : 0);
}

}  // namespace

std::string MapsText(Task& task, VfsContext& ctx) {
  std::string out;
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return out;
  for (const MemoryManager::VmaInfo& v : mm->Vmas()) AppendVma(out, v);
  return out;
}

std::string SmapsText(Task& task, VfsContext& ctx, bool rollup) {
  std::string out;
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return out;
  std::vector<MemoryManager::VmaInfo> vmas = mm->Vmas();
  if (rollup) {
    MemoryManager::VmaInfo sum;
    uint64_t size = 0;
    for (const MemoryManager::VmaInfo& v : vmas) {
      size += v.range.length();
      sum.resident_bytes += v.resident_bytes;
      sum.dirty_bytes += v.dirty_bytes;
    }
    if (!vmas.empty()) {
      Append(out, "%08" PRIx64 "-%08" PRIx64 " ---p 00000000 00:00 0                          [rollup]\n", vmas.front().range.start,
             vmas.back().range.end);
    }
    sum.range = {0, size};
    AppendSmap(out, sum);
    return out;
  }
  for (const MemoryManager::VmaInfo& v : vmas) {
    AppendVma(out, v);
    AppendSmap(out, v);
    Append(out, "THPeligible:           0\nVmFlags: %s%s%smr mw me %s\n", v.prot & 1 ? "rd " : "", v.prot & 2 ? "wr " : "",
           v.prot & 4 ? "ex " : "", v.shared ? "sh " : "ac ");
  }
  return out;
}

std::string LimitsText(Task& task) {
  struct Name {
    const char* name;
    const char* unit;
    int resource;
  };
  static constexpr Name kNames[] = {
      {"Max cpu time", "seconds", RLIMIT_CPU},         {"Max file size", "bytes", RLIMIT_FSIZE},
      {"Max data size", "bytes", RLIMIT_DATA},         {"Max stack size", "bytes", RLIMIT_STACK},
      {"Max core file size", "bytes", RLIMIT_CORE},    {"Max resident set", "bytes", RLIMIT_RSS},
      {"Max processes", "processes", RLIMIT_NPROC},    {"Max open files", "files", RLIMIT_NOFILE},
      {"Max locked memory", "bytes", RLIMIT_MEMLOCK},  {"Max address space", "bytes", RLIMIT_AS},
      {"Max file locks", "locks", RLIMIT_LOCKS},       {"Max pending signals", "signals", RLIMIT_SIGPENDING},
      {"Max msgqueue size", "bytes", RLIMIT_MSGQUEUE}, {"Max nice priority", "", RLIMIT_NICE},
      {"Max realtime priority", "", RLIMIT_RTPRIO},    {"Max realtime timeout", "us", RLIMIT_RTTIME},
  };
  std::string out;
  Append(out, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  const Limits limits = task.thread_group().limits();
  for (const Name& n : kNames) {
    Append(out, "%-25s ", n.name);
    for (uint64_t v : {limits.values[n.resource].rlim_cur, limits.values[n.resource].rlim_max}) {
      if (v == UINT64_MAX) {
        Append(out, "%-20s ", "unlimited");
      } else {
        Append(out, "%-20" PRIu64 " ", v);
      }
    }
    Append(out, "%-10s\n", n.unit);
  }
  return out;
}

Result<std::string> ArgumentsText(Task& task, bool environment) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return std::string();
  const MemoryManager::Layout layout = mm->layout();
  const Addr start = environment ? layout.env_start : layout.arg_start;
  const Addr end = environment ? layout.env_end : layout.arg_end;
  if (end <= start) return std::string();
  std::string text(std::min<uint64_t>(end - start, 1 << 20), '\0');
  Result<size_t> n = mm->ForceCopyIn(std::as_writable_bytes(std::span(text)), start);
  text.resize(n.value_or(0));
  return text;
}

std::string AuxvText(Task& task) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return "";
  const std::vector<uint64_t> auxv = mm->layout().auxv;
  return std::string(reinterpret_cast<const char*>(auxv.data()), auxv.size() * sizeof(uint64_t));
}

}  // namespace sentry::proc
