#include "sentry/fs/proc/process_dir.h"

#include <algorithm>
#include <charconv>

#include "sentry/fs/proc/process_text.h"

namespace sentry::proc {

namespace {

constexpr uint32_t kPermissions = 07777;

bool IsShown(const TaskEntry& e, bool whole) {
  return e.shown == Shown::kBoth || (e.shown == Shown::kProcess) == whole;
}

// What all inodes about a task have in common.
template <typename Base>
class OfTask : public Base {
 public:
  // Modes and owners follow the task (proc_setattr).
  Result<void> SetAttr(const AttrChange& change) override {
    if (change.mode) return Errno(EPERM);
    return Base::SetAttr(change);
  }

 protected:
  template <typename... Args>
  explicit OfTask(const TaskRef& ref, Args&&... args) : Base(ref.sb, std::forward<Args>(args)...), ref_(ref) {}
  kernfs::Owner GetOwner() override { return OwnerOf(*ref_.task); }
  const TaskRef ref_;
};

class TaskFile final : public OfTask<kernfs::TextFile> {
 public:
  TaskFile(const TaskRef& ref, const TaskEntry& entry, uint64_t ino)
      : OfTask(ref, entry.mode & kPermissions, ino), entry_(entry) {}
  Result<std::string> Generate(VfsContext& ctx, uint64_t& cursor) override {
    if (!Alive(*ref_.task)) return Errno(ESRCH);
    if (entry_.guard != Guard::kNone) TRY(MayInspect(ctx, *ref_.task));
    if (entry_.show_part != nullptr) return entry_.show_part(ref_, cursor);
    cursor = kDone;
    if (entry_.show == nullptr) return Errno(EINVAL);
    return entry_.show(ref_, ctx);
  }
  Result<void> Store(VfsContext& ctx, std::string_view text) override {
    if (entry_.store == nullptr) return Errno(EINVAL);
    if (!Alive(*ref_.task)) return Errno(ESRCH);
    return entry_.store(ref_, ctx, text);
  }
  Result<void> CheckOpen(VfsContext& ctx) override {
    if (entry_.guard != Guard::kOpen) return {};
    if (!Alive(*ref_.task)) return Errno(ESRCH);
    return MayInspect(ctx, *ref_.task);
  }

 private:
  const TaskEntry& entry_;
};

class TaskLink final : public OfTask<kernfs::KernLink> {
 public:
  TaskLink(const TaskRef& ref, const TaskEntry& entry, uint64_t ino)
      : OfTask(ref, entry.mode & kPermissions, ino), entry_(entry) {}
  Result<std::string> ReadLink() override {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    VfsContext ctx;
    if (Task* reader = Task::Current()) {
      ctx = reader->MakeVfsContext();
      TRY(MayInspect(ctx, *ref_.task));
    }
    if (entry_.text != nullptr) return entry_.text(ref_);
    const VfsPath path = TRY(entry_.follow(ref_));
    return PathName(ctx, path);
  }
  bool IsMagicLink() const override { return true; }
  Result<VfsPath> FollowMagicLink(VfsContext& ctx) override {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    TRY(MayInspect(ctx, *ref_.task));
    return entry_.follow(ref_);
  }

 private:
  const TaskEntry& entry_;
};

class TableDir final : public OfTask<kernfs::KernDir> {
 public:
  TableDir(const TaskRef& ref, std::span<const TaskEntry> entries, Area area, uint32_t permissions, uint64_t ino)
      : OfTask(ref, permissions, ino), entries_(entries), area_(area) {}

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    // proc_pid_permission: the directory of a process may not even be searched once it is gone; those below are empty.
    if (!Alive(*ref_.task)) return Errno(area_ == Area::kFiles && ref_.whole ? ESRCH : ENOENT);
    for (size_t i = 0; i < entries_.size(); ++i) {
      const TaskEntry& e = entries_[i];
      if (e.name != name || !IsShown(e, ref_.whole)) continue;
      if (e.make != nullptr) return e.make(ref_, Ino(i));
      if ((e.mode & S_IFMT) == S_IFLNK) return RefPtr<Inode>(base::MakeRef<TaskLink>(ref_, e, Ino(i)));
      return RefPtr<Inode>(base::MakeRef<TaskFile>(ref_, e, Ino(i)));
    }
    return Errno(ENOENT);
  }
  bool IsOf(const Task& task) const { return ref_.task.get() == &task; }
  RefPtr<base::RefCounted> Process() override {
    if (area_ != Area::kFiles || !ref_.whole) return nullptr;
    return RefPtr<base::RefCounted>(&ref_.task->thread_group());
  }
  // Not kept (CacheDentries), and what is in use means the same as long as the task is there.
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    return child != nullptr && Alive(*ref_.task);
  }
  Result<std::vector<Entry>> List(int64_t after) override {
    if (!Alive(*ref_.task)) return Errno(ENOENT);
    std::vector<Entry> list;
    for (size_t i = static_cast<size_t>(std::max<int64_t>(after, 0)); i < entries_.size(); ++i) {
      const TaskEntry& e = entries_[i];
      if (!IsShown(e, ref_.whole)) continue;
      list.push_back({e.name, static_cast<FileType>(e.mode & S_IFMT), Ino(i), static_cast<int64_t>(i) + 1});
    }
    return list;
  }

 protected:
  uint32_t LinkCount() override {
    uint32_t count = 2;
    for (const TaskEntry& e : entries_) count += IsShown(e, ref_.whole) && (e.mode & S_IFMT) == S_IFDIR;
    return count;
  }

 private:
  // Index 0 is the directory's own.
  uint64_t Ino(size_t i) const { return InoOf(ref_, area_, static_cast<uint32_t>(i) + 1); }
  const std::span<const TaskEntry> entries_;
  const Area area_;
};

// task/
class TasksDir final : public OfTask<kernfs::KernDir> {
 public:
  TasksDir(const TaskRef& ref, uint64_t ino) : OfTask(ref, 0555, ino) {}

  Result<RefPtr<Inode>> Lookup(std::string_view name) override {
    std::optional<int> tid = ParsePid(name);
    if (!tid) return Errno(ENOENT);
    TaskRef thread = ref_;
    thread.whole = false;
    {
      base::MutexLock tree(ref_.kernel().tasks().mu);
      auto it = ref_.ns().tasks.find(*tid);
      if (it == ref_.ns().tasks.end() || &it->second->thread_group() != &ref_.task->thread_group())
        return Errno(ENOENT);
      thread.task = RefPtr<Task>(it->second);
      thread.root_tid = it->second->TidIn(*ref_.kernel().tasks().root);
    }
    const uint64_t ino = InoOf(thread, Area::kFiles, 0);
    return NewTableDir(thread, TaskEntries(), Area::kFiles, 0555, ino);
  }
  // Numbers come to mean other threads.
  Result<bool> Revalidate(std::string_view name, Inode* child) override {
    std::optional<int> tid = ParsePid(name);
    if (!tid || child == nullptr) return false;
    base::MutexLock tree(ref_.kernel().tasks().mu);
    auto it = ref_.ns().tasks.find(*tid);
    return it != ref_.ns().tasks.end() && IsDirOf(*child, *it->second);
  }
  Result<std::vector<Entry>> List(int64_t after) override {
    struct Thread {
      int tid, root_tid;
    };
    std::vector<Thread> threads;
    {
      base::MutexLock tree(ref_.kernel().tasks().mu);
      const PidNamespace& root = *ref_.kernel().tasks().root;
      for (Task* t : ref_.task->thread_group().tasks) {
        const int tid = t->TidIn(ref_.ns());
        if (tid > after) threads.push_back({tid, t->TidIn(root)});
      }
    }
    if (after == 0 && threads.empty()) return Errno(ENOENT);
    std::sort(threads.begin(), threads.end(), [](const Thread& a, const Thread& b) { return a.tid < b.tid; });
    std::vector<Entry> list;
    list.reserve(threads.size());
    for (const Thread& t : threads) {
      list.push_back({std::to_string(t.tid), FileType::kDirectory, InoOf(t.root_tid, false, Area::kFiles, 0), t.tid});
    }
    return list;
  }

 protected:
  uint32_t LinkCount() override {
    base::MutexLock tree(ref_.kernel().tasks().mu);
    return 2 + static_cast<uint32_t>(std::max(ref_.task->thread_group().live_count, 0));
  }
};

}  // namespace

std::optional<int> ParsePid(std::string_view name) {
  int pid = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc() || end != name.data() + name.size() || pid <= 0 || name[0] == '0') return std::nullopt;
  return pid;
}

bool IsDirOf(const Inode& inode, const Task& task) {
  const auto* dir = dynamic_cast<const TableDir*>(&inode);
  return dir != nullptr && dir->IsOf(task);
}

bool Alive(const Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  const PidNamespace& ns = task.pid_namespace();
  auto it = ns.tasks.find(task.tid());
  return it != ns.tasks.end() && it->second == &task;
}

kernfs::Owner OwnerOf(Task& task) {
  RefPtr<MemoryManager> mm = task.SnapshotMm();
  if (mm && mm->dumpable.load(std::memory_order_relaxed) != 1) return {};
  CredentialsRef creds = task.SnapshotCreds();
  return {creds->euid, creds->egid};
}

RefPtr<Inode> NewTableDir(const TaskRef& ref, std::span<const TaskEntry> entries, Area area, uint32_t permissions,
                          uint64_t ino) {
  return base::MakeRef<TableDir>(ref, entries, area, permissions, ino);
}

RefPtr<Inode> NewTasksDir(const TaskRef& ref, uint64_t ino) { return base::MakeRef<TasksDir>(ref, ino); }

RefPtr<Inode> NewProcessDir(RefPtr<ProcSuperblock> sb, RefPtr<Task> task, int root_tid) {
  const TaskRef ref{std::move(sb), std::move(task), /*whole=*/true, root_tid};
  return NewTableDir(ref, TaskEntries(), Area::kFiles, 0555, InoOf(ref, Area::kFiles, 0));
}

}  // namespace sentry::proc
