#include "sentry/kernel/task.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/time.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/seccomp.h"

namespace sentry {

Task::Task(Kernel& kernel, Init init)
    : start_time_ns(base::HostClockNs(CLOCK_BOOTTIME)),
      kernel_(kernel),
      thread_group_(std::move(init.thread_group)),
      context_(std::move(init.context)),
      mm_(std::move(init.mm)),
      fds_(std::move(init.fds)),
      fs_(std::move(init.fs)),
      mounts_(std::move(init.mounts)),
      uts_(std::move(init.uts)),
      net_(std::move(init.net)),
      creds_(std::move(init.creds)),
      comm_(std::move(init.comm)) {}

Task::~Task() {
  if (SeccompFilter* filter = seccomp_filter_.load()) filter->Unref();  // of one that never ran
}

int Task::TidIn(const PidNamespace& ns) const {
  for (const auto& [space, tid] : tids_) {
    if (space == &ns) return tid;
  }
  return 0;
}

int Task::OwnTidIn(const PidNamespace& ns) const {
  base::MutexLock tree(kernel_.tasks().mu);
  return TidIn(ns);
}

int Task::PidIn(const PidNamespace& ns) const {
  base::MutexLock tree(kernel_.tasks().mu);
  return thread_group_->PidIn(ns);
}

VfsContext Task::MakeVfsContext() {
  VfsContext ctx;
  ctx.mounts = mounts_.get();
  ctx.root = fs_->root();
  ctx.cwd = fs_->cwd();
  ctx.creds = creds_;
  ctx.umask = fs_->umask();
  ctx.file_size_limit = thread_group_->Limit(RLIMIT_FSIZE);
  ctx.blocker = this;
  ctx.lock_owner = fds_.get();
  ctx.lock_pid = thread_group_->pid();
  ctx.task = this;
  return ctx;
}

Result<VfsPath> Task::PathStart(Fd dirfd, std::string_view path) {
  if (!path.empty() && path[0] == '/') return fs_->root();
  if (dirfd == AT_FDCWD) return fs_->cwd();
  RefPtr<FileDescription> file = TRY(fds_->Get(dirfd, /*allow_path=*/true));
  // With an empty path the descriptor may be anything (AT_EMPTY_PATH).
  if (!path.empty() && !file->inode()->is_dir()) return Errno(ENOTDIR);
  return file->path();
}

Result<Fd> Task::InstallFile(RefPtr<FileDescription> file, bool cloexec) {
  return fds_->Install(std::move(file), cloexec, thread_group_->Limit(RLIMIT_NOFILE));
}

Result<FdReservation> Task::ReserveFd() { return fds_->Reserve(thread_group_->Limit(RLIMIT_NOFILE)); }

MmLimits Task::mm_limits() const {
  MmLimits limits;
  Limits all = thread_group_->limits();
  limits.address_space = all.values[RLIMIT_AS].rlim_cur;
  limits.data = all.values[RLIMIT_DATA].rlim_cur;
  limits.stack = all.values[RLIMIT_STACK].rlim_cur;
  // mlock_future_ok(): MCL_FUTURE and MAP_LOCKED, too.
  limits.memlock = Capable(CAP_IPC_LOCK) ? UINT64_MAX : all.values[RLIMIT_MEMLOCK].rlim_cur;
  return limits;
}

// The old value is dropped after the lock: a destructor may do a lot.
#define DEFINE_SETTER(Name, Type, field) \
  void Task::Name(Type value) {          \
    base::MutexLock l(mu_);              \
    std::swap(field, value);             \
  }
DEFINE_SETTER(SetMm, RefPtr<MemoryManager>, mm_)
DEFINE_SETTER(SetFds, RefPtr<FdTable>, fds_)
DEFINE_SETTER(SetFs, RefPtr<FsContext>, fs_)
DEFINE_SETTER(SetMounts, RefPtr<MountNamespace>, mounts_)
DEFINE_SETTER(SetNet, RefPtr<base::RefCounted>, net_)
DEFINE_SETTER(SetIpc, RefPtr<IpcNamespace>, ipc_)
#undef DEFINE_SETTER

void Task::SetUts(RefPtr<UtsNamespace> uts) {
  answers_stale_.store(true, std::memory_order_relaxed);
  base::MutexLock l(mu_);
  std::swap(uts_, uts);
}

void Task::SetCredentials(CredentialsRef creds) {
  base::MutexLock tree(kernel_.tasks().mu);
  auto& counts = kernel_.tasks().tasks_of_user;
  if (creds->ruid != creds_->ruid && state() != 'Z') {
    if (--counts[creds_->ruid] == 0) counts.erase(creds_->ruid);
    ++counts[creds->ruid];
  }
  answers_stale_.store(true, std::memory_order_relaxed);
  base::MutexLock l(mu_);
  std::swap(creds_, creds);
}

void Task::SetComm(std::string_view comm) {
  base::MutexLock l(mu_);
  comm_ = std::string(comm.substr(0, 15));
}

RefPtr<MemoryManager> Task::SnapshotMm() const {
  base::MutexLock l(mu_);
  return mm_;
}
RefPtr<FdTable> Task::SnapshotFds() const {
  base::MutexLock l(mu_);
  return fds_;
}
RefPtr<FsContext> Task::SnapshotFs() const {
  base::MutexLock l(mu_);
  return fs_;
}
RefPtr<MountNamespace> Task::SnapshotMounts() const {
  base::MutexLock l(mu_);
  return mounts_;
}
CredentialsRef Task::SnapshotCreds() const {
  base::MutexLock l(mu_);
  return creds_;
}
RefPtr<UtsNamespace> Task::SnapshotUts() const {
  base::MutexLock l(mu_);
  return uts_;
}
RefPtr<base::RefCounted> Task::SnapshotNet() const {
  base::MutexLock l(mu_);
  return net_;
}
RefPtr<IpcNamespace> Task::SnapshotIpc() const {
  base::MutexLock l(mu_);
  return ipc_;
}
std::string Task::comm() const {
  base::MutexLock l(mu_);
  return comm_;
}

Usage Task::usage() const {
  Usage u;
  u.user_ns = user_ns_.load(std::memory_order_relaxed);
  // What it has computed since its last call. Differs from Linux: waiting for a host CPU counts.
  if (const int64_t since = guest_since_.load(std::memory_order_relaxed); since != 0) {
    u.user_ns += std::max<int64_t>(base::MonotonicNow() - since, 0);
  }
  u.system_ns = system_ns_.load(std::memory_order_relaxed);
  u.minor_faults = minor_faults_.load(std::memory_order_relaxed);
  u.voluntary_switches = switches_.load(std::memory_order_relaxed);
  u.read_bytes = read_bytes_.load(std::memory_order_relaxed);
  u.written_bytes = written_bytes_.load(std::memory_order_relaxed);
  u.reads = reads_.load(std::memory_order_relaxed);
  u.writes = writes_.load(std::memory_order_relaxed);
  return u;
}

}  // namespace sentry
