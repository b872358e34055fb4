#include "platform/systrap/zygote.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/syscall_unsafe.h"
#include "platform/systrap/platform_impl.h"
#include "platform/systrap/sched_slice.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {
namespace {

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

struct KernelSigaction {
  uint64_t handler, flags, restorer, mask;
};

base::Result<base::UniqueFd> MakeMemfd(const char* name, unsigned flags, const void* bytes, size_t count) {
  auto made = base::Host(SYS_memfd_create, name, MFD_CLOEXEC | flags);
  if (made.failed_with(EINVAL) && (flags & MFD_EXEC))
    made = base::Host(SYS_memfd_create, name, MFD_CLOEXEC | (flags & ~MFD_EXEC));
  if (!made.ok()) return made.error();
  base::UniqueFd fd(static_cast<int>(*made));
  if (TRY(base::Host(SYS_pwrite64, fd.get(), bytes, count, 0)) != static_cast<long>(count)) return base::Errno(ENOSPC);
  return fd;
}

// The params page: see stub_layout.h. A filter's program is a sock_fprog that points to instructions in the same page.
std::vector<std::byte> MakeParams(const StubDescriptors& fds) {
  std::vector<std::byte> page(kStubPage);
  auto put = [&](size_t at, const void* bytes, size_t count) {
    CHECK(at + count <= page.size());
    memcpy(page.data() + at, bytes, count);
  };
  put(PARAMS_FIRST_DOORBELL, &fds.first_doorbell, 4);
  put(PARAMS_END_DOORBELL, &fds.end_doorbell, 4);
  size_t end = PARAMS_BYTES;
  for (int i = 0; i < 256; ++i) page[end++] = static_cast<std::byte>(i);
  auto put_filter = [&](size_t at, const std::vector<sock_filter>& filter) {
    sock_fprog program = {static_cast<unsigned short>(filter.size()),
                          reinterpret_cast<sock_filter*>(kStubParams + end)};
    put(at, &program, sizeof(program));
    put(end, filter.data(), filter.size() * sizeof(sock_filter));
    end += filter.size() * sizeof(sock_filter);
  };
  put_filter(PARAMS_PROGRAM, GuestFilter(fds));
  put_filter(PARAMS_HELPER_PROGRAM, HelperFilter(fds));
  return page;
}

// The zygote's life before it has lost the sentry's memory. A copy of the calling thread alone: no locks, no
// allocation, no libc wrapper (they write errno, which would be fine, and some take locks, which would not).
[[noreturn]] __attribute__((no_sanitize("address"), no_sanitize("thread"))) void ZygoteMain(pid_t parent, int text_fd,
                                                                                            int params_fd,
                                                                                            int slots_fd) {
  using base::RawSyscall;
  RawSyscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (RawSyscall(SYS_getppid) != parent) RawSyscall(SYS_exit_group, 1);
  // Out of the reach of a terminal's signals, but in the sentry's session: where the host groups tasks by session
  // (man 7 sched, autogroup), executors and guest threads have to be in one group, or their weights and slices say
  // nothing about each other and an executor that is woken does not run at once.
  RawSyscall(SYS_setpgid, 0, 0);
  RawSyscall(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>("runsc-stub"));
  // Nobody of the same user on the host has business in here, and a core would be the guest's memory.
  RawSyscall(SYS_prctl, PR_SET_DUMPABLE, 0);
  // Helpers inherit it: with the shortest slice there is (man 2 sched_setattr, sched_runtime) they run as soon as they
  // are woken, and have answered when the executor looks.
  SetSlice(0, 20 - static_cast<int>(RawSyscall(SYS_getpriority, PRIO_PROCESS, 0)), 100'000);
  rlimit64 none = {0, 0};
  RawSyscall(SYS_prlimit64, 0, RLIMIT_CORE, reinterpret_cast<long>(&none));
  // glibc's rseq area goes away with the rest: a registration that points nowhere kills at the next migration
  // (rseq(2)). The length has to be the one that was registered: 32 until glibc 2.39, then what the kernel proposes.
  constexpr long kUnregister = 1, kGlibcSignature = 0x53053053;
  char* thread_pointer;
  asm volatile("mov %%fs:0, %0" : "=r"(thread_pointer));
  for (long bytes = 32; bytes <= 128; bytes += 4) {
    long area = reinterpret_cast<long>(thread_pointer + __rseq_offset);
    if (RawSyscall(SYS_rseq, area, bytes, kUnregister, kGlibcSignature) == 0) break;
  }
  RawSyscall(SYS_set_robust_list, 0, 24);
  RawSyscall(SYS_set_tid_address, 0);
  stack_t no_stack = {};
  no_stack.ss_flags = SS_DISABLE;
  RawSyscall(SYS_sigaltstack, reinterpret_cast<long>(&no_stack), 0);
  // Everything that anybody may send is ignored; what guest threads raise themselves has the stub's handler, which
  // nothing interrupts.
  constexpr uint64_t kRestorer = 0x04000000;
  for (int sig = 1; sig <= 64; ++sig) {
    if (sig == SIGKILL || sig == SIGSTOP) continue;
    KernelSigaction action = {reinterpret_cast<uint64_t>(SIG_IGN), 0, 0, 0};
    for (int own : kStubSignals) {
      if (sig == own) {
        action = {StubAddress(runsc_systrap_handler), SA_SIGINFO | SA_ONSTACK | kRestorer,
                  StubAddress(runsc_systrap_restorer), ~uint64_t{0}};
      }
    }
    if (sig == SIGCHLD) action.handler = 0;  // ignoring it would reap children
    RawSyscall(SYS_rt_sigaction, sig, reinterpret_cast<long>(&action), 0, 8);
  }
  // Nothing reaches a helper, or a guest thread before its first frame.
  uint64_t mask = ~uint64_t{0};
  RawSyscall(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&mask), 0, 8);
  RawSyscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
  runsc_systrap_enter(text_fd, params_fd, slots_fd, SlotFile::kClockOffset);
}

}  // namespace

base::Result<pid_t> CloneZygote(const StubDescriptors& fds, SlotFile& slots, base::UniqueFd& text,
                                base::UniqueFd& params) {
  const size_t text_bytes = static_cast<size_t>(runsc_systrap_text_end - runsc_systrap_text_begin);
  CHECK(text_bytes == kStubPage);
  text = TRY(MakeMemfd("runsc-stub", MFD_EXEC, runsc_systrap_text_begin, text_bytes));
  const std::vector<std::byte> page = MakeParams(fds);
  params = TRY(MakeMemfd("runsc-params", 0, page.data(), page.size()));
  const pid_t self = static_cast<pid_t>(*base::Host(SYS_getpid));
  // No exit signal (0): see stub.h.
  const long pid = TRY(base::Host(SYS_clone, CLONE_FILES, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) ZygoteMain(self, text.get(), params.get(), slots.fd());
  return static_cast<pid_t>(pid);
}

}  // namespace platform::systrap
