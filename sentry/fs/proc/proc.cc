#include "sentry/fs/proc/proc.h"

#include <algorithm>

#include "sentry/fs/proc/process_dir.h"
#include "sentry/fs/proc/system_text.h"

namespace sentry::proc {

namespace {

// Fixed files first, then a directory per process; self and thread-self are links that depend on who reads them.
class RootDir final : public kernfs::StaticDir {
 public:
  explicit RootDir(RefPtr<ProcSuperblock> sb) : StaticDir(sb), sb_(std::move(sb)) {}

  void Build() {
    AddLink(
        "self", [ns = &sb_->ns()](Task& t) { return t.PidIn(*ns); }, nullptr);
    AddLink(
        "thread-self", [ns = &sb_->ns()](Task& t) { return t.PidIn(*ns); },
        [ns = &sb_->ns()](Task& t) { return t.OwnTidIn(*ns); });
    AddSystemFiles(sb_, *this);
  }

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    std::optional<int> pid = ParsePid(name);
    if (!pid) return StaticDir::Lookup(name);
    RefPtr<Task> task;
    int root_tid;
    {
      // A thread that is not the leader has a directory that is not listed, as on Linux.
      base::MutexLock tree(sb_->kernel().tasks().mu);
      auto it = sb_->ns().tasks.find(*pid);
      if (it == sb_->ns().tasks.end()) return Errno(ENOENT);
      task = RefPtr<Task>(it->second);
      root_tid = it->second->TidIn(*sb_->kernel().tasks().root);
    }
    return NewProcessDir(sb_, std::move(task), root_tid);
  }
  // Numbers come and go, and come to mean others.
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    if (child == nullptr) return false;
    std::optional<int> pid = ParsePid(name);
    if (!pid) return Has(name);
    base::MutexLock tree(sb_->kernel().tasks().mu);
    auto it = sb_->ns().tasks.find(*pid);
    return it != sb_->ns().tasks.end() && IsDirOf(*child, *it->second);
  }

  Result<std::vector<Entry>> List(int64_t after) override {
    constexpr int64_t kFirstPid = 1000;  // fixed files stand below
    constexpr size_t kBatch = 512;
    if (after < kFirstPid) {
      std::vector<Entry> files = TRY(StaticDir::List(after));
      if (!files.empty()) return files;
    }
    std::vector<std::pair<int, int>> processes;
    {
      base::MutexLock tree(sb_->kernel().tasks().mu);
      const PidNamespace& root = *sb_->kernel().tasks().root;
      const auto& tasks = sb_->ns().tasks;
      const int64_t first = std::clamp<int64_t>(after - kFirstPid + 1, 0, kPidMax);
      for (auto it = tasks.lower_bound(static_cast<int>(first)); it != tasks.end() && processes.size() < kBatch; ++it) {
        if (it->second->thread_group().leader == it->second) processes.emplace_back(it->first, it->second->TidIn(root));
      }
    }
    std::vector<Entry> entries;
    entries.reserve(processes.size());
    for (auto [pid, root_tid] : processes) {
      entries.push_back(
          {std::to_string(pid), FileType::kDirectory, InoOf(root_tid, true, Area::kFiles, 0), pid + kFirstPid});
    }
    return entries;
  }

 protected:
  // proc_root_getattr: a link per process.
  uint32_t LinkCount() override {
    base::MutexLock tree(sb_->kernel().tasks().mu);
    return StaticDir::LinkCount() + static_cast<uint32_t>(sb_->ns().tasks.size());
  }

 private:
  using Number = std::function<int(Task&)>;
  void AddLink(const char* name, Number pid, Number tid) {
    Add(name, kernfs::NewLink(sb_, [pid, tid]() -> Result<std::string> {
          Task* reader = Task::Current();
          const int number = reader != nullptr ? pid(*reader) : 0;
          if (number == 0) return Errno(ENOENT);  // not visible in this instance's namespace
          std::string text = std::to_string(number);
          return tid ? text + "/task/" + std::to_string(tid(*reader)) : text;
        }));
  }
  const RefPtr<ProcSuperblock> sb_;
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
