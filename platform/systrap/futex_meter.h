// FutexMeter: whether it pays that a guest thread looks at the word of a private futex for a while before it waits on
// the host. Shared with stub_text.S, whose arithmetic this is; what it counts is in the thread's slot.
//
// Waking a CPU that sleeps costs 15-60 µs and waking nobody next to nothing, so it pays for threads that answer each
// other quickly from CPUs of their own. Waits on the host are timed; only after as many short ones as the last failure
// asks for the thread looks, and from then on nearly all looks have to end with a changed word. One that does not has
// cost a window of CPU time. If it has taken far longer than a window, somebody else has needed the CPU.
//
// A program whose waits are long never looks, and one whose waits are short because its threads share a CPU loses one
// window in thousands of them.
#ifndef PLATFORM_SYSTRAP_FUTEX_METER_H_
#define PLATFORM_SYSTRAP_FUTEX_METER_H_

// What a miss costs, in hits, how many of these are saved up at most, and with how many all is forgotten.
#define FUTEX_METER_MISS 8
#define FUTEX_METER_MOST 32
#define FUTEX_METER_GOOD 16
// How many short waits it takes to look again: after the first failure, at most, and where somebody else needs the CPU
// at least and at most.
#define FUTEX_METER_FIRST 15
#define FUTEX_METER_LONGEST 4095
#define FUTEX_METER_CROWDED 4095
#define FUTEX_METER_LONGEST_CROWDED 65535
// A wait is short if it took less than 2^this windows: the time to wake a CPU is part of it.
#define FUTEX_METER_SHORT_SHIFT 1
// A look took longer than 2^this windows: the thread did not run.
#define FUTEX_METER_GAP_SHIFT 4

#ifndef __ASSEMBLER__
#include <algorithm>
#include <cstdint>

namespace platform::systrap {

struct FutexMeter {
  uint32_t shorts = 0;  // short waits since the last failure
  uint32_t pause = 0;   // more than so many it takes
  int32_t score = 0;
  uint32_t unused = 0;
  uint64_t begun = 0;  // when the wait on the host began, if it is to be timed

  // A wait begins. Whether to look.
  bool Looks() const { return shorts > pause; }
  // It was timed. `took` and `window`, here as below, in the same unit.
  void Waited(uint64_t took, uint32_t window) {
    if (took >> FUTEX_METER_SHORT_SHIFT < window) ++shorts;
  }
  // The look has ended: with another word, or after a window.
  void Hit(uint64_t took, uint32_t window) {
    if (took >> FUTEX_METER_GAP_SHIFT >= window) return Crowded();
    if (score >= FUTEX_METER_MOST) return;
    if (++score >= FUTEX_METER_GOOD) pause = 0;
  }
  void Miss(uint64_t took, uint32_t window) {
    if (took >> FUTEX_METER_GAP_SHIFT >= window) return Crowded();
    score -= FUTEX_METER_MISS;
    if (score < 0) Pause(std::min<uint32_t>(2 * pause + FUTEX_METER_FIRST, FUTEX_METER_LONGEST));
  }

 private:
  void Crowded() { Pause(std::min<uint32_t>(2 * pause + FUTEX_METER_CROWDED, FUTEX_METER_LONGEST_CROWDED)); }
  void Pause(uint32_t waits) {
    score = 0;
    shorts = 0;
    pause = waits;
  }
};

}  // namespace platform::systrap
#endif  // __ASSEMBLER__

#endif  // PLATFORM_SYSTRAP_FUTEX_METER_H_
