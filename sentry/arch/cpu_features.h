// What a program learns about the CPU from its auxiliary vector.
#ifndef SENTRY_ARCH_CPU_FEATURES_H_
#define SENTRY_ARCH_CPU_FEATURES_H_

#include <cstdint>

namespace sentry::arch {

uint64_t HwCap();   // AT_HWCAP: CPUID.1:EDX
uint64_t HwCap2();  // AT_HWCAP2: HWCAP2_FSGSBASE if the host has it enabled; never HWCAP2_RING3MWAIT
inline constexpr char kPlatform[] = "x86_64";  // AT_PLATFORM, uname -m

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_CPU_FEATURES_H_
