// Sleeping on a word, for the few places of base where a host thread itself has to wait.
#ifndef BASE_FUTEX_UNSAFE_H_
#define BASE_FUTEX_UNSAFE_H_

#include <linux/futex.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "base/syscall_unsafe.h"
#include "base/time.h"

namespace base {

// Sleeps while the word is `expected`. May return without cause; callers loop. False when the deadline passed.
inline bool FutexWait(const std::atomic<uint32_t>& word, uint32_t expected, MonotonicNs deadline = kNever) {
  if (deadline == kNever) {
    RawSyscall(SYS_futex, ToRawArg(&word), FUTEX_WAIT_PRIVATE, expected);
    return true;
  }
  // FUTEX_WAIT takes a relative time; the bitset form takes a point in time on CLOCK_MONOTONIC (man 2 futex).
  timespec ts{.tv_sec = deadline / 1'000'000'000, .tv_nsec = deadline % 1'000'000'000};
  return RawSyscall(SYS_futex, ToRawArg(&word), FUTEX_WAIT_BITSET_PRIVATE, expected, ToRawArg(&ts), 0,
                    FUTEX_BITSET_MATCH_ANY) != -ETIMEDOUT;
}

inline void FutexWake(const std::atomic<uint32_t>* word, int count = INT_MAX) {
  RawSyscall(SYS_futex, ToRawArg(word), FUTEX_WAKE_PRIVATE, count);
}

}  // namespace base

#endif  // BASE_FUTEX_UNSAFE_H_
