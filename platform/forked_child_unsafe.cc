#include "platform/forked_child_unsafe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/rseq_unsafe.h"
#include "base/syscall_unsafe.h"

namespace platform {

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

base::Result<base::UniqueFd> MakeMemfd(const char* name, bool executable, const void* bytes, size_t count) {
  auto made = base::Host(SYS_memfd_create, name, MFD_CLOEXEC | (executable ? MFD_EXEC : 0));
  if (made.failed_with(EINVAL) && executable) made = base::Host(SYS_memfd_create, name, MFD_CLOEXEC);  // before 6.3
  if (!made.ok()) return made.error();
  base::UniqueFd fd(static_cast<int>(*made));
  if (count != 0 && TRY(base::Host(SYS_pwrite64, fd.get(), bytes, count, 0)) != static_cast<long>(count)) {
    return base::Errno(ENOSPC);
  }
  return fd;
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) void LeaveSentry(pid_t parent) {
  using base::RawSyscall;
  RawSyscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (RawSyscall(SYS_getppid) != parent) RawSyscall(SYS_exit_group, 1);
  RawSyscall(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>("runsc-stub"));
  rlimit64 none = {0, 0};
  RawSyscall(SYS_prlimit64, 0, RLIMIT_CORE, reinterpret_cast<long>(&none));
  // glibc's rseq area goes away with the rest: a registration that points nowhere kills at the next migration
  // (rseq(2)).
  base::LeaveRestartableSequences();
  RawSyscall(SYS_set_robust_list, 0, 24);
  RawSyscall(SYS_set_tid_address, 0);
  stack_t no_stack = {};
  no_stack.ss_flags = SS_DISABLE;
  RawSyscall(SYS_sigaltstack, reinterpret_cast<long>(&no_stack), 0);
}

}  // namespace platform
