#include "sentry/fs/proc/proc.h"

#include <charconv>

#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/system_text.h"

namespace sentry::proc {

namespace {

// Fixed files first, then a directory per process; self and thread-self are links that depend on who reads them.
class RootDir final : public kernfs::StaticDir {
 public:
  explicit RootDir(RefPtr<ProcSuperblock> sb) : StaticDir(sb), sb_(sb) {}

  void Build() {
    AddLink("self", [ns = &sb_->ns()](Task& t) { return std::to_string(t.PidIn(*ns)); });
    AddLink("thread-self", [ns = &sb_->ns()](Task& t) { return std::to_string(t.PidIn(*ns)) + "/task/" + std::to_string(t.OwnTidIn(*ns)); });
    AddSystemFiles(sb_, *this);
  }

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    int pid = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size() || name[0] == '0') return StaticDir::Lookup(name);
    RefPtr<Task> task = sb_->kernel().FindTask(pid, sb_->ns());
    if (!task) return Errno(ENOENT);
    // Threads can be looked up, though they are not listed (man 5 proc).
    return NewProcessDir(sb_, std::move(task));
  }
  // Names of processes come and go, and come to mean others.
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    return child != nullptr && children().find(name) != children().end();
  }

  std::vector<Entry> List(int64_t after, VfsContext& ctx) override {
    constexpr int64_t kFirstPid = 1000;  // fixed files stand below
    std::vector<Entry> entries;
    if (after < kFirstPid) {
      entries = StaticDir::List(after, ctx);
      if (!entries.empty()) return entries;
    }
    base::MutexLock tree(sb_->kernel().tasks().mu);
    for (auto& [tid, task] : sb_->ns().tasks) {
      if (task->thread_group().leader != task || tid + kFirstPid <= after) continue;
      entries.push_back({std::to_string(tid), FileType::kDirectory, 0, tid + kFirstPid});
    }
    return entries;
  }

 private:
  void AddLink(const char* name, std::function<std::string(Task&)> text) {
    kernfs::LinkOps ops;
    ops.text = [text]() -> Result<std::string> {
      Task* reader = Task::Current();
      if (reader == nullptr) return Errno(ENOENT);
      return text(*reader);
    };
    Add(name, base::MakeRef<kernfs::KernLink>(sb_, std::move(ops)));
  }
  RefPtr<ProcSuperblock> sb_;
};

}  // namespace

Result<vfs::NewMount> Create(Kernel& kernel, RefPtr<PidNamespace> ns) {
  RefPtr<ProcSuperblock> sb = base::MakeRef<ProcSuperblock>(kernel, std::move(ns));
  RefPtr<RootDir> root = base::MakeRef<RootDir>(sb);
  root->Build();
  return vfs::NewMount{sb, Dentry::MakeRoot(root)};
}

void Register(Kernel& kernel) {
  vfs::FileSystemType type;
  type.name = "proc";
  type.mount = [&kernel](VfsContext& ctx, const vfs::MountRequest& request) -> Result<vfs::NewMount> {
    Task* task = static_cast<Task*>(ctx.task);
    RefPtr<PidNamespace> ns;
    if (task != nullptr) {
      ns = RefPtr<PidNamespace>(&task->pid_namespace());
    } else {
      base::MutexLock tree(kernel.tasks().mu);
      ns = kernel.tasks().root;
    }
    return Create(kernel, std::move(ns));
  };
  vfs::RegisterFileSystem(std::move(type));
}

}  // namespace sentry::proc
