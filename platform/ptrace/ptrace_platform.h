// The ptrace platform: guest threads are threads of stub processes that run under PTRACE_SYSEMU. It works on any host
// that allows ptrace of one's own children, needs no device, and is what the other platforms are compared with.
//
// Who is who:
//   Tracer        one per executor; its IdleStrategy. The host lets only the thread that traces a process touch it, so
//   each
//                 stub has a *home*, and fibers move there (Fiber::MoveTo) before they touch it.
//   zygote        one per executor that has made a stub: a process with no memory but the stub's two pages, from which
//                 stubs are cloned. The first is cloned from the sentry by New.
//   Stub          one process per AddressSpace. Its leader, the *helper*, never runs guest code: it executes batches of
//                 host calls that the sentry writes to a page that the stub can only read.
//   StubThread    one thread of a stub per Context that has run in it.
//
// Tracer and tracee share a CPU as long as the guest thread makes calls (DESIGN.md §5); one that computes for some
// milliseconds is set free to run on any CPU and bound again when it makes calls in quick succession.
//
// An AddressSpace whose stub was killed on the host fails Apply with ESRCH and completes every Start with kDead.
#ifndef PLATFORM_PTRACE_PTRACE_PLATFORM_H_
#define PLATFORM_PTRACE_PTRACE_PLATFORM_H_

#include <memory>

#include "base/errno.h"
#include "platform/platform.h"

namespace platform::ptrace {

struct Options {
  int guest_nice = 4;  // nice levels of guest threads below the executors'
};

// Makes the platform and the first zygote: after credentials and capabilities are final (a tracer may have no fewer
// than its tracee) and before the seccomp filter. What the platform needs from the host later is in
// ptrace/host_calls.h. EPERM: a filter around the process forbids ptrace. A host that forbids it in other ways
// (yama.ptrace_scope=3) lets the first NewAddressSpace fail with EPERM: the zygote makes itself ready while the sandbox
// starts, and nobody waits for it here.
//
// The calling host thread has to live as long as the platform (PR_SET_PDEATHSIG follows threads). Every executor of the
// scheduler uses NewIdleStrategy. Contexts and address spaces end before the scheduler, the scheduler before the
// platform.
base::Result<std::unique_ptr<Platform>> New(Options options = {});

}  // namespace platform::ptrace

#endif  // PLATFORM_PTRACE_PTRACE_PLATFORM_H_
