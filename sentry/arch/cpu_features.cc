#include "sentry/arch/cpu_features.h"

#include <sys/auxv.h>

namespace sentry::arch {

uint64_t HwCap() { return getauxval(AT_HWCAP); }

uint64_t HwCap2() {
  constexpr uint64_t kFsgsbase = 1 << 1;  // arch/x86/include/uapi/asm/hwcap2.h
  return getauxval(AT_HWCAP2) & kFsgsbase;
}

}  // namespace sentry::arch
