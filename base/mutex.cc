#include "base/mutex.h"

#include <linux/futex.h>

#include "base/check.h"
#include "base/syscall_unsafe.h"

namespace base {
namespace {

std::atomic<uint64_t> total_contention{0};

// A holder runs for well under a microsecond, unless it was preempted: a short spin catches most waits, and costs
// nothing noticeable next to the two system calls of a sleep when it does not.
constexpr int kSpins = 100;

#ifndef NDEBUG
thread_local int held_by_this_thread = 0;
[[gnu::noinline]] int& Held() {
  asm volatile("");  // keeps calls of it from being merged across a switch of threads
  return held_by_this_thread;
}
#endif

}  // namespace

void Mutex::LockSlow() {
  total_contention.fetch_add(1, std::memory_order_relaxed);
  for (int i = 0; i < kSpins; ++i) {
    uint32_t expected = 0;
    if (word_.load(std::memory_order_relaxed) == 0 &&
        word_.compare_exchange_strong(expected, 1, std::memory_order_acquire)) {
      return;
    }
    __builtin_ia32_pause();
  }
  // From here on the word says 2, also when we get the lock: there may be others asleep.
  while (word_.exchange(2, std::memory_order_acquire) != 0) {
    RawSyscall(SYS_futex, ToRawArg(&word_), FUTEX_WAIT_PRIVATE, 2, 0);
  }
}

void Mutex::UnlockSlow() { RawSyscall(SYS_futex, ToRawArg(&word_), FUTEX_WAKE_PRIVATE, 1); }

uint64_t Mutex::TotalContention() { return total_contention.load(std::memory_order_relaxed); }

#ifdef NDEBUG
int Mutex::HeldByThisThread() { return 0; }
#else
void Mutex::NoteLocked() { ++Held(); }
void Mutex::NoteUnlocked() {
  --Held();
  CHECK(Held() >= 0);
}
int Mutex::HeldByThisThread() { return Held(); }
#endif

}  // namespace base
