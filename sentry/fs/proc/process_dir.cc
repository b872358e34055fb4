#include "sentry/fs/proc/process_dir.h"

#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/mem_file.h"
#include "sentry/fs/proc/mount_text.h"
#include "sentry/fs/proc/net.h"
#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

using kernfs::KernLink;
using kernfs::LinkOps;
using kernfs::StaticDir;
using kernfs::TextFile;
using kernfs::TextOps;

// Files of one task.
class Builder {
 public:
  Builder(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, StaticDir& dir) : sb_(std::move(sb)), task_(std::move(task)), dir_(dir) {}

  void Text(const char* name, std::function<std::string(Task&)> generate, uint32_t permissions = 0444) {
    TextOps ops;
    ops.generate = [task = task_, generate](VfsContext&) -> Result<std::string> {
      if (!Alive(*task)) return Errno(ESRCH);
      return generate(*task);
    };
    dir_.Add(name, base::MakeRef<TextFile>(sb_, permissions, std::move(ops), OwnerOf(task_)));
  }
  // Only for those who may inspect the task, checked at open and at every read.
  void Guarded(const char* name, std::function<Result<std::string>(Task&, VfsContext&)> generate, uint32_t permissions = 0400,
               bool at_open = false) {
    TextOps ops;
    ops.generate = [task = task_, generate](VfsContext& ctx) -> Result<std::string> {
      if (!Alive(*task)) return Errno(ESRCH);
      TRY(MayInspect(ctx, *task));
      return generate(*task, ctx);
    };
    if (at_open) ops.may_open = [task = task_](VfsContext& ctx) { return MayInspect(ctx, *task); };
    dir_.Add(name, base::MakeRef<TextFile>(sb_, permissions, std::move(ops), OwnerOf(task_)));
  }
  void Value(const char* name, std::function<std::string(Task&)> get, std::function<Result<void>(Task&, VfsContext&, std::string_view)> set) {
    TextOps ops;
    ops.generate = [task = task_, get](VfsContext&) -> Result<std::string> { return get(*task); };
    ops.store = [task = task_, set](VfsContext& ctx, std::string_view text) { return set(*task, ctx, text); };
    dir_.Add(name, base::MakeRef<TextFile>(sb_, 0644, std::move(ops), OwnerOf(task_)));
  }
  void Magic(const char* name, std::function<Result<VfsPath>(Task&)> where) {
    LinkOps ops;
    ops.text = [task = task_, where]() -> Result<std::string> {
      VfsContext ctx;
      if (Task* reader = Task::Current()) {
        ctx = reader->MakeVfsContext();
        TRY(MayInspect(ctx, *task));
      }
      VfsPath path = TRY(where(*task));
      return PathName(ctx, path);
    };
    ops.follow = [task = task_, where](VfsContext& ctx) -> Result<VfsPath> {
      TRY(MayInspect(ctx, *task));
      return where(*task);
    };
    dir_.Add(name, base::MakeRef<KernLink>(sb_, std::move(ops), OwnerOf(task_)));
  }
  void Add(const char* name, RefPtr<Inode> inode) { dir_.Add(name, std::move(inode)); }

 private:
  RefPtr<ProcSuperblock> sb_;
  RefPtr<Task> task_;
  StaticDir& dir_;
};

std::optional<int> ParseInt(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\0' || text.back() == ' ')) text.remove_suffix(1);
  int value;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

RefPtr<Inode> NewNamespaceDir(const RefPtr<ProcSuperblock>& sb, const RefPtr<Task>& task) {
  RefPtr<StaticDir> dir = base::MakeRef<StaticDir>(sb, 0511, OwnerOf(task));
  // One instance of each but the mount, PID and UTS namespaces, whose numbers come from their identity.
  auto add = [&](const char* name, const char* shown, std::function<uint64_t(Task&)> id) {
    LinkOps ops;
    ops.text = [task, shown, id]() -> Result<std::string> {
      return std::string(shown) + ":[" + std::to_string(0xf0000000u + (id ? id(*task) & 0xfffffff : 0)) + "]";
    };
    ops.follow = [](VfsContext&) -> Result<VfsPath> { return Errno(EACCES); };  // Differs from Linux: cannot be opened for setns(2)
    dir->Add(name, base::MakeRef<KernLink>(sb, std::move(ops), OwnerOf(task)));
  };
  auto hash = [](const void* p) { return reinterpret_cast<uintptr_t>(p) >> 4; };
  add("cgroup", "cgroup", [](Task&) { return 1; });
  add("ipc", "ipc", [](Task&) { return 2; });
  add("mnt", "mnt", [hash](Task& t) { return hash(t.SnapshotMounts().get()); });
  add("net", "net", [](Task&) { return 3; });
  add("pid", "pid", [hash](Task& t) { return hash(&t.pid_namespace()); });
  add("pid_for_children", "pid", [hash](Task& t) { return hash(&t.pid_namespace()); });
  add("time", "time", [](Task&) { return 4; });
  add("time_for_children", "time", [](Task&) { return 4; });
  add("user", "user", [](Task&) { return 5; });
  add("uts", "uts", [](Task&) { return 6; });
  return dir;
}

RefPtr<Inode> NewTaskFiles(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, bool whole);

// task/
class TaskDir final : public kernfs::KernDir {
 public:
  TaskDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task) : KernDir(sb, 0555, OwnerOf(task)), sb_(std::move(sb)), task_(std::move(task)) {}
  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    std::optional<int> tid = ParseInt(name);
    if (!tid) return Errno(ENOENT);
    RefPtr<Task> thread = sb_->kernel().FindTask(*tid, sb_->ns());
    if (!thread || &thread->thread_group() != &task_->thread_group()) return Errno(ENOENT);
    return NewTaskFiles(sb_, thread, /*whole=*/false);
  }
  Result<bool> Revalidate(std::string_view name, Inode* child) override { return false; }
  std::vector<Entry> List(int64_t after, VfsContext& ctx) override {
    std::vector<Entry> entries;
    base::MutexLock tree(sb_->kernel().tasks().mu);
    for (Task* t : task_->thread_group().tasks) {
      const int tid = t->TidIn(sb_->ns());
      if (tid > after) entries.push_back({std::to_string(tid), FileType::kDirectory, 0, tid});
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.position < b.position; });
    return entries;
  }

 private:
  RefPtr<ProcSuperblock> sb_;
  RefPtr<Task> task_;
};

RefPtr<Inode> NewTaskFiles(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, bool whole) {
  RefPtr<StaticDir> dir = base::MakeRef<StaticDir>(sb, 0555, OwnerOf(task));
  Builder b(sb, task, *dir);
  b.Guarded("auxv", [](Task& t, VfsContext&) -> Result<std::string> { return AuxvText(t); });
  b.Text("cgroup", [](Task&) { return std::string("0::/\n"); });
  b.Text("cmdline", [](Task& t) { return ArgumentsText(t, false).value_or(""); });
  b.Value(
      "comm", [](Task& t) { return t.comm() + "\n"; },
      [](Task& t, VfsContext& ctx, std::string_view text) -> Result<void> {
        if (ctx.lock_pid != t.thread_group().pid()) return Errno(EINVAL);
        while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
        t.SetComm(text);
        return {};
      });
  b.Magic("cwd", [](Task& t) -> Result<VfsPath> {
    RefPtr<FsContext> fs = t.SnapshotFs();
    if (!fs) return Errno(ENOENT);
    return fs->cwd();
  });
  b.Guarded("environ", [](Task& t, VfsContext&) { return ArgumentsText(t, true); }, 0400, /*at_open=*/true);
  b.Magic("exe", [](Task& t) -> Result<VfsPath> {
    RefPtr<MemoryManager> mm = t.SnapshotMm();
    if (!mm) return Errno(ENOENT);
    RefPtr<base::RefCounted> exe = mm->layout().exe;
    auto* file = dynamic_cast<FileDescription*>(exe.get());
    if (file == nullptr) return Errno(ENOENT);
    return file->path();
  });
  b.Add("fd", NewFdDir(sb, task, /*info=*/false));
  b.Add("fdinfo", NewFdDir(sb, task, /*info=*/true));
  b.Text("gid_map", [](Task&) { return std::string("         0          0 4294967295\n"); });
  b.Text("uid_map", [](Task&) { return std::string("         0          0 4294967295\n"); });
  b.Text("setgroups", [](Task&) { return std::string("allow\n"); });
  b.Text("io", [](Task&) {
    return std::string("rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
  }, 0400);
  b.Text("limits", [](Task& t) { return LimitsText(t); });
  b.Guarded("maps", [](Task& t, VfsContext& ctx) -> Result<std::string> { return MapsText(t, ctx); }, 0444, /*at_open=*/true);
  b.Guarded("smaps", [](Task& t, VfsContext& ctx) -> Result<std::string> { return SmapsText(t, ctx, false); }, 0444, true);
  b.Guarded("smaps_rollup", [](Task& t, VfsContext& ctx) -> Result<std::string> { return SmapsText(t, ctx, true); }, 0444, true);
  b.Add("mem", NewMemFile(sb, task));
  b.Text("mountinfo", [](Task& t) { return MountinfoText(t); });
  b.Text("mounts", [](Task& t) { return MountsText(t); });
  b.Add("net", NewNetDir(sb, task));
  b.Add("ns", NewNamespaceDir(sb, task));
  b.Text("oom_score", [](Task&) { return std::string("0\n"); });
  b.Value(
      "oom_score_adj", [](Task& t) { return std::to_string(t.thread_group().oom_score_adj.load()) + "\n"; },
      [](Task& t, VfsContext& ctx, std::string_view text) -> Result<void> {
        std::optional<int> value = ParseInt(text);
        if (!value || *value < -1000 || *value > 1000) return Errno(EINVAL);
        if (*value < t.thread_group().oom_score_adj.load() && !ctx.creds->Capable(CAP_SYS_RESOURCE)) return Errno(EACCES);
        t.thread_group().oom_score_adj.store(*value);
        return {};
      });
  b.Text("personality", [](Task& t) {
    char text[16];
    snprintf(text, sizeof(text), "%08lx\n", static_cast<unsigned long>(t.personality));
    return std::string(text);
  }, 0400);
  b.Magic("root", [](Task& t) -> Result<VfsPath> {
    RefPtr<FsContext> fs = t.SnapshotFs();
    if (!fs) return Errno(ENOENT);
    return fs->root();
  });
  b.Text("stat", [sb, whole](Task& t) { return StatText(t, sb->ns(), whole); });
  b.Text("statm", [](Task& t) { return StatmText(t); });
  b.Text("status", [sb, whole](Task& t) { return StatusText(t, sb->ns(), whole); });
  b.Text("loginuid", [](Task&) { return std::string("4294967295"); });
  b.Text("sessionid", [](Task&) { return std::string("4294967295"); });
  b.Text("schedstat", [](Task& t) { return std::to_string(t.usage().user_ns + t.usage().system_ns) + " 0 0\n"; });
  b.Text("wchan", [](Task&) { return std::string("0"); });
  b.Text("coredump_filter", [](Task&) { return std::string("00000033\n"); });
  b.Text("timerslack_ns", [](Task& t) { return std::to_string(t.timer_slack_ns) + "\n"; });
  if (whole) b.Add("task", base::MakeRef<TaskDir>(sb, task));
  if (!whole) {
    b.Text("children", [sb](Task& t) {
      std::string out;
      base::MutexLock tree(t.kernel().tasks().mu);
      for (ThreadGroup* child : t.thread_group().children) out += std::to_string(child->PidIn(sb->ns())) + " ";
      return out;
    });
  }
  return dir;
}

}  // namespace

bool Alive(Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  const ThreadGroup& tg = task.thread_group();
  return tg.leader != nullptr && (tg.leader == &task || task.state() != 'Z');
}

kernfs::OwnerFunction OwnerOf(RefPtr<Task> task) {
  return [task]() -> kernfs::Owner {
    RefPtr<MemoryManager> mm = task->SnapshotMm();
    if (mm && mm->dumpable.load() != 1) return {};
    CredentialsRef creds = task->SnapshotCreds();
    return {creds->euid, creds->egid};
  };
}

RefPtr<Inode> NewProcessDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task) { return NewTaskFiles(std::move(sb), std::move(task), true); }

}  // namespace sentry::proc
