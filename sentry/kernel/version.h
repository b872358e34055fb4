// What uname(2) and /proc/version say this kernel is.
#ifndef SENTRY_KERNEL_VERSION_H_
#define SENTRY_KERNEL_VERSION_H_

namespace sentry {

inline constexpr char kKernelRelease[] = "6.12.0";
inline constexpr char kKernelVersion[] = "#1 SMP PREEMPT_DYNAMIC";

}  // namespace sentry

#endif  // SENTRY_KERNEL_VERSION_H_
