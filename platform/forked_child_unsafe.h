// For platforms whose guests live in processes of their own: the first of them is a copy of the sentry, made by a bare
// clone, which has to lose what it has of the sentry. No locks, no allocation, no wrapper of libc in there (they write
// errno, which would be fine, and some take locks, which would not).
#ifndef PLATFORM_FORKED_CHILD_UNSAFE_H_
#define PLATFORM_FORKED_CHILD_UNSAFE_H_

#include <sys/types.h>

#include <cstddef>

#include "base/errno.h"
#include "base/unique_fd.h"

namespace platform {

// A memfd with these bytes, which code is mapped from if `executable`. Not for the child.
base::Result<base::UniqueFd> MakeMemfd(const char* name, bool executable, const void* bytes, size_t count);

// In the child: dies with the sentry (`parent`, or is over at once if that is gone), has a name of its own, no core,
// and no more of what libc told the host about the thread: rseq, robust list, thread id, signal stack. Signals and
// memory are the caller's.
void LeaveSentry(pid_t parent);

}  // namespace platform

#endif  // PLATFORM_FORKED_CHILD_UNSAFE_H_
