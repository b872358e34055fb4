#include "sentry/boot/isolation/confine.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

namespace sentry::isolation {
namespace {

absl::Status Failed(const char* what) {
  return absl::InternalError(std::string("cannot confine the process: ") + what + ": " + strerror(errno));
}

}  // namespace

absl::Status EnterEmptyRoot() {
  // Nothing that happens here may reach the host's mounts (man 7 mount_namespaces).
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0) return Failed("make mounts private");
  // Any directory serves as the place; /proc exists wherever we run, for we could not have found out about ourselves
  // without.
  const char* place = "/proc";
  if (mount("none", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1,mode=0555") < 0) {
    return Failed("mount an empty tmpfs");
  }
  if (chdir(place) < 0) return Failed("chdir");
  // With both names the same, the old root lands on top of the new one and is detached from there (man 2 pivot_root).
  if (syscall(SYS_pivot_root, ".", ".") < 0) return Failed("pivot_root");
  if (umount2(".", MNT_DETACH) < 0) return Failed("detach the old root");
  if (chdir("/") < 0) return Failed("chdir /");
  if (mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) < 0) {
    return Failed("make the empty root read-only");
  }
  return absl::OkStatus();
}

absl::Status SetIds(uint32_t uid, uint32_t gid) {
  // EPERM: the user namespace was made without CAP_SETGID outside and forbids it (man 7 user_namespaces). The groups
  // then are those of the person who started us.
  if (setgroups(0, nullptr) < 0 && errno != EPERM) return Failed("setgroups");
  if (setresgid(gid, gid, gid) < 0) return Failed("setresgid");
  // Permitted capabilities survive the change of the uid from 0, for LimitCapabilities to choose from.
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) return Failed("PR_SET_KEEPCAPS");
  if (setresuid(uid, uid, uid) < 0) return Failed("setresuid");
  return absl::OkStatus();
}

absl::Status LimitCapabilities(uint64_t keep) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  // The bounding set can be reduced only with CAP_SETPCAP effective, which a change of the uid has taken away.
  if (syscall(SYS_capget, &header, data) < 0) return Failed("capget");
  data[0].effective = data[0].permitted;
  data[1].effective = data[1].permitted;
  if (syscall(SYS_capset, &header, data) < 0) return Failed("capset");
  for (int cap = 0; cap < 64; ++cap) {
    if ((keep >> cap & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno == EINVAL) break;  // beyond the last capability of this kernel
      return Failed("drop a capability from the bounding set");
    }
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) return Failed("clear ambient capabilities");
  for (int i = 0; i < 2; ++i) {
    data[i].permitted &= static_cast<uint32_t>(keep >> (32 * i));
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) < 0) return Failed("capset");
  if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0) return Failed("PR_SET_KEEPCAPS");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return Failed("no_new_privs");
  return absl::OkStatus();
}

void RaiseOwnLimits() {
  for (int resource :
       {RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_SIGPENDING}) {
    rlimit limit;
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(static_cast<__rlimit_resource>(resource), &limit);
  }
  rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

void ResetSignals() {
  for (int signo = 1; signo <= 64; ++signo) {
    if (signo == SIGKILL || signo == SIGSTOP || signo == 32 || signo == 33)
      continue;  // the last two are the C library's
    signal(signo, signo == SIGPIPE ? SIG_IGN : SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

absl::Status KeepOnlyDescriptors(std::vector<int> keep, int null_fd) {
  for (int fd = 0; fd <= 2; ++fd) {
    if (dup2(null_fd, fd) < 0) return Failed("replace standard descriptors");
  }
  std::sort(keep.begin(), keep.end());
  unsigned first = 3;
  for (int fd : keep) {
    if (fd < static_cast<int>(first)) continue;
    if (fd > static_cast<int>(first) && syscall(SYS_close_range, first, fd - 1, 0) < 0) return Failed("close_range");
    first = static_cast<unsigned>(fd) + 1;
  }
  if (syscall(SYS_close_range, first, ~0U, 0) < 0) return Failed("close_range");
  return absl::OkStatus();
}

}  // namespace sentry::isolation
