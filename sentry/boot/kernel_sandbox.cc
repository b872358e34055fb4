#include "sentry/boot/kernel_sandbox.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/charged_memory.h"
#include "base/clean_pages.h"
#include "base/logging.h"
#include "base/safe_copy_unsafe.h"
#include "base/status_macros.h"
#include "sentry/boot/exec_loader.h"
#include "sentry/boot/file_tree.h"
#include "sentry/boot/oci_seccomp.h"
#include "sentry/boot/platforms.h"
#include "sentry/boot/process_io.h"
#include "sentry/boot/registry.h"
#include "sentry/kernel/seccomp_notify.h"
#include "sentry/syscalls/table.h"
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/vfs.h"

namespace sentry::boot {

namespace {

absl::Status HostError(std::string_view what, base::Errno error) {
  return absl::InternalError(absl::StrCat(absl::string_view(what.data(), what.size()), ": ", strerror(error.value())));
}

// The texts that engines look for (docker's exit codes 126 and 127).
absl::Status ExecError(const std::string& name, base::Errno error) {
  const bool has_slash = name.find('/') != std::string::npos;
  switch (error.value()) {
    case ENOENT:
      if (!has_slash)
        return absl::NotFoundError(absl::StrCat("exec: \"", name, "\": executable file not found in $PATH"));
      return absl::NotFoundError(absl::StrCat("exec: \"", name, "\": stat ", name, ": no such file or directory"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat("exec: \"", name, "\": permission denied"));
    case ENOEXEC:
      return absl::InvalidArgumentError(absl::StrCat("exec ", name, ": exec format error"));
    default:
      return absl::InternalError(absl::StrCat("exec ", name, ": ", strerror(error.value())));
  }
}

Limits MakeLimits(const control::ProcessSpec& spec) {
  Limits limits = Limits::Default();
  for (const control::Rlimit& r : spec.rlimits) {
    if (r.resource >= 0 && r.resource < kRlimits) limits.values[r.resource] = {r.soft, r.hard};
  }
  return limits;
}

// Pages do not count to the limit of what else a guest makes by this much.
constexpr uint64_t kObjectReserve = 16 << 20;

CredentialsRef MakeCredentials(const control::ProcessSpec& spec) {
  RefPtr<Credentials> creds = base::MakeRef<Credentials>();
  creds->ruid = creds->euid = creds->suid = creds->fsuid = spec.uid;
  creds->rgid = creds->egid = creds->sgid = creds->fsgid = spec.gid;
  creds->groups.assign(spec.additional_gids.begin(), spec.additional_gids.end());
  std::sort(creds->groups.begin(), creds->groups.end());
  creds->permitted = spec.capabilities.permitted & kAllCapabilities;
  creds->effective = spec.capabilities.effective & kAllCapabilities;
  creds->inheritable = spec.capabilities.inheritable & kAllCapabilities;
  creds->bounding = spec.capabilities.bounding & kAllCapabilities;
  creds->ambient = spec.capabilities.ambient & kAllCapabilities;
  creds->no_new_privs = spec.no_new_privs;
  return CredentialsRef(std::move(creds));
}

}  // namespace

absl::Status KernelSandbox::Prepare() {
  base::InstallSafeCopyHandlers();
  // An arena for every executor and worker would be memory that an idle sandbox holds for nothing.
  mallopt(M_ARENA_MAX, 2);
  platform::MemoryFile::Options memory;
  if (spec_.memory_limit != 0) memory.limit_bytes = spec_.memory_limit;
  auto file = platform::MemoryFile::Create(memory);
  if (!file.ok()) return HostError("cannot make the sandbox's memory file", file.error());
  memory_file_ = std::move(*file);

  ASSIGN_OR_RETURN(platform_, NewPlatform(spec_.platform, {.systrap_patching = spec_.systrap_patching,
                                                           .cpu_limit = spec_.cpu_limit,
                                                           .kvm = std::move(spec_.kvm)}));

  base::Scheduler::Options options;
  options.executors = spec_.cpu_count;
  options.replace_stuck_after_ns = 10'000'000;  // on platforms whose executors are not bound to their threads
  options.idle = [this](int index) { return platform_->NewIdleStrategy(index); };
  scheduler_ = std::make_unique<base::Scheduler>(options);
  memory_file_->StartTrimming(scheduler_->reactor());
  // When it has started. What is still needed comes back at once; an idle sandbox keeps a third of it.
  started_timer_ = std::make_unique<base::Timer>(scheduler_->reactor(), &base::DropCleanPages);
  started_timer_->Set(base::MonotonicNow() + 1'000'000'000);

  Kernel::Options kernel;
  kernel.scheduler = scheduler_.get();
  kernel.platform = platform_.get();
  kernel.memory_file = memory_file_.get();
  kernel.cpus = spec_.cpu_count;
  kernel.max_tasks = spec_.pids_limit > 0 ? static_cast<uint64_t>(spec_.pids_limit) : 0;
  struct sysinfo info;
  const uint64_t host_memory = sysinfo(&info) == 0 ? uint64_t{info.totalram} * info.mem_unit : uint64_t{2} << 30;
  kernel.total_memory = spec_.memory_limit != 0 ? std::min(spec_.memory_limit, host_memory) : host_memory;
  kernel.strace = spec_.strace;
  kernel.allow_tsc = TimeKeeper::HostTrustsTsc();
  kernel_ = std::make_unique<Kernel>(kernel);
  kernel_->SetSystemCallHandler(&ServeSystemCall);
  if (spec_.memory_limit != 0) {
    DentryCache::Get().set_pressure([memory = memory_file_.get()] { return memory->Full(); });
  }
  base::ChargedMemory::SetLimit([memory = memory_file_.get(), limit = spec_.memory_limit, total = kernel.total_memory] {
    const uint64_t objects = base::ChargedMemory::used();
    // Half of the memory at most is objects. Pages may leave room for some of them, or a guest that has filled a tmpfs
    // could not remove it.
    return objects >= total / 2 ||
           (limit != 0 && memory->Full() && memory->usage() + objects >= limit + std::min(limit / 16, kObjectReserve));
  });
  return absl::OkStatus();
}

// Only tests come here: a sandbox's process just ends. Init has ended; what it left behind goes the same way.
KernelSandbox::~KernelSandbox() {
  if (!kernel_) return;
  DentryCache::Get().set_pressure(nullptr);
  base::ChargedMemory::SetLimit(nullptr);
  OnFiber([this] {
    init_.reset();
    mounts_.reset();
    net_.reset();
    uts_.reset();
  });
  started_timer_.reset();
  memory_file_->StopTrimming();
  // Before the kernel: it waits for tasks that are on their way out, which still use it.
  scheduler_.reset();
  kernel_.reset();
  platform_.reset();
}

void KernelSandbox::OnFiber(std::function<void()> body) {
  base::Fiber::Spawn(*scheduler_, {}, std::move(body))->Join();
}

absl::Status KernelSandbox::Load() {
  absl::Status status;
  OnFiber([&] { status = LoadOnFiber(); });
  return status;
}

absl::Status KernelSandbox::LoadOnFiber() {
  RETURN_IF_ERROR(RegisterAll(*kernel_, spec_));
  auto vdso = loader::Vdso::Create(*memory_file_, kernel_->time());
  if (!vdso.ok()) return HostError("cannot make the vDSO", vdso.error());
  kernel_->SetExecLoader(MakeExecLoader(*kernel_, *vdso));
  if (std::byte* page = platform_->clock_page()) {
    kernel_->time().AddPageWriter([page](uint64_t offset, std::span<const std::byte> bytes) {
      // The same on a host without memory for it as with the vDSO's.
      (void)base::SafeCopy(page + offset, bytes.data(), bytes.size());
    });
  }

  uts_ = base::MakeRef<UtsNamespace>();
  {
    base::MutexLock l(uts_->mu);
    uts_->hostname = spec_.hostname.empty() ? "runsc" : spec_.hostname;
    if (!spec_.domainname.empty()) uts_->domainname = spec_.domainname;
  }
  net_ = NewNetworkNamespace(*kernel_, spec_);
  ASSIGN_OR_RETURN(mounts_, BuildFileTree(*kernel_, spec_));
  if (prepare_root_) {
    VfsContext root = RootContext(*mounts_);
    prepare_root_(root);
  }
  ASSIGN_OR_RETURN(init_, MakeProcess(spec_.process, /*is_init=*/true));
  return absl::OkStatus();
}

absl::Status KernelSandbox::Start() {
  if (started_) return absl::FailedPreconditionError("the container has been started already");
  started_ = true;
  if (spec_.fail_allocations != 0) base::ChargedMemory::FailFrom(spec_.fail_allocations, spec_.fail_allocations);
  OnFiber([this] { kernel_->StartProcess(*init_); });
  return absl::OkStatus();
}

absl::StatusOr<RefPtr<FdTable>> KernelSandbox::MakeDescriptors(control::ProcessSpec& spec, MountNamespace& mounts,
                                                               RefPtr<Tty>* tty) {
  RefPtr<FdTable> fds = base::MakeRef<FdTable>();
  VfsContext ctx = RootContext(mounts);
  const uint64_t limit = std::max<uint64_t>(MakeLimits(spec).values[RLIMIT_NOFILE].rlim_cur, 3);
  auto install = [&](base::UniqueFd fd, int guest) -> absl::Status {
    Result<RefPtr<FileDescription>> file = Errno(EBADF);
    if (!fd.valid()) {
      file = vfs::Open(ctx, ctx.root, "/dev/null", {O_RDWR, 0, 0});
    } else {
      file = NewStdio(*kernel_, ctx, std::move(fd), spec, tty);
    }
    if (!file.ok()) return HostError(absl::StrCat("cannot give the process its descriptor ", guest), file.error());
    auto put = fds->InstallAt(guest, *file, /*cloexec=*/false, std::max<uint64_t>(limit, guest + 1));
    if (!put.ok()) return HostError(absl::StrCat("cannot give the process its descriptor ", guest), put.error());
    return absl::OkStatus();
  };
  for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(install(std::move(spec.stdio[i]), i));
  for (auto& [fd, guest] : spec.passed_fds) RETURN_IF_ERROR(install(std::move(fd), guest));
  return fds;
}

absl::StatusOr<RefPtr<ThreadGroup>> KernelSandbox::MakeProcess(control::ProcessSpec& spec, bool is_init) {
  Kernel::ProcessSpec process;
  process.argv = spec.argv;
  process.envp = spec.envv;
  VfsContext root = RootContext(*mounts_);
  AddHome(root, spec.uid, &process.envp);
  process.creds = MakeCredentials(spec);
  process.cwd = spec.cwd;
  process.umask = spec.umask;
  RefPtr<Tty> tty;
  ASSIGN_OR_RETURN(process.fds, MakeDescriptors(spec, *mounts_, &tty));
  if (is_init && tty) {
    if (auto stdin_file = process.fds->Get(0); stdin_file.ok()) BindConsole(root, (*stdin_file)->path());
  }
  process.mounts = mounts_;
  process.uts = uts_;
  process.net = net_;
  process.limits = MakeLimits(spec);
  process.tty = tty;
  if (is_init && !spec.cwd.empty()) {
    // As runc: a missing working directory is made.
    Result<void> made = MakeDirectories(root, spec.cwd, 0755);
    if (!made.ok() && !made.failed_with(EROFS)) {
      return HostError(absl::StrCat("cannot make the working directory ", spec.cwd), made.error());
    }
  }
  Result<WalkResult> cwd =
      WalkPath(root, root.root, spec.cwd.empty() ? "/" : spec.cwd,
               static_cast<uint32_t>(WalkFlag::kFollow) | static_cast<uint32_t>(WalkFlag::kDirectory));
  if (!cwd.ok()) {
    return absl::NotFoundError(
        absl::StrCat("chdir to cwd (\"", spec.cwd, "\") set in config.json failed: ", strerror(cwd.error().value())));
  }
  RefPtr<SeccompFilter> seccomp;
  if (spec_.seccomp) {
    ASSIGN_OR_RETURN(std::vector<sock_filter> program, CompileSeccompProfile(*spec_.seccomp));
    Result<RefPtr<SeccompFilter>> filter = SeccompFilter::Create(std::move(program), /*log=*/false, nullptr);
    if (!filter.ok()) return HostError("config.json: linux.seccomp", filter.error());
    seccomp = std::move(*filter);
  }
  const std::string name = spec.argv.empty() ? "" : spec.argv[0];
  Result<RefPtr<ThreadGroup>> tg = kernel_->CreateProcess(std::move(process));
  if (!tg.ok()) return ExecError(name, tg.error());
  const int32_t pid = (*tg)->pid();
  if (seccomp) {
    RefPtr<Task> task = kernel_->FindTask(pid, (*tg)->pid_namespace());
    CHECK(task && task->AttachSeccompFilter(std::move(seccomp), /*all_threads=*/false).ok());
  }
  {
    base::MutexLock l(mu_);
    processes_[pid].tty = tty;
  }
  kernel_->OnProcessExit(**tg, [this, pid](int status) { OnExit(pid, status); });
  return *tg;
}

absl::StatusOr<int32_t> KernelSandbox::CreateProcess(control::ProcessSpec spec) {
  // Before init was started, too: startContainer hooks run then.
  absl::StatusOr<int32_t> pid = absl::InternalError("no process was made");
  OnFiber([&] {
    absl::StatusOr<RefPtr<ThreadGroup>> tg = MakeProcess(spec, /*is_init=*/false);
    if (!tg.ok()) {
      pid = tg.status();
      return;
    }
    pid = (*tg)->pid();
    kernel_->StartProcess(**tg);
  });
  return pid;
}

void KernelSandbox::OnExit(int32_t pid, int status) {
  std::vector<std::function<void(absl::StatusOr<int>)>> waiters;
  {
    base::MutexLock l(mu_);
    auto it = processes_.find(pid);
    if (it == processes_.end()) return;
    waiters = std::move(it->second.waiters);
    it->second.tty.reset();
    if (waiters.empty() || pid == 1) {
      it->second.status = status;
    } else {
      processes_.erase(it);
    }
  }
  for (auto& done : waiters) done(status);
}

void KernelSandbox::WaitProcess(int32_t pid, std::function<void(absl::StatusOr<int>)> done) {
  absl::StatusOr<int> result = absl::NotFoundError(absl::StrCat("no process ", pid, " was started from outside"));
  {
    base::MutexLock l(mu_);
    auto it = processes_.find(pid);
    if (it != processes_.end()) {
      if (!it->second.status) {
        it->second.waiters.push_back(std::move(done));
        return;
      }
      result = *it->second.status;
      if (pid != 1) processes_.erase(it);
    }
  }
  done(result);
}

absl::Status KernelSandbox::SignalProcess(int32_t pid, int signo) {
  PidNamespace& ns = init_->pid_namespace();
  RefPtr<ThreadGroup> tg = kernel_->FindThreadGroup(pid, ns);
  if (!tg) return absl::NotFoundError(absl::StrCat("no process ", pid, " in the container"));
  if (!started_ && tg == init_ && signo == kSIGKILL) {
    // It has never run: nothing would take the signal.
    OnFiber([&] {
      (void)Task::SendGroupSignal(*tg, KernelSignal(kSIGKILL));
      kernel_->StartProcess(*tg);
    });
    started_ = true;
    return absl::OkStatus();
  }
  Result<void> sent = Task::SendGroupSignal(*tg, UserSignal(signo, 0, 0));
  if (!sent.ok()) return HostError("kill", sent.error());
  return absl::OkStatus();
}

absl::Status KernelSandbox::SignalGroup(int32_t pgid, int signo) {
  RefPtr<ProcessGroup> group = kernel_->FindProcessGroup(pgid, init_->pid_namespace());
  if (!group) return absl::NotFoundError(absl::StrCat("no process group ", pgid, " in the container"));
  std::vector<RefPtr<ThreadGroup>> members;
  {
    base::MutexLock tree(kernel_->tasks().mu);
    for (ThreadGroup* tg : group->members) members.emplace_back(tg);
  }
  for (RefPtr<ThreadGroup>& tg : members) (void)Task::SendGroupSignal(*tg, UserSignal(signo, 0, 0));
  {
    // The last reference to a group is dropped with the tree locked.
    base::MutexLock tree(kernel_->tasks().mu);
    group.reset();
  }
  return absl::OkStatus();
}

absl::Status KernelSandbox::SignalAll(int signo) {
  for (RefPtr<ThreadGroup>& tg : kernel_->ThreadGroups(init_->pid_namespace())) {
    (void)Task::SendGroupSignal(*tg, UserSignal(signo, 0, 0));
  }
  return absl::OkStatus();
}

absl::Status KernelSandbox::SignalForeground(int32_t pid, int signo) {
  RefPtr<Tty> tty;
  {
    base::MutexLock l(mu_);
    auto it = processes_.find(pid);
    if (it != processes_.end()) tty = it->second.tty;
  }
  if (!tty) return absl::NotFoundError(absl::StrCat("process ", pid, " has no terminal"));
  tty->SignalForeground(*kernel_, signo);
  return absl::OkStatus();
}

std::vector<control::ProcessInfo> KernelSandbox::ListProcesses() {
  std::vector<control::ProcessInfo> list;
  PidNamespace& ns = init_->pid_namespace();
  const int64_t boot_to_real = base::HostClockNs(CLOCK_REALTIME) - base::HostClockNs(CLOCK_BOOTTIME);
  for (RefPtr<ThreadGroup>& tg : kernel_->ThreadGroups(ns)) {
    control::ProcessInfo info;
    RefPtr<Task> leader;
    {
      base::MutexLock tree(kernel_->tasks().mu);
      if (tg->leader == nullptr || tg->zombie) continue;
      leader = RefPtr<Task>(tg->leader);
      info.pid = tg->PidIn(ns);
      info.ppid = tg->parent != nullptr ? tg->parent->PidIn(ns) : 0;
      info.pgid = tg->process_group ? tg->process_group->IdIn(ns) : 0;
      Usage usage = tg->TotalUsageLocked();
      info.cpu_time_ns = static_cast<uint64_t>(usage.user_ns + usage.system_ns);
    }
    info.uid = leader->SnapshotCreds()->euid;
    info.command = leader->comm();
    info.start_time_unix_ns = tg->start_time_ns + boot_to_real;
    const int64_t age = std::max<int64_t>(base::HostClockNs(CLOCK_BOOTTIME) - tg->start_time_ns, 1);
    info.cpu_percent = static_cast<uint32_t>(info.cpu_time_ns * 100 / static_cast<uint64_t>(age));
    list.push_back(std::move(info));
  }
  return list;
}

absl::Status KernelSandbox::Pause() {
  kernel_->Pause();
  return absl::OkStatus();
}

absl::Status KernelSandbox::Resume() {
  kernel_->Resume();
  return absl::OkStatus();
}

absl::Status KernelSandbox::ResizeTerminal(int32_t pid, uint16_t rows, uint16_t columns) {
  RefPtr<Tty> tty;
  {
    base::MutexLock l(mu_);
    auto it = processes_.find(pid);
    if (it != processes_.end()) tty = it->second.tty;
  }
  if (!tty) return absl::NotFoundError(absl::StrCat("process ", pid, " has no terminal"));
  return SetTerminalSize(*kernel_, *tty, rows, columns);
}

control::Stats KernelSandbox::GetStats() {
  control::Stats stats;
  stats.memory_usage_bytes = memory_file_->usage() + base::ChargedMemory::used();
  stats.memory_limit_bytes = spec_.memory_limit;
  stats.pids_limit = spec_.pids_limit > 0 ? static_cast<uint64_t>(spec_.pids_limit) : 0;
  base::MutexLock tree(kernel_->tasks().mu);
  stats.pids_current = static_cast<uint64_t>(kernel_->tasks().live_tasks);
  for (auto& [tid, task] : kernel_->tasks().root->tasks) {
    if (task->thread_group().leader != task) continue;
    Usage usage = task->thread_group().TotalUsageLocked();
    usage.Add(task->thread_group().children_usage);
    stats.cpu_user_ns += static_cast<uint64_t>(usage.user_ns);
    stats.cpu_system_ns += static_cast<uint64_t>(usage.system_ns);
  }
  return stats;
}

absl::StatusOr<std::unique_ptr<Sandbox>> NewKernelSandbox(BootSpec& spec) {
  auto sandbox = std::make_unique<KernelSandbox>(spec);
  RETURN_IF_ERROR(sandbox->Prepare());
  return sandbox;
}

}  // namespace sentry::boot
