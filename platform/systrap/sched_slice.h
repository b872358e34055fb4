// How long a task wants to run at a stretch (man 2 sched_setattr, sched_runtime of SCHED_OTHER). Hosts before 6.12 take
// the slice and ignore it.
#ifndef PLATFORM_SYSTRAP_SCHED_SLICE_H_
#define PLATFORM_SYSTRAP_SCHED_SLICE_H_

#include <sys/syscall.h>
#include <sys/types.h>

#include <cstdint>

#include "base/syscall_unsafe.h"

namespace platform::systrap {

// `pid` 0: the caller. Slice 0: the host's default. What fails changes speed alone. Also for a newborn process: no
// memory is written.
inline void SetSlice(pid_t pid, int nice, int64_t slice_ns) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attr = {};
  attr.size = sizeof(attr);
  attr.nice = nice;
  attr.runtime = static_cast<uint64_t>(slice_ns);
  base::RawSyscall(SYS_sched_setattr, pid, reinterpret_cast<long>(&attr), 0);
}

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SCHED_SLICE_H_
