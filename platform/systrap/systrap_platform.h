// The systrap platform: guest threads are processes of the host that share their address space with a helper and run
// under a filter which turns every system call into a signal. The handler hands the registers over in shared memory.
//
// Who is who (docs/security.md has the rules that keep them apart):
//   zygote        a process with nothing but the stub's pages, from which helpers are forked. Cloned from the sentry by
//                 New.
//   Helper        one process per AddressSpace. It never runs guest code: it makes batches of host calls that the
//                 sentry writes to pages that the stub can only read.
//   GuestThread   one process per Context that runs in the address space: cloned by the helper with CLONE_VM, with a
//                 filter that lets it return from signals, sleep on its own slot and ring its executor's bell.
//   Bell          one per executor; its IdleStrategy: a pipe whose write end the guest threads have.
//
// Guest thread and executor share a CPU as long as the thread makes calls (DESIGN.md §3); one that computes for some
// milliseconds is set free to run on any CPU and bound again when it makes calls in quick succession.
//
// An AddressSpace whose helper was killed on the host fails Apply with ESRCH and completes every Start with kDead.
#ifndef PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
#define PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_

#include <memory>

#include "base/errno.h"
#include "platform/platform.h"

namespace platform::systrap {

struct Options {
  int guest_nice = 4;  // nice levels of guest threads below the executors'
  // CPUs' worth of time that the host gives the sandbox (cpu.max); 0: no limit. Nothing spins with less than two.
  double cpu_limit = 0;
  // Offer a text_patcher(), if guest threads of this host can use what it makes.
  bool patching = false;
};

// Makes the platform and the zygote: after credentials and capabilities are final and before the seccomp filter. What
// the platform needs from the host later is in systrap/host_calls.h. ENOTSUP: the processor or the host has no FSGSBASE
// instructions in user mode, or the host no filters. Errors of the host otherwise.
//
// The calling host thread has to live as long as the platform (PR_SET_PDEATHSIG follows threads). Every executor of the
// scheduler uses NewIdleStrategy. Contexts and address spaces end before the scheduler, the scheduler before the
// platform.
base::Result<std::unique_ptr<Platform>> New(Options options = {});

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SYSTRAP_PLATFORM_H_
