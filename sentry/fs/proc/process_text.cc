#include "sentry/fs/proc/process_text.h"

#include <sys/resource.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "sentry/fs/proc/append.h"

namespace sentry::proc {

namespace {

constexpr int64_t kTickNs = 10'000'000;  // USER_HZ is 100

const char* StateName(char state) {
  switch (state) {
    case 'R':
      return "R (running)";
    case 'S':
      return "S (sleeping)";
    case 'D':
      return "D (disk sleep)";
    case 'T':
      return "T (stopped)";
    case 't':
      return "t (tracing stop)";
    case 'Z':
      return "Z (zombie)";
    default:
      return "X (dead)";
  }
}

// What the tree knows of a task.
struct TreeInfo {
  int tid = 0, tgid = 0, ppid = 0, tracer = 0, pgid = 0, sid = 0, tty = 0, tpgid = -1, threads = 0, exit_signal = 17,
      wait_status = 0;
  Usage usage, children;
  uint64_t pending = 0, shared_pending = 0, ignored = 0, caught = 0, queued = 0;
  // In the reader's namespace and those below, down to the task's own.
  std::vector<int> ns_tgid, ns_tid, ns_pgid, ns_sid;
};

TreeInfo Snapshot(Task& task, const PidNamespace& ns, bool whole) {
  TreeInfo info;
  ThreadGroup& tg = task.thread_group();
  base::MutexLock tree(task.kernel().tasks().mu);
  info.tid = task.TidIn(ns);
  info.tgid = tg.PidIn(ns);
  if (const Task* tracer = task.ptrace_state().tracer) info.tracer = tracer->TidIn(ns);
  info.ppid = tg.parent != nullptr ? tg.parent->PidIn(ns) : 0;
  if (tg.process_group) {
    info.pgid = tg.process_group->IdIn(ns);
    info.sid = tg.process_group->session->IdIn(ns);
    if (Tty* tty = tg.process_group->session->tty) {
      info.tty = tty->device_number();
      info.tpgid = tty->ForegroundIdLocked(ns);
    }
  }
  for (const PidNamespace* n = &task.pid_namespace(); n != nullptr; n = n == &ns ? nullptr : n->parent()) {
    info.ns_tgid.insert(info.ns_tgid.begin(), tg.PidIn(*n));
    info.ns_tid.insert(info.ns_tid.begin(), task.TidIn(*n));
    info.ns_pgid.insert(info.ns_pgid.begin(), tg.process_group ? tg.process_group->IdIn(*n) : 0);
    info.ns_sid.insert(info.ns_sid.begin(), tg.process_group ? tg.process_group->session->IdIn(*n) : 0);
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
  const Task* caller = Task::Current();
  if (caller != nullptr && &caller->thread_group() == &target.thread_group()) return {};
  const Credentials& mine = *ctx.creds;
  if (mine.Capable(CAP_SYS_PTRACE)) return {};
  CredentialsRef theirs = target.SnapshotCreds();
  const bool same = mine.fsuid == theirs->euid && mine.fsuid == theirs->suid && mine.fsuid == theirs->ruid &&
                    mine.fsgid == theirs->egid && mine.fsgid == theirs->sgid && mine.fsgid == theirs->rgid;
  if (!same) return Errno(EACCES);
  // cap_ptrace_access_check.
  if ((theirs->permitted & ~mine.effective) != 0) return Errno(EACCES);
  RefPtr<MemoryManager> mm = target.SnapshotMm();
  if (mm && mm->dumpable.load(std::memory_order_relaxed) != 1) return Errno(EACCES);
  return {};
}

std::string CpuList(uint64_t mask, int count) {
  std::string out;
  for (int i = 0; i < count && i < 64; ++i) {
    if (((mask >> i) & 1) == 0) continue;
    int end = i;
    while (end + 1 < count && end + 1 < 64 && ((mask >> (end + 1)) & 1) != 0) ++end;
    Append(out, out.empty() ? "%d" : ",%d", i);
    if (end > i) Append(out, "-%d", end);
    i = end;
  }
  return out;
}

std::string CpuMask(uint64_t mask, int count) {
  count = std::clamp(count, 1, 64);
  if (count < 64) mask &= (uint64_t{1} << count) - 1;
  std::string out;
  const int high = count - 32;
  if (high > 0) Append(out, "%0*x,", (high + 3) / 4, static_cast<uint32_t>(mask >> 32));
  Append(out, "%0*x", high > 0 ? 8 : (count + 3) / 4, static_cast<uint32_t>(mask));
  return out;
}

namespace {

// Names with a newline or a backslash in them take up one line all the same (proc_task_name).
std::string EscapedComm(const Task& task) {
  std::string out;
  for (char c : task.comm()) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\') {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out;
}

void AppendNumbers(std::string& out, const char* name, const std::vector<int>& numbers) {
  Append(out, "%s:", name);
  for (int n : numbers) Append(out, "\t%d", n);
  out += '\n';
}

}  // namespace

std::string StatText(Task& task, const PidNamespace& ns, bool whole, bool permitted) {
  TreeInfo i = Snapshot(task, ns, whole);
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  MemoryManager::Usage memory;
  MemoryManager::Layout layout;
  if (mm) {
    memory = mm->usage();
    layout = mm->layout();
  }
  if (!permitted) {
    const uint64_t hidden = mm ? 1 : 0;
    layout = {};
    layout.start_code = layout.end_code = hidden;
  }
  std::string out;
  Append(out, "%d (%s) %c %d %d %d %d %d %u ", whole ? i.tgid : i.tid, task.comm().c_str(), task.state(), i.ppid,
         i.pgid, i.sid, i.tty, i.tpgid, 0x400000u);
  Append(out, "%" PRIu64 " 0 %" PRIu64 " 0 ", i.usage.minor_faults, i.usage.major_faults);
  Append(out, "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " ", i.usage.user_ns / kTickNs,
         i.usage.system_ns / kTickNs, i.children.user_ns / kTickNs, i.children.system_ns / kTickNs);
  const int nice = task.nice.load();
  Append(out, "%d %d %d 0 %" PRId64 " ", 20 + nice, nice, std::max(i.threads, 1), task.start_time_ns / kTickNs);
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " ", memory.virtual_bytes, memory.resident_bytes / kPageSize,
         task.thread_group().Limit(RLIMIT_RSS));
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " 0 0 ", layout.start_code, layout.end_code, layout.start_stack);
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ", i.pending & 0x7fffffff,
         task.blocked().bits() & 0x7fffffff, i.ignored & 0x7fffffff, i.caught & 0x7fffffff);
  Append(out, "0 0 0 %d %d 0 %d 0 0 0 ", i.exit_signal,
         std::max(task.context().LastCpu(), 0) % std::max(task.kernel().cpus(), 1), task.sched_policy.load());
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d\n",
         layout.start_data, layout.end_data, layout.start_brk, layout.arg_start, layout.arg_end, layout.env_start,
         layout.env_end, i.wait_status);
  return out;
}

std::string StatusText(Task& task, const PidNamespace& ns, bool whole) {
  TreeInfo i = Snapshot(task, ns, whole);
  CredentialsRef c = task.SnapshotCreds();
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  std::string out;
  Append(out, "Name:\t%s\n", EscapedComm(task).c_str());
  if (RefPtr<FsContext> fs = task.SnapshotFs()) Append(out, "Umask:\t%04o\n", fs->umask());
  Append(out, "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n", StateName(task.state()), i.tgid,
         i.tid, i.ppid, i.tracer);
  Append(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", c->ruid, c->euid, c->suid, c->fsuid, c->rgid, c->egid,
         c->sgid, c->fsgid);
  RefPtr<FdTable> fds = task.SnapshotFds();
  Append(out, "FDSize:\t%d\nGroups:\t", std::max(64, fds ? fds->count() : 0));
  for (uint32_t g : c->groups) Append(out, "%u ", g);
  out += '\n';
  AppendNumbers(out, "NStgid", i.ns_tgid);
  AppendNumbers(out, "NSpid", i.ns_tid);
  AppendNumbers(out, "NSpgid", i.ns_pgid);
  AppendNumbers(out, "NSsid", i.ns_sid);
  out += "Kthread:\t0\n";
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
    const MemoryManager::Layout layout = mm->layout();
    const uint64_t text = std::min(m.text_bytes, PageRoundUp(layout.end_code) - (layout.start_code & ~kPageMask));
    kb("VmExe", text);
    kb("VmLib", m.text_bytes - text);
    kb("VmPTE", m.resident_bytes / 512);
    kb("VmSwap", 0);
    Append(out, "HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n");
  }
  Append(out, "Threads:\t%d\nSigQ:\t%" PRIu64 "/%" PRIu64 "\n", std::max(i.threads, 1), i.queued,
         task.thread_group().Limit(RLIMIT_SIGPENDING));
  Append(out,
         "SigPnd:\t%016" PRIx64 "\nShdPnd:\t%016" PRIx64 "\nSigBlk:\t%016" PRIx64 "\nSigIgn:\t%016" PRIx64
         "\nSigCgt:\t%016" PRIx64 "\n",
         i.pending, i.shared_pending, task.blocked().bits(), i.ignored, i.caught);
  Append(out,
         "CapInh:\t%016" PRIx64 "\nCapPrm:\t%016" PRIx64 "\nCapEff:\t%016" PRIx64 "\nCapBnd:\t%016" PRIx64
         "\nCapAmb:\t%016" PRIx64 "\n",
         c->inheritable, c->permitted, c->effective, c->bounding, c->ambient);
  Append(out, "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\nSpeculation_Store_Bypass:\tvulnerable\n",
         c->no_new_privs || task.takes_no_new_privs() ? 1 : 0, task.seccomp_mode(), task.seccomp_filters());
  const int cpus = task.kernel().cpus();
  const uint64_t allowed = task.affinity.load(std::memory_order_relaxed);
  Append(out, "Cpus_allowed:\t%s\nCpus_allowed_list:\t%s\nMems_allowed:\t1\nMems_allowed_list:\t0\n",
         CpuMask(allowed, cpus).c_str(), CpuList(allowed, cpus).c_str());
  Append(out, "voluntary_ctxt_switches:\t%" PRIu64 "\nnonvoluntary_ctxt_switches:\t%" PRIu64 "\n",
         i.usage.voluntary_switches, i.usage.involuntary_switches);
  return out;
}

std::string StatmText(Task& task) {
  MemoryManager::Usage m;
  if (RefPtr<MemoryManager> mm = task.SnapshotMm()) m = mm->usage();
  std::string out;
  Append(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " 0 %" PRIu64 " 0\n", m.virtual_bytes / kPageSize,
         m.resident_bytes / kPageSize, m.shared_bytes / kPageSize, m.text_bytes / kPageSize,
         (m.data_bytes + m.stack_bytes) / kPageSize);
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

namespace {

std::string ReadText(MemoryManager& mm, Addr start, Addr end) {
  constexpr uint64_t kMax = 4 << 20;
  if (end <= start) return "";
  std::string text(std::min<uint64_t>(end - start, kMax), '\0');
  Result<size_t> n = mm.ForceCopyIn(std::as_writable_bytes(std::span(text)), start);
  text.resize(n.value_or(0));
  return text;
}

}  // namespace

Result<std::string> ArgumentsText(Task& task, bool environment) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return std::string();
  const MemoryManager::Layout layout = mm->layout();
  if (environment) return ReadText(*mm, layout.env_start, layout.env_end);
  std::string text = ReadText(*mm, layout.arg_start, layout.arg_end);
  // get_mm_cmdline: a program that overwrote the end of its arguments has put a title there, which may go on over the
  // environment.
  if (!text.empty() && text.back() != '\0' && layout.env_start == layout.arg_end) {
    std::string title =
        text + ReadText(*mm, layout.env_start, std::min<Addr>(layout.env_end, layout.env_start + kPageSize));
    const size_t end = title.find('\0');
    return end == std::string::npos ? title : title.substr(0, end + 1);
  }
  return text;
}

std::string AuxvText(Task& task) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (!mm) return "";
  const std::vector<uint64_t> auxv = mm->layout().auxv;
  return std::string(reinterpret_cast<const char*>(auxv.data()), auxv.size() * sizeof(uint64_t));
}

}  // namespace sentry::proc
