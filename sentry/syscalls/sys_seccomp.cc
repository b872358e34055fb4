#include "sentry/syscalls/sys_seccomp.h"

#include <linux/capability.h>
#include <linux/seccomp.h>

#include <vector>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/seccomp_notify.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace sentry {

namespace {

struct Fprog {  // struct sock_fprog
  uint16_t length;
  uint16_t pad[3];
  uint64_t filter;
};
static_assert(sizeof(Fprog) == 16);

// kernel/seccomp.c: seccomp_prepare_user_filter.
Result<std::vector<sock_filter>> ReadProgram(Task& task, uint64_t args) {
  const Fprog given = TRY(task.mm().Read(UserPtr<Fprog>{args}));
  if (given.length == 0 || given.length > kSeccompMaxInstructions) return Errno(EINVAL);
  // Otherwise a program that gains privileges by exec could be made to fail in the middle.
  if (!task.creds().no_new_privs && !task.takes_no_new_privs() && !task.Capable(CAP_SYS_ADMIN)) return Errno(EACCES);
  if (given.filter == 0) return Errno(EINVAL);
  std::vector<sock_filter> program(given.length);
  const auto bytes = std::as_writable_bytes(std::span(program));
  if (TRY(task.mm().CopyIn(bytes, given.filter)) != bytes.size()) return Errno(EFAULT);
  return program;
}

Result<int64_t> SetFilter(Task& task, uint32_t flags, uint64_t args) {
  constexpr uint32_t kKnown = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                              SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
                              SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  if (flags & ~kKnown) return Errno(EINVAL);
  const bool tsync = flags & SECCOMP_FILTER_FLAG_TSYNC;
  const bool listen = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;
  const bool esrch = flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  // A positive result could be a thread or a descriptor.
  if (tsync && listen && !esrch) return Errno(EINVAL);
  if ((flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) && !listen) return Errno(EINVAL);
  std::vector<sock_filter> program = TRY(ReadProgram(task, args));

  RefPtr<SeccompNotifier> notifier;
  if (listen) {
    notifier = TRY(base::TryMakeRef<SeccompNotifier>((flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0));
  }
  RefPtr<SeccompFilter> filter =
      TRY(SeccompFilter::Create(std::move(program), (flags & SECCOMP_FILTER_FLAG_LOG) != 0, std::move(notifier)));
  // The descriptor first: after the filter is in place nothing may fail.
  Fd fd = -1;
  if (listen) fd = TRY(task.InstallFile(TRY(base::TryMakeRef<SeccompListener>(filter)), /*cloexec=*/true));
  Result<int> attached = task.AttachSeccompFilter(filter, tsync);
  if (attached.ok() && *attached == 0) return listen ? fd : 0;
  if (listen) (void)task.fds().Remove(fd);
  if (!attached.ok()) return attached.error();
  if (esrch) return Errno(ESRCH);
  return *attached;
}

Result<int64_t> GetActionAvailable(Task& task, uint64_t args) {
  switch (TRY(task.mm().Read(UserPtr<uint32_t>{args}))) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
      return 0;
    default:
      return Errno(EOPNOTSUPP);
  }
}

}  // namespace

Result<int64_t> SysSeccomp(Task& task, uint32_t operation, uint32_t flags, uint64_t args) {
  switch (operation) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || args != 0) return Errno(EINVAL);
      TRY(task.EnterSeccompStrict());
      return 0;
    case SECCOMP_SET_MODE_FILTER:
      return SetFilter(task, flags, args);
    case SECCOMP_GET_ACTION_AVAIL:
      if (flags != 0) return Errno(EINVAL);
      return GetActionAvailable(task, args);
    case SECCOMP_GET_NOTIF_SIZES: {
      if (flags != 0) return Errno(EINVAL);
      const seccomp_notif_sizes sizes = {sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
      TRY(task.mm().Write(UserPtr<seccomp_notif_sizes>{args}, sizes));
      return 0;
    }
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> PrctlSetSeccomp(Task& task, uint64_t mode, uint64_t program) {
  switch (mode) {
    case SECCOMP_MODE_STRICT:
      return SysSeccomp(task, SECCOMP_SET_MODE_STRICT, 0, 0);  // what else was given is not looked at
    case SECCOMP_MODE_FILTER:
      return SetFilter(task, 0, program);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry
