// Restartable sequences (man 2 rseq), which glibc registers for every thread.
#ifndef BASE_RSEQ_UNSAFE_H_
#define BASE_RSEQ_UNSAFE_H_

#include <sys/rseq.h>
#include <sys/syscall.h>

#include "base/syscall_unsafe.h"

namespace base {

// Takes the calling thread's registration back: with one, the host has more to do each time it switches to the thread,
// 80 ns of a handoff to a guest thread and back. sched_getcpu(3) asks the vDSO from then on. Writes no memory; for
// newborn processes as well.
__attribute__((no_sanitize("address"), no_sanitize("thread"))) inline void LeaveRestartableSequences() {
  // The length has to be the one that was registered: 32 until glibc 2.39, then what the kernel proposes.
  constexpr long kUnregister = 1, kGlibcSignature = 0x53053053;
  char* thread_pointer;
  asm volatile("mov %%fs:0, %0" : "=r"(thread_pointer));
  for (long bytes = 32; bytes <= 128; bytes += 4) {
    long area = reinterpret_cast<long>(thread_pointer + __rseq_offset);
    if (RawSyscall(SYS_rseq, area, bytes, kUnregister, kGlibcSignature) == 0) break;
  }
}

}  // namespace base

#endif  // BASE_RSEQ_UNSAFE_H_
