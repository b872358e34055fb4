// The seccomp filters of stubs: what helpers and guest threads may ask the host for.
#ifndef PLATFORM_SYSTRAP_STUB_FILTER_H_
#define PLATFORM_SYSTRAP_STUB_FILTER_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace platform::systrap {

// Descriptor numbers in the tables of stubs. Ends are exclusive.
struct StubDescriptors {
  uint32_t first_doorbell = 0, end_doorbell = 0;
  uint32_t first_ack = 0, end_ack = 0;
};

// For guest threads: four calls at six addresses of the stub, with arguments that do no harm wherever the jump came
// from. Everything else is SIGSYS: the guest's own system calls.
//   rt_sigreturn
//   futex       FUTEX_WAIT on a word of the slot window, without a timeout
//               FUTEX_WAIT, without a timeout, and FUTEX_WAKE of private futexes: a wait for, and a wake of, threads of
//               the same address space, none of which is the sentry's or a helper's (those use shared futexes)
//   write       four bytes to the bell of an executor
//   sched_yield
std::vector<sock_filter> GuestFilter(const StubDescriptors& fds);

// For helpers, and for newborn guest threads until they have the other one: calls of the stub's text alone. It never
// allows what would reach another process or a file.
std::vector<sock_filter> HelperFilter(const StubDescriptors& fds);

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_STUB_FILTER_H_
