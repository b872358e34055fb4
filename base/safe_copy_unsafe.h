// The one routine through which the sentry touches memory that may fault: guest memory in the memory file, and files
// that the gofer donated and the host may truncate. A SIGSEGV or SIGBUS inside becomes a short count instead of a
// crash.
#ifndef BASE_SAFE_COPY_UNSAFE_H_
#define BASE_SAFE_COPY_UNSAFE_H_

#include <cstddef>
#include <cstdint>

#include "base/errno.h"

namespace base {

// Installs the SIGSEGV and SIGBUS handlers. Once per process, before the first copy; faults elsewhere stay fatal.
void InstallSafeCopyHandlers();

struct CopyOutcome {
  size_t copied;  // bytes before the fault, or all
  int signal;     // 0, SIGSEGV or SIGBUS
};
CopyOutcome SafeCopy(void* dst, const void* src, size_t bytes);
CopyOutcome SafeZero(void* dst, size_t bytes);

// Atomic operations on a guest's 32-bit word (futex). EFAULT if the access faults; the address must be aligned.
Result<uint32_t> SafeLoad32(const uint32_t* address);
// Sequentially consistent compare and exchange; returns the value seen before.
Result<uint32_t> SafeCompareExchange32(uint32_t* address, uint32_t expected, uint32_t desired);

}  // namespace base

#endif  // BASE_SAFE_COPY_UNSAFE_H_
