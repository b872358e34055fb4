// A kernel whose guest is a stream of bytes: they choose the system calls, their arguments, and the memory that
// pointers point to. For the fuzzer of the system call table and for a test that tries some random streams.
#ifndef TESTS_UNIT_SYSTEM_CALLS_RANDOM_CALLS_H_
#define TESTS_UNIT_SYSTEM_CALLS_RANDOM_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace sentry::testing {

struct RandomCallsOutcome {
  int calls = 0;   // that were made, by all processes together
  int status = 0;  // wait4's, of the first process
};

// Makes a sandbox on the fake platform (file systems, sockets and all), lets the guest make the calls and takes it
// down again. Calls that wait are interrupted after some milliseconds. Returns when nothing is left; a process that
// cannot be killed is a bug, and ends the caller with a CHECK.
// `fail_every`: the so manieth allocation for the guest always fails; 0: none.
RandomCallsOutcome MakeRandomCalls(std::span<const uint8_t> input, uint64_t fail_every = 0);

}  // namespace sentry::testing

#endif  // TESTS_UNIT_SYSTEM_CALLS_RANDOM_CALLS_H_
