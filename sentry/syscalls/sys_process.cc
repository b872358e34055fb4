#include "sentry/syscalls/sys_process.h"

#include <asm/prctl.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "sentry/fs/anon/pidfd.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/syscalls/sys_seccomp.h"

namespace sentry {

Result<int> SysFork(Task& task) {
  CloneRequest request;
  request.exit_signal = kSIGCHLD;
  return task.Clone(request);
}

Result<int> SysVfork(Task& task) {
  CloneRequest request;
  request.flags = CLONE_VM | CLONE_VFORK;
  request.exit_signal = kSIGCHLD;
  return task.Clone(request);
}

Result<int> SysClone(Task& task, uint64_t flags, uint64_t stack, uint64_t parent_tid, uint64_t child_tid,
                     uint64_t tls) {
  CloneRequest request;
  // The old interface has 32 bits of flags, the signal in the lowest eight, and pidfd shares parent_tid.
  request.flags = flags & 0xffffff00;
  request.exit_signal = static_cast<int>(flags & 0xff);
  request.stack = stack;
  request.parent_tid = parent_tid;
  request.child_tid = child_tid;
  request.tls = tls;
  if (request.flags & CLONE_PIDFD) {
    if (request.flags & (CLONE_PARENT_SETTID | CLONE_DETACHED)) return Errno(EINVAL);
    request.pidfd = parent_tid;
  }
  return task.Clone(request);
}

Result<int> SysClone3(Task& task, UserPtr<abi::CloneArgs> args, uint64_t size) {
  constexpr uint64_t kMinSize = 64;  // CLONE_ARGS_SIZE_VER0
  if (size > kPageSize) return Errno(E2BIG);
  if (size < kMinSize) return Errno(EINVAL);
  std::vector<uint8_t> raw = TRY(task.mm().ReadArray(UserPtr<uint8_t>{args.addr}, size));
  for (size_t i = sizeof(abi::CloneArgs); i < raw.size(); ++i) {
    if (raw[i] != 0) return Errno(E2BIG);
  }
  abi::CloneArgs a{};
  std::memcpy(&a, raw.data(), std::min(raw.size(), sizeof(a)));
  constexpr uint64_t kLegacy = 0xffffffff, kClearSighand = 0x100000000, kIntoCgroup = 0x200000000;
  if (a.flags & ~(kLegacy | kClearSighand | kIntoCgroup)) return Errno(EINVAL);
  if (a.flags & (uint64_t{CLONE_DETACHED} | CSIGNAL)) return Errno(EINVAL);
  if ((a.flags & kClearSighand) && (a.flags & CLONE_SIGHAND)) return Errno(EINVAL);
  if (a.flags & kIntoCgroup) return Errno(EOPNOTSUPP);
  if (a.exit_signal > static_cast<uint64_t>(kSignals)) return Errno(EINVAL);
  if ((a.flags & (CLONE_THREAD | CLONE_PARENT)) && a.exit_signal != 0) return Errno(EINVAL);
  if ((a.stack == 0) != (a.stack_size == 0)) return Errno(EINVAL);
  if (a.set_tid_size > 32 || (a.set_tid == 0) != (a.set_tid_size == 0)) return Errno(EINVAL);
  CloneRequest request;
  request.flags = a.flags;
  request.exit_signal = static_cast<int>(a.exit_signal);
  request.stack = a.stack;
  request.stack_size = a.stack_size;
  request.tls = a.tls;
  request.parent_tid = a.parent_tid;
  request.child_tid = a.child_tid;
  request.pidfd = a.pidfd;
  if (a.set_tid_size != 0) {
    if (!task.Capable(CAP_SYS_ADMIN) && !task.Capable(40 /* CAP_CHECKPOINT_RESTORE */)) return Errno(EPERM);
    request.set_tid = TRY(task.mm().ReadArray(UserPtr<int>{a.set_tid}, a.set_tid_size));
  }
  return task.Clone(request);
}

namespace {

// argv or envp: pointers up to a null. The bytes are bounded as on Linux: 128 KiB a string, a quarter of the stack
// limit (at most 6 MiB) in all.
Result<std::vector<std::string>> ReadStrings(Task& task, UserPtr<uint64_t> array, uint64_t& budget) {
  constexpr size_t kMaxArgStrlen = 128 << 10;
  std::vector<std::string> strings;
  if (!array) return strings;  // Linux takes a null array as an empty one
  for (;; array = array + 1) {
    uint64_t pointer = TRY(task.mm().Read(array));
    if (pointer == 0) return strings;
    std::string s = TRY(task.mm().ReadString(pointer, kMaxArgStrlen, E2BIG));
    const uint64_t cost = s.size() + 1 + sizeof(uint64_t);
    if (cost > budget) return Errno(E2BIG);
    budget -= cost;
    strings.push_back(std::move(s));
  }
}

Result<void> Exec(Task& task, VfsPath start, std::string path, uint32_t at_flags, UserPtr<uint64_t> argv,
                  UserPtr<uint64_t> envp, Fd dirfd = AT_FDCWD) {
  Task::ExecRequest request;
  if (dirfd != AT_FDCWD && (path.empty() || path[0] != '/')) {
    // man 2 execveat: how an interpreter finds the file.
    request.filename = "/dev/fd/" + std::to_string(dirfd) + (path.empty() ? "" : "/" + path);
    request.path_inaccessible = task.fds().CloseOnExec(dirfd).value_or(false);
  }
  request.start = std::move(start);
  request.path = std::move(path);
  request.at_flags = at_flags;
  uint64_t budget = std::clamp<uint64_t>(task.thread_group().Limit(RLIMIT_STACK) / 4, 128 << 10, 6 << 20);
  request.argv = TRY(ReadStrings(task, argv, budget));
  request.envp = TRY(ReadStrings(task, envp, budget));
  if (request.argv.empty()) request.argv.emplace_back();  // since 5.18: argv[0] is ""
  return task.Exec(std::move(request));
}

}  // namespace

Result<void> SysExecve(Task& task, UserPath path, UserPtr<uint64_t> argv, UserPtr<uint64_t> envp) {
  std::string name = TRY(path.Read(task));
  VfsPath start = TRY(task.PathStart(AT_FDCWD, name));
  return Exec(task, std::move(start), std::move(name), 0, argv, envp);
}

Result<void> SysExecveat(Task& task, FdArg dirfd, UserPath path, UserPtr<uint64_t> argv, UserPtr<uint64_t> envp,
                         int flags) {
  if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) return Errno(EINVAL);
  std::string name = TRY(path.Read(task));
  if (name.empty() && !(flags & AT_EMPTY_PATH)) return Errno(ENOENT);
  VfsPath start = TRY(task.PathStart(static_cast<Fd>(dirfd), name));
  return Exec(task, std::move(start), std::move(name), static_cast<uint32_t>(flags), argv, envp,
              static_cast<Fd>(dirfd));
}

Result<void> SysExit(Task& task, int status) {
  task.Exit(status);
  return {};
}

Result<void> SysExitGroup(Task& task, int status) {
  task.ExitGroup(status);
  return {};
}

abi::Rusage ToRusage(const Usage& usage) {
  auto timeval = [](int64_t ns) { return abi::Timeval{ns / 1'000'000'000, ns % 1'000'000'000 / 1000}; };
  abi::Rusage r{};
  r.ru_utime = timeval(usage.user_ns);
  r.ru_stime = timeval(usage.system_ns);
  r.ru_maxrss = static_cast<int64_t>(usage.max_rss_kb);
  r.ru_minflt = static_cast<int64_t>(usage.minor_faults);
  r.ru_majflt = static_cast<int64_t>(usage.major_faults);
  r.ru_nvcsw = static_cast<int64_t>(usage.voluntary_switches);
  r.ru_nivcsw = static_cast<int64_t>(usage.involuntary_switches);
  return r;
}

Result<int> SysWait4(Task& task, int pid, UserPtr<int32_t> status, int options, UserPtr<abi::Rusage> usage) {
  constexpr uint32_t kValid = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WALL | __WCLONE;
  if (static_cast<uint32_t>(options) & ~kValid) return Errno(EINVAL);
  if (pid == INT32_MIN) return Errno(ESRCH);
  WaitRequest request;
  request.options = static_cast<uint32_t>(options) | WEXITED;  // WUNTRACED is WSTOPPED
  if (pid == -1) {
    request.who = WaitRequest::Who::kAny;
  } else if (pid > 0) {
    request.who = WaitRequest::Who::kPid;
    request.id = pid;
  } else {
    request.who = WaitRequest::Who::kProcessGroup;
    request.id = -pid;
  }
  WaitOutcome out = TRY(task.WaitChild(request));
  if (out.pid == 0) return 0;
  if (status) TRY(task.mm().Write(status, out.status));
  if (usage) TRY(task.mm().Write(usage, ToRusage(out.usage)));
  return out.pid;
}

Result<void> SysWaitid(Task& task, int which, int id, UserPtr<abi::Siginfo> info, int options,
                       UserPtr<abi::Rusage> usage) {
  constexpr uint32_t kValid = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD | __WALL | __WCLONE;
  if (static_cast<uint32_t>(options) & ~kValid) return Errno(EINVAL);
  if (!(options & (WEXITED | WSTOPPED | WCONTINUED))) return Errno(EINVAL);
  WaitRequest request;
  RefPtr<ThreadGroup> target;
  request.options = static_cast<uint32_t>(options);
  switch (which) {
    case P_ALL:
      request.who = WaitRequest::Who::kAny;
      break;
    case P_PID:
      if (id <= 0) return Errno(EINVAL);
      request.who = WaitRequest::Who::kPid;
      request.id = id;
      break;
    case P_PGID:
      if (id < 0) return Errno(EINVAL);
      request.who = WaitRequest::Who::kProcessGroup;
      request.id = id;
      break;
    case 3: {  // P_PIDFD
      if (id < 0) return Errno(EINVAL);
      RefPtr<FileDescription> file = TRY(task.GetFile(id));
      target = TRY(PidFdTarget(*file));
      request.who = WaitRequest::Who::kPidfdGroup;
      request.pidfd_target = target.get();
      if (file->nonblocking()) request.options |= WNOHANG;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  WaitOutcome out = TRY(task.WaitChild(request));
  // man 2 pidfd_open, PIDFD_NONBLOCK.
  if (out.pid == 0 && which == 3 && !(options & WNOHANG)) return Errno(EAGAIN);
  if (info) {
    abi::Siginfo si{};
    if (out.pid != 0) {
      si.si_signo = kSIGCHLD;
      si.si_code = out.code;
      si.chld.pid = out.pid;
      si.chld.uid = out.uid;
      si.chld.status = out.value;
    }
    TRY(task.mm().Write(info, si));
  }
  if (usage && out.pid != 0) TRY(task.mm().Write(usage, ToRusage(out.usage)));
  return {};
}

Result<int> SysGetpid(Task& task) { return task.thread_group().pid(); }
Result<int> SysGettid(Task& task) { return task.tid(); }

Result<int> SysGetppid(Task& task) {
  base::MutexLock tree(task.kernel().tasks().mu);
  ThreadGroup* parent = task.thread_group().parent;
  return parent == nullptr ? 0 : parent->PidIn(task.pid_namespace());
}

Result<int> SysGetpgrp(Task& task) { return task.GetPgid(0); }
Result<int> SysGetpgid(Task& task, int pid) { return task.GetPgid(pid); }
Result<void> SysSetpgid(Task& task, int pid, int pgid) { return task.SetPgid(pid, pgid); }
Result<int> SysGetsid(Task& task, int pid) { return task.GetSid(pid); }
Result<int> SysSetsid(Task& task) { return task.SetSid(); }

Result<int> SysSetTidAddress(Task& task, uint64_t addr) {
  task.clear_child_tid = addr;
  return task.tid();
}

Result<void> SysUnshare(Task& task, uint64_t flags) { return task.Unshare(flags); }

Result<void> SysGetrlimit(Task& task, uint32_t resource, UserPtr<abi::Rlimit> out) {
  if (resource >= kRlimits) return Errno(EINVAL);
  return task.mm().Write(out, task.thread_group().limits().values[resource]);
}

namespace {

Result<void> ChangeLimit(Task& task, ThreadGroup& target, uint32_t resource, abi::Rlimit fresh) {
  if (fresh.rlim_cur > fresh.rlim_max) return Errno(EINVAL);
  abi::Rlimit old = target.limits().values[resource];
  constexpr uint64_t kNrOpen = 1 << 20;  // fs.nr_open
  if (resource == RLIMIT_NOFILE && fresh.rlim_max > kNrOpen && fresh.rlim_max > old.rlim_max) return Errno(EPERM);
  if (fresh.rlim_max > old.rlim_max && !task.Capable(CAP_SYS_RESOURCE)) return Errno(EPERM);
  target.SetLimit(static_cast<int>(resource), fresh);
  if (resource == RLIMIT_CPU) target.timers().SetCpuLimit(fresh);
  return {};
}

}  // namespace

Result<void> SysSetrlimit(Task& task, uint32_t resource, UserPtr<abi::Rlimit> in) {
  if (resource >= kRlimits) return Errno(EINVAL);
  abi::Rlimit fresh = TRY(task.mm().Read(in));
  return ChangeLimit(task, task.thread_group(), resource, fresh);
}

Result<void> SysPrlimit64(Task& task, int pid, uint32_t resource, UserPtr<abi::Rlimit> in, UserPtr<abi::Rlimit> out) {
  if (resource >= kRlimits) return Errno(EINVAL);
  RefPtr<Task> target = pid == 0 ? RefPtr<Task>(&task) : task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  if (target.get() != &task && &target->thread_group() != &task.thread_group()) {
    CredentialsRef theirs = target->SnapshotCreds();
    const Credentials& mine = task.creds();
    bool same = mine.ruid == theirs->ruid && mine.ruid == theirs->euid && mine.ruid == theirs->suid &&
                mine.rgid == theirs->rgid && mine.rgid == theirs->egid && mine.rgid == theirs->sgid;
    if (!same && !task.Capable(CAP_SYS_RESOURCE)) return Errno(EPERM);
  }
  abi::Rlimit old = target->thread_group().limits().values[resource];
  if (in) {
    abi::Rlimit fresh = TRY(task.mm().Read(in));
    TRY(ChangeLimit(task, target->thread_group(), resource, fresh));
  }
  if (out) TRY(task.mm().Write(out, old));
  return {};
}

Result<void> SysGetrusage(Task& task, int who, UserPtr<abi::Rusage> out) {
  Usage usage;
  switch (who) {
    case RUSAGE_SELF:
      usage = task.thread_group().TotalUsage();
      usage.max_rss_kb = task.mm().usage().peak_resident_bytes >> 10;
      break;
    case RUSAGE_CHILDREN: {
      base::MutexLock tree(task.kernel().tasks().mu);
      usage = task.thread_group().children_usage;
      break;
    }
    case 1:  // RUSAGE_THREAD
      usage = task.usage();
      usage.max_rss_kb = task.mm().usage().peak_resident_bytes >> 10;
      break;
    default:
      return Errno(EINVAL);
  }
  return task.mm().Write(out, ToRusage(usage));
}

Result<int64_t> SysTimes(Task& task, UserPtr<int64_t> out) {
  constexpr int64_t kTickNs = 10'000'000;  // USER_HZ is 100
  if (out) {
    Usage self, children;
    {
      base::MutexLock tree(task.kernel().tasks().mu);
      self = task.thread_group().TotalUsageLocked();
      children = task.thread_group().children_usage;
    }
    const int64_t tms[4] = {self.user_ns / kTickNs, self.system_ns / kTickNs, children.user_ns / kTickNs,
                            children.system_ns / kTickNs};
    TRY(task.mm().WriteArray(out, std::span<const int64_t>(tms)));
  }
  return TRY(ReadClock(task, CLOCK_MONOTONIC)) / kTickNs;
}

Result<int64_t> SysPrctl(Task& task, int option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  ThreadGroup& tg = task.thread_group();
  auto edit = [&](auto&& change) -> Result<void> {
    RefPtr<Credentials> creds = TRY(base::TryMakeRef<Credentials>(task.creds()));
    change(*creds);
    task.SetCredentials(CredentialsRef(std::move(creds)));
    return {};
  };
  switch (option) {
    case PR_SET_PDEATHSIG: {
      if (a2 > static_cast<uint64_t>(kSignals)) return Errno(EINVAL);
      base::MutexLock tree(task.kernel().tasks().mu);
      task.pdeath_signal = static_cast<int>(a2);
      return 0;
    }
    case PR_GET_PDEATHSIG: {
      int value;
      {
        base::MutexLock tree(task.kernel().tasks().mu);
        value = task.pdeath_signal;
      }
      TRY(task.mm().Write(UserPtr<int32_t>{a2}, value));
      return 0;
    }
    case PR_GET_DUMPABLE:
      return task.mm().dumpable.load();
    case PR_SET_DUMPABLE:
      if (a2 > 1) return Errno(EINVAL);
      task.mm().dumpable.store(static_cast<int>(a2));
      return 0;
    case PR_SET_NAME: {
      char name[16] = {};
      Result<size_t> n = task.mm().CopyIn(std::as_writable_bytes(std::span(name, 15)), a2);
      if (!n.ok()) return n.error();
      task.SetComm(name);
      return 0;
    }
    case PR_GET_NAME: {
      char name[16] = {};
      std::strncpy(name, task.comm().c_str(), 15);
      TRY(task.mm().WriteArray(UserPtr<char>{a2}, std::span<const char>(name)));
      return 0;
    }
    case PR_SET_KEEPCAPS:
      if (a2 > 1) return Errno(EINVAL);
      if (task.creds().securebits & (1 << 5)) return Errno(EPERM);  // SECBIT_KEEP_CAPS_LOCKED
      TRY(edit([&](Credentials& c) { c.securebits = (c.securebits & ~(1u << 4)) | (a2 ? 1u << 4 : 0); }));
      return 0;
    case PR_GET_KEEPCAPS:
      return (task.creds().securebits >> 4) & 1;
    case PR_GET_SECUREBITS:
      return task.creds().securebits;
    case PR_SET_SECUREBITS:
      if (!task.Capable(CAP_SETPCAP)) return Errno(EPERM);
      if (a2 & ~uint64_t{0xff}) return Errno(EPERM);
      TRY(edit([&](Credentials& c) { c.securebits = static_cast<uint32_t>(a2); }));
      return 0;
    case PR_CAPBSET_READ:
      if (a2 > CAP_LAST_CAP) return Errno(EINVAL);
      return (task.creds().bounding >> a2) & 1;
    case PR_CAPBSET_DROP:
      if (!task.Capable(CAP_SETPCAP)) return Errno(EPERM);
      if (a2 > CAP_LAST_CAP) return Errno(EINVAL);
      TRY(edit([&](Credentials& c) { c.bounding &= ~(uint64_t{1} << a2); }));
      return 0;
    case PR_CAP_AMBIENT:
      switch (a2) {
        case PR_CAP_AMBIENT_CLEAR_ALL:
          if (a3 || a4 || a5) return Errno(EINVAL);
          TRY(edit([](Credentials& c) { c.ambient = 0; }));
          return 0;
        case PR_CAP_AMBIENT_IS_SET:
        case PR_CAP_AMBIENT_RAISE:
        case PR_CAP_AMBIENT_LOWER: {
          if (a3 > CAP_LAST_CAP || a4 || a5) return Errno(EINVAL);
          const uint64_t bit = uint64_t{1} << a3;
          if (a2 == PR_CAP_AMBIENT_IS_SET) return (task.creds().ambient & bit) ? 1 : 0;
          if (a2 == PR_CAP_AMBIENT_RAISE) {
            const Credentials& c = task.creds();
            if (!(c.permitted & bit) || !(c.inheritable & bit) || (c.securebits & (1u << 6))) return Errno(EPERM);
          }
          TRY(edit(
              [&](Credentials& c) { c.ambient = a2 == PR_CAP_AMBIENT_RAISE ? c.ambient | bit : c.ambient & ~bit; }));
          return 0;
        }
        default:
          return Errno(EINVAL);
      }
    case PR_SET_NO_NEW_PRIVS:
      if (a2 != 1 || a3 || a4 || a5) return Errno(EINVAL);
      TRY(edit([](Credentials& c) { c.no_new_privs = true; }));
      return 0;
    case PR_GET_NO_NEW_PRIVS:
      if (a2 || a3 || a4 || a5) return Errno(EINVAL);
      return task.creds().no_new_privs ? 1 : 0;
    case PR_SET_CHILD_SUBREAPER: {
      base::MutexLock tree(task.kernel().tasks().mu);
      tg.child_subreaper = a2 != 0;
      return 0;
    }
    case PR_GET_CHILD_SUBREAPER: {
      int value;
      {
        base::MutexLock tree(task.kernel().tasks().mu);
        value = tg.child_subreaper ? 1 : 0;
      }
      TRY(task.mm().Write(UserPtr<int32_t>{a2}, value));
      return 0;
    }
    case PR_SET_TIMERSLACK:
      task.timer_slack_ns = static_cast<int64_t>(a2) <= 0 ? task.default_timer_slack_ns : static_cast<int64_t>(a2);
      return 0;
    case PR_GET_TIMERSLACK:
      return task.timer_slack_ns;
    case PR_GET_TID_ADDRESS:
      TRY(task.mm().Write(UserPtr<uint64_t>{a2}, task.clear_child_tid));
      return 0;
    case PR_SET_THP_DISABLE:
      if (a3 || a4 || a5) return Errno(EINVAL);
      tg.thp_disabled.store(a2 != 0);
      return 0;
    case PR_MCE_KILL:
      return 0;  // a hint without an effect here
    case PR_GET_TSC:
      TRY(task.mm().Write(UserPtr<int32_t>{a2}, PR_TSC_ENABLE));
      return 0;
    case PR_GET_THP_DISABLE:
      if (a2 || a3 || a4 || a5) return Errno(EINVAL);
      return tg.thp_disabled.load();
    case PR_GET_SECCOMP:
      return task.seccomp_mode();
    case PR_SET_SECCOMP:
      return PrctlSetSeccomp(task, a2, a3);
    case PR_SET_VMA:
      return 0;  // PR_SET_VMA_ANON_NAME: a label for /proc/pid/maps
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> SysArchPrctl(Task& task, int code, uint64_t addr) {
  constexpr uint64_t kTaskSizeMax = (uint64_t{1} << 47) - kPageSize;
  constexpr int kArchGetCpuid = 0x1011, kArchSetCpuid = 0x1012;
  switch (code) {
    case ARCH_SET_FS:
      if (addr >= kTaskSizeMax) return Errno(EPERM);
      task.registers().fs_base = addr;
      return 0;
    case ARCH_SET_GS:
      if (addr >= kTaskSizeMax) return Errno(EPERM);
      task.registers().gs_base = addr;
      return 0;
    case ARCH_GET_FS:
      TRY(task.mm().Write(UserPtr<uint64_t>{addr}, task.registers().fs_base));
      return 0;
    case ARCH_GET_GS:
      TRY(task.mm().Write(UserPtr<uint64_t>{addr}, task.registers().gs_base));
      return 0;
    case kArchGetCpuid:
      return 1;
    case kArchSetCpuid:
      return Errno(ENODEV);  // as on processors whose CPUID never faults
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> SysPersonality(Task& task, uint32_t persona) {
  const int64_t old = static_cast<int64_t>(task.personality);
  if (persona != 0xffffffff) task.personality = persona;
  return old;
}

Result<int> SysPidfdOpen(Task& task, int pid, uint32_t flags) {
  if (flags & ~uint32_t{O_NONBLOCK}) return Errno(EINVAL);
  if (pid <= 0) return Errno(EINVAL);
  RefPtr<ThreadGroup> target = task.kernel().FindThreadGroup(pid, task.pid_namespace());
  if (!target) return task.kernel().FindTask(pid, task.pid_namespace()) ? Errno(EINVAL) : Errno(ESRCH);
  if (!task.kernel().pidfd_factory()) return Errno(ENOSYS);
  RefPtr<FileDescription> file = TRY(task.kernel().pidfd_factory()(task.kernel(), target, flags));
  return task.InstallFile(std::move(file), /*cloexec=*/true);
}

}  // namespace sentry
