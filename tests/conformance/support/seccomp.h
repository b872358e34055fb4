// Filters of seccomp(2) for the cases that install some.
#ifndef TESTS_CONFORMANCE_SUPPORT_SECCOMP_H_
#define TESTS_CONFORMANCE_SUPPORT_SECCOMP_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "support/support.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace conformance {

inline constexpr uint32_t kNr = offsetof(seccomp_data, nr);
constexpr uint32_t Arg(int i) { return offsetof(seccomp_data, args) + 8 * i; }

inline sock_filter Ret(uint32_t value) { return BPF_STMT(BPF_RET | BPF_K, value); }
inline sock_filter Load(uint32_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset); }

// `action` for one number, ALLOW for the rest.
inline std::vector<sock_filter> For(int number, uint32_t action) {
  return {Load(kNr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1), Ret(action),
          Ret(SECCOMP_RET_ALLOW)};
}

inline long Seccomp(unsigned operation, unsigned flags, void* args) {
  return syscall(SYS_seccomp, operation, flags, args);
}

inline long Install(const std::vector<sock_filter>& program, unsigned flags = 0) {
  sock_fprog fprog = {static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  return Seccomp(SECCOMP_SET_MODE_FILTER, flags, &fprog);
}

inline void NoNewPrivs() { CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); }

}  // namespace conformance

#endif  // TESTS_CONFORMANCE_SUPPORT_SECCOMP_H_
