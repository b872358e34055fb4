// Raw host system calls that return −errno instead of setting errno: errno is a thread-local, and code on a fiber may
// continue on another thread between the call and the look at errno (DESIGN.md §3).
#ifndef BASE_SYSCALL_UNSAFE_H_
#define BASE_SYSCALL_UNSAFE_H_

#include <sys/syscall.h>

#include "base/errno.h"

namespace base {

inline long RawSyscall(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long ret;
  asm volatile("syscall"
               : "=a"(ret)
               : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return ret;
}

template <typename T>
inline long ToRawArg(T v) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(v);
  } else if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else {
    return static_cast<long>(v);
  }
}

// Host(SYS_read, fd, buffer, count): arguments of any integer or pointer type, Result<long>. Not restarted on EINTR.
template <typename... Args>
Result<long> Host(long nr, Args... args) {
  return FromRaw(RawSyscall(nr, ToRawArg(args)...));
}
// The same, again while the host says EINTR (our own signals: timers, kicks).
template <typename... Args>
Result<long> HostRetry(long nr, Args... args) {
  for (;;) {
    long r = RawSyscall(nr, ToRawArg(args)...);
    if (r != -EINTR) return FromRaw(r);
  }
}

}  // namespace base

#endif  // BASE_SYSCALL_UNSAFE_H_
