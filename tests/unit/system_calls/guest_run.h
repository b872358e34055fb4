// A kernel on the fake platform, with file systems, sockets and all, whose guest makes the system calls that a test
// hands out.
#ifndef TESTS_UNIT_SYSTEM_CALLS_GUEST_RUN_H_
#define TESTS_UNIT_SYSTEM_CALLS_GUEST_RUN_H_

#include <atomic>
#include <cstdint>
#include <span>

#include "platform/registers.h"

namespace sentry::testing {

// The calls of all processes and threads of a guest. Called by several host threads.
class GuestCalls {
 public:
  virtual ~GuestCalls() = default;
  // Puts the next call of thread `thread` (0: the first process; then as they are made) into its registers, which hold
  // the result of the last one.
  virtual void Next(platform::Registers& r, int thread) = 0;
  // Changes as long as calls are made.
  uint64_t progress() const { return progress_.load(std::memory_order_relaxed); }

 protected:
  // Registers as `syscall` leaves them; the arguments are the caller's.
  void SetCall(platform::Registers& r, uint64_t number);

 private:
  std::atomic<uint64_t> progress_{0};
};

// Makes a sandbox, lets the guest make the calls and takes it down again. The guest's program (guest_program.h)
// contains `input`. Calls that wait are interrupted after some milliseconds. Returns when nothing is left, with wait4's
// status of the first process; a process that cannot be killed is a bug, and ends the caller with a CHECK.
int RunGuest(GuestCalls& calls, std::span<const uint8_t> input, bool root);

}  // namespace sentry::testing

#endif  // TESTS_UNIT_SYSTEM_CALLS_GUEST_RUN_H_
