#include "platform/systrap/zygote.h"

#include <linux/filter.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/syscall_unsafe.h"
#include "platform/forked_child_unsafe.h"
#include "platform/systrap/platform_impl.h"
#include "platform/systrap/sched_slice.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {
namespace {

struct KernelSigaction {
  uint64_t handler, flags, restorer, mask;
};

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

// The zygote's life before it has lost the sentry's memory (forked_child_unsafe.h).
[[noreturn]] __attribute__((no_sanitize("address"), no_sanitize("thread"))) void ZygoteMain(pid_t parent, int text_fd,
                                                                                            int params_fd,
                                                                                            int slots_fd) {
  using base::RawSyscall;
  LeaveSentry(parent);
  // Out of the reach of a terminal's signals, but in the sentry's session: where the host groups tasks by session
  // (man 7 sched, autogroup), executors and guest threads have to be in one group, or their weights and slices say
  // nothing about each other and an executor that is woken does not run at once.
  RawSyscall(SYS_setpgid, 0, 0);
  // Nobody of the same user on the host has business in here, and a core would be the guest's memory.
  RawSyscall(SYS_prctl, PR_SET_DUMPABLE, 0);
  // Helpers inherit it: with the shortest slice there is (man 2 sched_setattr, sched_runtime) they run as soon as they
  // are woken, and have answered when the executor looks.
  SetSlice(0, 20 - static_cast<int>(RawSyscall(SYS_getpriority, PRIO_PROCESS, 0)), 100'000);
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
  text = TRY(MakeMemfd("runsc-stub", /*executable=*/true, runsc_systrap_text_begin, text_bytes));
  const std::vector<std::byte> page = MakeParams(fds);
  params = TRY(MakeMemfd("runsc-params", /*executable=*/false, page.data(), page.size()));
  const pid_t self = static_cast<pid_t>(*base::Host(SYS_getpid));
  // No exit signal (0): see stub.h.
  const long pid = TRY(base::Host(SYS_clone, CLONE_FILES, nullptr, nullptr, nullptr, nullptr));
  if (pid == 0) ZygoteMain(self, text.get(), params.get(), slots.fd());
  return static_cast<pid_t>(pid);
}

}  // namespace platform::systrap
