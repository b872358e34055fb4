// The program that a random guest "runs": nothing of it is ever executed, but it is loaded like any other, and its
// segment is the memory that the arguments of system calls point to.
#ifndef TESTS_UNIT_SYSTEM_CALLS_GUEST_PROGRAM_H_
#define TESTS_UNIT_SYSTEM_CALLS_GUEST_PROGRAM_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sentry::testing {

inline constexpr uint64_t kProgramBase = 0x400000;
inline constexpr uint64_t kNamesAt = kProgramBase + 0x1000;   // strings, kNameBytes apart
inline constexpr uint64_t kVectorAt = kProgramBase + 0x2000;  // 64 pointers with lengths: iovecs, argv, msghdr parts
inline constexpr uint64_t kBytesAt = kProgramBase + 0x3000;   // the input itself, again and again
inline constexpr uint64_t kProgramEnd = kProgramBase + 0x10000;
inline constexpr uint64_t kNameBytes = 32;

// Names that lead somewhere, at kNamesAt.
std::span<const char* const> Names();

// A static executable for amd64 with one segment [kProgramBase, kProgramEnd), readable, writable and executable.
std::vector<std::byte> MakeProgram(std::span<const uint8_t> input);

}  // namespace sentry::testing

#endif  // TESTS_UNIT_SYSTEM_CALLS_GUEST_PROGRAM_H_
