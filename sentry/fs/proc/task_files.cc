// The table of what a process directory has (fs/proc/base.c: tgid_base_stuff, tid_base_stuff).
//
// Left out, as a kernel built without it would: numa_maps, stack, syscall, timers, patch_state. Differs from Linux: io
// does not know what came from a disk (read_bytes, write_bytes are 0), uid_map and gid_map are those of the initial
// user namespace and cannot be written.
#include <fcntl.h>
#include <sys/stat.h>

#include <charconv>
#include <cinttypes>

#include "sentry/fs/proc/mem_file.h"
#include "sentry/fs/proc/mount_file.h"
#include "sentry/fs/proc/net.h"
#include "sentry/fs/proc/page_files.h"
#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

using Text = Result<std::string>;

std::optional<int64_t> ParseInt(std::string_view text) {
  auto is_space = [](char c) { return c == '\n' || c == '\0' || c == ' ' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  int64_t value;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <typename... Args>
std::string Format(const char* format, Args... args) {
  char text[256];
  const int n = snprintf(text, sizeof(text), format, args...);
  return std::string(text, std::min<size_t>(n > 0 ? static_cast<size_t>(n) : 0, sizeof(text) - 1));
}

bool OwnProcess(const TaskRef& ref) {
  const Task* caller = Task::Current();
  return caller != nullptr && &caller->thread_group() == &ref.task->thread_group();
}

// --- Links.
Result<VfsPath> Cwd(const TaskRef& ref) {
  RefPtr<FsContext> fs = ref.task->SnapshotFs();
  if (!fs) return Errno(ENOENT);
  return fs->cwd();
}
Result<VfsPath> Root(const TaskRef& ref) {
  RefPtr<FsContext> fs = ref.task->SnapshotFs();
  if (!fs) return Errno(ENOENT);
  return fs->root();
}
Result<VfsPath> Exe(const TaskRef& ref) {
  RefPtr<MemoryManager> mm = ref.task->SnapshotMm();
  if (!mm) return Errno(ENOENT);
  RefPtr<base::RefCounted> exe = mm->layout().exe;
  auto* file = dynamic_cast<FileDescription*>(exe.get());
  if (file == nullptr) return Errno(ENOENT);
  return file->path();
}

// --- Values.
Text Comm(const TaskRef& ref, VfsContext&) { return ref.task->comm() + "\n"; }
Result<void> SetComm(const TaskRef& ref, VfsContext&, std::string_view text) {
  // comm_write: a thread of the process itself; the text is taken as it is, up to a NUL.
  if (!OwnProcess(ref)) return Errno(EINVAL);
  ref.task->SetComm(text.substr(0, text.find('\0')));
  return {};
}

Text OomScoreAdj(const TaskRef& ref, VfsContext&) {
  return Format("%d\n", ref.task->thread_group().oom_score_adj.load());
}
Result<void> StoreOomScoreAdj(const TaskRef& ref, int64_t value) {
  ThreadGroup& tg = ref.task->thread_group();
  const Task* caller = Task::Current();
  // __set_oom_adj: whoever has no privilege may only offer itself.
  if (value < tg.oom_score_adj.load() && (caller == nullptr || !caller->Capable(CAP_SYS_RESOURCE)))
    return Errno(EACCES);
  tg.oom_score_adj.store(static_cast<int>(value));
  return {};
}
Result<void> SetOomScoreAdj(const TaskRef& ref, VfsContext&, std::string_view text) {
  std::optional<int64_t> value = ParseInt(text);
  if (!value || *value < -1000 || *value > 1000) return Errno(EINVAL);
  return StoreOomScoreAdj(ref, *value);
}
Text OomAdj(const TaskRef& ref, VfsContext&) {
  const int adj = ref.task->thread_group().oom_score_adj.load();
  return Format("%d\n", adj == 1000 ? 15 : adj * 17 / 1000);
}
Result<void> SetOomAdj(const TaskRef& ref, VfsContext&, std::string_view text) {
  std::optional<int64_t> value = ParseInt(text);
  if (!value || *value < -17 || *value > 15) return Errno(EINVAL);
  return StoreOomScoreAdj(ref, *value == 15 ? 1000 : *value * 1000 / 17);
}
Text OomScore(const TaskRef& ref, VfsContext&) {
  // proc_oom_score, oom_badness: thousandths of all memory, moved and scaled to be positive.
  const int64_t total = static_cast<int64_t>(std::max<uint64_t>(ref.kernel().options().total_memory / kPageSize, 1));
  const int64_t adj = ref.task->thread_group().oom_score_adj.load();
  if (adj == -1000) return std::string("0\n");
  RefPtr<MemoryManager> mm = ref.task->SnapshotMm();
  if (!mm) return std::string("0\n");
  const int64_t pages = static_cast<int64_t>(mm->usage().resident_bytes / kPageSize) + adj * (total / 1000);
  return Format("%" PRId64 "\n", std::max<int64_t>(0, (1000 + pages * 1000 / total) * 2 / 3));
}

Text TimerSlack(const TaskRef& ref, VfsContext&) { return Format("%" PRId64 "\n", ref.task->timer_slack_ns); }
Result<void> SetTimerSlack(const TaskRef& ref, VfsContext&, std::string_view text) {
  // Differs from Linux: for the calling thread only.
  if (Task::Current() != ref.task.get()) return Errno(EPERM);
  std::optional<int64_t> value = ParseInt(text);
  if (!value || *value < 0) return Errno(EINVAL);
  ref.task->timer_slack_ns = *value == 0 ? ref.task->default_timer_slack_ns : *value;
  return {};
}

Text Io(const TaskRef& ref, VfsContext&) {
  Usage u;
  if (ref.whole) {
    // With those of children that were waited for (do_io_accounting, wait_task_zombie).
    base::MutexLock tree(ref.kernel().tasks().mu);
    u = ref.task->thread_group().TotalUsageLocked();
    u.Add(ref.task->thread_group().children_usage);
  } else {
    u = ref.task->usage();
  }
  return Format("rchar: %" PRIu64 "\nwchar: %" PRIu64 "\nsyscr: %" PRIu64 "\nsyscw: %" PRIu64
                "\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n",
                u.read_bytes, u.written_bytes, u.reads, u.writes);
}

Text Sched(const TaskRef& ref, VfsContext&) {
  int tid, threads;
  {
    base::MutexLock tree(ref.kernel().tasks().mu);
    tid = ref.task->TidIn(ref.ns());
    threads = ref.task->thread_group().live_count;
  }
  const Usage u = ref.task->usage();
  const int64_t runtime = u.user_ns + u.system_ns;
  std::string out = Format("%s (%d, #threads: %d)\n", ref.task->comm().c_str(), tid, threads);
  out += "-------------------------------------------------------------------\n";
  out += Format("%-45s:%14" PRId64 ".%06" PRId64 "\n", "se.sum_exec_runtime", runtime / 1'000'000, runtime % 1'000'000);
  out += Format("%-45s:%21" PRIu64 "\n", "nr_switches", u.voluntary_switches + u.involuntary_switches);
  out += Format("%-45s:%21" PRIu64 "\n", "nr_voluntary_switches", u.voluntary_switches);
  out += Format("%-45s:%21" PRIu64 "\n", "nr_involuntary_switches", u.involuntary_switches);
  out += Format("%-45s:%21d\n", "policy", ref.task->sched_policy.load());
  out += Format("%-45s:%21d\n", "prio", 120 + ref.task->nice.load());
  return out;
}

Text Children(const TaskRef& ref, VfsContext&) {
  std::vector<int> pids;
  {
    base::MutexLock tree(ref.kernel().tasks().mu);
    for (ThreadGroup* child : ref.task->thread_group().children) {
      // A child whose parent thread has gone is the leader's.
      const Task* parent = child->parent_task != nullptr ? child->parent_task : ref.task->thread_group().leader;
      if (parent == ref.task.get()) pids.push_back(child->PidIn(ref.ns()));
    }
  }
  std::string out;
  for (int pid : pids) out += std::to_string(pid) + " ";
  return out;
}

Text Fixed(const char* text) { return std::string(text); }
Result<void> Refuse(const TaskRef&, VfsContext&, std::string_view) { return Errno(EPERM); }

// Without a security module nothing has a label (fs/proc/base.c, security_getprocattr).
constexpr TaskEntry kAttrEntries[] = {
    {.name = "current", .mode = S_IFREG | 0666},   {.name = "prev", .mode = S_IFREG | 0444},
    {.name = "exec", .mode = S_IFREG | 0666},      {.name = "fscreate", .mode = S_IFREG | 0666},
    {.name = "keycreate", .mode = S_IFREG | 0666}, {.name = "sockcreate", .mode = S_IFREG | 0666},
};

#define SHOW(expression) \
  [](const TaskRef& r [[maybe_unused]], VfsContext& c [[maybe_unused]]) -> Text { return expression; }

constexpr TaskEntry kEntries[] = {
    {.name = "task", .mode = S_IFDIR | 0555, .shown = Shown::kProcess, .make = &NewTasksDir},
    {.name = "fd", .mode = S_IFDIR | 0500, .make = &NewFdDir},
    {.name = "fdinfo", .mode = S_IFDIR | 0555, .make = &NewFdInfoDir},
    {.name = "ns", .mode = S_IFDIR | 0511, .make = &NewNamespaceDir},
    {.name = "net", .mode = S_IFDIR | 0555, .make = &NewNetDir},
    {.name = "environ", .mode = S_IFREG | 0400, .guard = Guard::kOpen, .show = SHOW(ArgumentsText(*r.task, true))},
    {.name = "auxv", .mode = S_IFREG | 0400, .guard = Guard::kOpen, .show = SHOW(AuxvText(*r.task))},
    {.name = "status", .mode = S_IFREG | 0444, .show = SHOW(StatusText(*r.task, r.ns(), r.whole))},
    {.name = "personality",
     .mode = S_IFREG | 0400,
     .guard = Guard::kRead,
     .show = SHOW(Format("%08lx\n", static_cast<unsigned long>(r.task->personality)))},
    {.name = "limits", .mode = S_IFREG | 0444, .show = SHOW(LimitsText(*r.task))},
    {.name = "sched", .mode = S_IFREG | 0644, .show = &Sched, .store = &Refuse},
    {.name = "autogroup",
     .mode = S_IFREG | 0644,
     .shown = Shown::kProcess,
     .show = SHOW(Fixed("/autogroup-1 nice 0\n")),
     .store = &Refuse},
    {.name = "timens_offsets",
     .mode = S_IFREG | 0644,
     .shown = Shown::kProcess,
     .show = SHOW(Fixed("monotonic           0         0\nboottime            0         0\n")),
     .store = &Refuse},
    {.name = "comm", .mode = S_IFREG | 0644, .show = &Comm, .store = &SetComm},
    {.name = "cmdline", .mode = S_IFREG | 0444, .show = SHOW(ArgumentsText(*r.task, false))},
    {.name = "stat",
     .mode = S_IFREG | 0444,
     .show = SHOW(StatText(*r.task, r.ns(), r.whole, MayInspect(c, *r.task).ok()))},
    {.name = "statm", .mode = S_IFREG | 0444, .show = SHOW(StatmText(*r.task))},
    {.name = "maps",
     .mode = S_IFREG | 0444,
     .guard = Guard::kOpen,
     .show_part = [](const TaskRef& r, uint64_t& cursor) -> Text { return MapsText(*r.task, cursor); }},
    {.name = "children", .mode = S_IFREG | 0444, .shown = Shown::kThread, .show = &Children},
    {.name = "mem", .mode = S_IFREG | 0600, .make = &NewMemFile},
    {.name = "cwd", .mode = S_IFLNK | 0777, .follow = &Cwd},
    {.name = "root", .mode = S_IFLNK | 0777, .follow = &Root},
    {.name = "exe", .mode = S_IFLNK | 0777, .follow = &Exe},
    {.name = "mounts", .mode = S_IFREG | 0444, .make = &NewMountsFile},
    {.name = "mountinfo", .mode = S_IFREG | 0444, .make = &NewMountinfoFile},
    {.name = "mountstats", .mode = S_IFREG | 0400, .shown = Shown::kProcess, .make = &NewMountstatsFile},
    {.name = "smaps",
     .mode = S_IFREG | 0444,
     .guard = Guard::kOpen,
     .show_part = [](const TaskRef& r, uint64_t& cursor) -> Text { return SmapsText(*r.task, cursor); }},
    {.name = "smaps_rollup", .mode = S_IFREG | 0444, .guard = Guard::kOpen, .show = SHOW(SmapsRollupText(*r.task))},
    {.name = "clear_refs", .mode = S_IFREG | 0200, .store = &ClearRefs},
    {.name = "pagemap", .mode = S_IFREG | 0400, .make = &NewPagemapFile},
    {.name = "map_files", .mode = S_IFDIR | 0500, .shown = Shown::kProcess, .make = &NewMapFilesDir},
    {.name = "attr",
     .mode = S_IFDIR | 0555,
     .make = [](const TaskRef& ref, uint64_t ino) { return NewTableDir(ref, kAttrEntries, Area::kAttr, 0555, ino); }},
    {.name = "wchan", .mode = S_IFREG | 0444, .show = SHOW(Fixed("0"))},
    {.name = "schedstat",
     .mode = S_IFREG | 0444,
     .show = SHOW(Format("%" PRId64 " 0 %" PRIu64 "\n", r.task->usage().user_ns + r.task->usage().system_ns,
                         r.task->usage().voluntary_switches))},
    {.name = "cpuset", .mode = S_IFREG | 0444, .show = SHOW(Fixed("/\n"))},
    {.name = "cgroup", .mode = S_IFREG | 0444, .show = SHOW(Fixed("0::/\n"))},
    {.name = "oom_score", .mode = S_IFREG | 0444, .show = &OomScore},
    {.name = "oom_adj", .mode = S_IFREG | 0644, .show = &OomAdj, .store = &SetOomAdj},
    {.name = "oom_score_adj", .mode = S_IFREG | 0644, .show = &OomScoreAdj, .store = &SetOomScoreAdj},
    {.name = "loginuid", .mode = S_IFREG | 0644, .show = SHOW(Fixed("4294967295")), .store = &Refuse},
    {.name = "sessionid", .mode = S_IFREG | 0444, .show = SHOW(Fixed("4294967295"))},
    {.name = "coredump_filter",
     .mode = S_IFREG | 0644,
     .shown = Shown::kProcess,
     .show = SHOW(Fixed("00000033\n")),
     .store = &Refuse},
    {.name = "io", .mode = S_IFREG | 0400, .guard = Guard::kRead, .show = &Io},
    {.name = "uid_map",
     .mode = S_IFREG | 0644,
     .show = SHOW(Fixed("         0          0 4294967295\n")),
     .store = &Refuse},
    {.name = "gid_map",
     .mode = S_IFREG | 0644,
     .show = SHOW(Fixed("         0          0 4294967295\n")),
     .store = &Refuse},
    {.name = "projid_map",
     .mode = S_IFREG | 0644,
     .show = SHOW(Fixed("         0          0 4294967295\n")),
     .store = &Refuse},
    {.name = "setgroups", .mode = S_IFREG | 0644, .show = SHOW(Fixed("allow\n")), .store = &Refuse},
    {.name = "timerslack_ns",
     .mode = S_IFREG | 0666,
     .shown = Shown::kProcess,
     .show = &TimerSlack,
     .store = &SetTimerSlack},
};
#undef SHOW

}  // namespace

std::span<const TaskEntry> TaskEntries() { return kEntries; }

}  // namespace sentry::proc
