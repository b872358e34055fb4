#include "sentry/kernel/kernel.h"

#include <algorithm>

#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "sentry/kernel/ipc/ipc_namespace.h"

namespace sentry {

void ReapLocked(ThreadGroup& tg);  // task_exit.cc

Kernel::Kernel(Options options)
    : options_(options),
      time_(options.cpus, options.allow_tsc),
      async_signals_(base::MakeRef<AsyncSignals>(*this)),
      root_ipc_(base::MakeRef<IpcNamespace>(IpcNamespace::kInitialNumber)) {
  mm_env_.platform = options_.platform;
  mm_env_.memory_file = options_.memory_file;
  mm_env_.stop_threads = [this](MemoryManager& mm) { StopThreadsOf(mm); };
  base::MutexLock l(tasks_.mu);
  tasks_.root = base::MakeRef<PidNamespace>(nullptr);
}

Kernel::~Kernel() { async_signals_->Stop(); }

Result<void> Kernel::AddTaskLocked(Task& task, const std::vector<int>& set_tid) {
  ThreadGroup& tg = task.thread_group();
  const uint64_t max = options_.max_tasks != 0 ? options_.max_tasks : kPidMax;
  if (static_cast<uint64_t>(tasks_.live_tasks) >= max) return Errno(EAGAIN);
  std::vector<std::pair<const PidNamespace*, int>> ids;
  size_t level = 0;
  for (PidNamespace* ns = &tg.pid_namespace(); ns != nullptr; ns = ns->parent(), ++level) {
    if (ns->dying) return Errno(ENOMEM);
    int id;
    if (level < set_tid.size()) {
      id = set_tid[level];
      if (id < 1 || id >= kPidMax) return Errno(EINVAL);
      if (ns->tasks.contains(id) || ns->groups.contains(id)) return Errno(EEXIST);
    } else {
      id = ns->last_pid;
      int tries = 0;
      do {
        // Like alloc_pid: upwards, wrapping to 300 (RESERVED_PIDS) so that low numbers are not used again.
        id = id + 1 >= kPidMax ? 300 : id + 1;
        if (++tries > kPidMax) return Errno(EAGAIN);
      } while (ns->tasks.contains(id) || ns->groups.contains(id));
      ns->last_pid = id;
    }
    ids.emplace_back(ns, id);
  }
  for (auto& [ns, id] : ids) const_cast<PidNamespace*>(ns)->tasks[id] = &task;
  task.tids_ = std::move(ids);
  task.tid_.store(task.tids_.front().second);
  task.Ref();  // the tree's
  if (tg.leader == nullptr) {
    tg.leader = &task;
    tg.pid_.store(task.tid());
    if (tg.pid_namespace().init == nullptr && task.tid() == 1) tg.pid_namespace().init = &tg;
  }
  tg.tasks.push_back(&task);
  ++tg.live_count;
  ++tasks_.live_tasks;
  ++tasks_.forks;
  ++tasks_.tasks_of_user[task.creds_->ruid];
  return {};
}

void Kernel::RemoveIdsLocked(Task& task) {
  for (auto& [ns, id] : task.tids_) {
    auto& tasks = const_cast<PidNamespace*>(ns)->tasks;
    auto it = tasks.find(id);
    if (it != tasks.end() && it->second == &task) tasks.erase(it);
  }
}

int64_t Kernel::TotalCpuNs() {
  int64_t total = 0;
  base::MutexLock tree(tasks_.mu);
  for (auto& [tid, task] : tasks_.root->tasks) {
    ThreadGroup& tg = task->thread_group();
    if (tg.leader != task) continue;
    Usage u = tg.TotalUsageLocked();
    u.Add(tg.children_usage);
    total += u.user_ns + u.system_ns;
  }
  return total;
}

Result<RefPtr<ThreadGroup>> Kernel::CreateProcess(ProcessSpec spec) {
  RefPtr<PidNamespace> ns = spec.pid_namespace;
  if (!ns) {
    base::MutexLock l(tasks_.mu);
    ns = tasks_.root;
  }
  RefPtr<ThreadGroup> tg =
      base::MakeRef<ThreadGroup>(*this, ns, base::MakeRef<SignalHandlers>(), kSIGCHLD, spec.limits);
  VfsPath root = spec.root.valid() ? spec.root : spec.mounts->Root();
  Task::Init init;
  init.thread_group = tg;
  init.fds = spec.fds;
  init.fs = base::MakeRef<FsContext>(root, root, spec.umask);
  init.mounts = spec.mounts;
  init.uts = spec.uts;
  init.net = spec.net;
  init.creds = spec.creds;
  init.context = TRY(options_.platform->NewContext());
  RefPtr<Task> task = base::MakeRef<Task>(*this, std::move(init));
  task->ipc_ = root_ipc_;

  auto prepare = [&]() -> Result<void> {
    VfsContext ctx = task->MakeVfsContext();
    ctx.blocker = nullptr;
    WalkResult cwd =
        TRY(WalkPath(ctx, root, spec.cwd.empty() ? "/" : spec.cwd,
                     static_cast<uint32_t>(WalkFlag::kFollow) | static_cast<uint32_t>(WalkFlag::kDirectory)));
    task->fs().set_cwd(cwd.path);
    if (spec.argv.empty()) return Errno(EINVAL);
    std::string path = spec.executable.empty() ? TRY(LookUpExecutable(*task, spec)) : spec.executable;
    Task::ExecRequest request;
    request.start = task->fs().cwd();
    request.path = path;
    request.argv = spec.argv;
    request.envp = spec.envp;
    ExecImage image = TRY(loader_(*task, request));
    task->SetMm(image.mm);
    task->SetComm(image.comm);
    if (image.creds) task->creds_ = image.creds;
    platform::Registers& regs = task->registers();
    regs = {};
    regs.rip = image.entry;
    regs.rsp = image.stack;
    regs.cs = 0x33;
    regs.ss = 0x2b;
    regs.rflags = 0x202;
    return {};
  };
  Result<void> prepared = prepare();
  if (prepared.ok()) {
    base::MutexLock tree(tasks_.mu);
    prepared = AddTaskLocked(*task, {});
    if (prepared.ok()) {
      tg->Ref();  // the tree's
      RefPtr<Session> session = base::MakeRef<Session>(tg.get());
      tg->process_group = base::MakeRef<ProcessGroup>(session, tg.get());
      tg->process_group->members.push_back(tg.get());
    }
  }
  if (!prepared.ok()) {
    task->DropResources();
    return prepared.error();
  }
  if (spec.tty) (void)spec.tty->SetControlling(*task, false);
  return tg;
}

Result<std::string> Kernel::LookUpExecutable(Task& task, const ProcessSpec& spec) {
  // As runc's exec.LookPath does it in the container: PATH of the process' own environment.
  const std::string& name = spec.argv[0];
  if (name.find('/') != std::string::npos) return std::string(name);
  std::string path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (const std::string& e : spec.envp) {
    if (e.starts_with("PATH=")) path = e.substr(5);
  }
  int error = ENOENT;
  VfsContext ctx = task.MakeVfsContext();
  ctx.blocker = nullptr;
  for (size_t at = 0; at <= path.size();) {
    size_t end = std::min(path.find(':', at), path.size());
    std::string dir = path.substr(at, end - at);
    at = end + 1;
    std::string candidate = (dir.empty() ? "." : dir) + "/" + name;
    Result<WalkResult> found = WalkPath(ctx, task.fs().cwd(), candidate, static_cast<uint32_t>(WalkFlag::kFollow));
    if (!found.ok()) continue;
    RefPtr<Inode> inode = found->path.inode();
    if (!inode || inode->type() != FileType::kRegular) continue;
    Result<void> allowed = inode->CheckAccess(*ctx.creds, 1);
    if (allowed.ok()) return candidate;
    error = EACCES;
  }
  return Errno(error);
}

void Kernel::StartProcess(ThreadGroup& tg) {
  RefPtr<Task> task;
  {
    base::MutexLock tree(tasks_.mu);
    if (tg.leader == nullptr) return;
    task = RefPtr<Task>(tg.leader);
  }
  task->Start();
}

void Kernel::OnProcessExit(ThreadGroup& tg, std::function<void(int status)> done) {
  int status = 0;
  {
    base::MutexLock tree(tasks_.mu);
    if (!tg.zombie) {
      tg.on_exit = std::move(done);
      return;
    }
    status = tg.wait_status;
    ReapLocked(tg);
  }
  done(status);
}

RefPtr<Task> Kernel::FindTask(int tid, const PidNamespace& ns) {
  base::MutexLock l(tasks_.mu);
  auto it = ns.tasks.find(tid);
  return it == ns.tasks.end() ? nullptr : RefPtr<Task>(it->second);
}

RefPtr<ThreadGroup> Kernel::FindThreadGroup(int pid, const PidNamespace& ns) {
  base::MutexLock l(tasks_.mu);
  auto it = ns.tasks.find(pid);
  if (it == ns.tasks.end() || it->second->thread_group().leader != it->second) return nullptr;
  return it->second->thread_group_ref();
}

RefPtr<ProcessGroup> Kernel::FindProcessGroup(int pgid, const PidNamespace& ns) {
  base::MutexLock l(tasks_.mu);
  auto it = ns.groups.find(pgid);
  return it == ns.groups.end() ? nullptr : RefPtr<ProcessGroup>(it->second);
}

std::vector<RefPtr<Task>> Kernel::Tasks(const PidNamespace& ns) {
  std::vector<RefPtr<Task>> tasks;
  base::MutexLock l(tasks_.mu);
  for (auto& [tid, task] : ns.tasks) tasks.emplace_back(task);
  return tasks;
}

std::vector<RefPtr<ThreadGroup>> Kernel::ThreadGroups(const PidNamespace& ns) {
  std::vector<RefPtr<ThreadGroup>> groups;
  base::MutexLock l(tasks_.mu);
  for (auto& [tid, task] : ns.tasks) {
    if (task->thread_group().leader == task) groups.push_back(task->thread_group_ref());
  }
  return groups;
}

void Kernel::Pause() {
  paused_.store(true, std::memory_order_seq_cst);
  base::MutexLock l(tasks_.mu);
  for (auto& [tid, task] : tasks_.root->tasks) task->KickForPause();
}

void Kernel::StopThreadsOf(MemoryManager& mm) {
  // Asked again and again rather than told: this is rare, and leaving the guest must not cost anything.
  constexpr int64_t kAgainNs = 100'000;
  for (;;) {
    bool there = false;
    {
      base::MutexLock l(tasks_.mu);
      for (auto& [tid, task] : tasks_.root->tasks) there |= task->KickOutOfGuest(mm);
    }
    if (!there) return;
    (void)base::Fiber::ParkUntil(base::MonotonicNow() + kAgainNs);
  }
}

void Kernel::Resume() {
  paused_.store(false, std::memory_order_seq_cst);
  pause_events_.Notify(base::kEventAll);
}

void Kernel::KillAll() {
  base::MutexLock l(tasks_.mu);
  std::vector<ThreadGroup*> groups;
  for (auto& [tid, task] : tasks_.root->tasks) {
    if (task->thread_group().leader == task) groups.push_back(&task->thread_group());
  }
  for (ThreadGroup* tg : groups) (void)Task::SendGroupSignalLocked(*tg, KernelSignal(kSIGKILL));
}

void Kernel::GetRandom(std::span<std::byte> out) {
  while (!out.empty()) {
    Result<long> n = base::HostRetry(SYS_getrandom, out.data(), std::min<size_t>(out.size(), 256), 0);
    CHECK(n.ok() && *n > 0);
    out = out.subspan(*n);
  }
}

}  // namespace sentry
