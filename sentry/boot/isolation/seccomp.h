// The seccomp allow-lists at run time: BPF programs that were made when runsc was built (seccomp_generator.cc), so that
// start-up compiles nothing.
#ifndef SENTRY_BOOT_ISOLATION_SECCOMP_H_
#define SENTRY_BOOT_ISOLATION_SECCOMP_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"

struct sock_filter;

namespace sentry::isolation {

// The sentry's depends on the platform: what one needs, the others do not get.
enum class FilterId {
  kSentrySystrap,
  kSentrySystrapHostNetwork,
  kSentryPtrace,
  kSentryPtraceHostNetwork,
  kSentryKvm,
  kSentryKvmHostNetwork,
  kGofer,
  kGoferHostUds
};

// The list of a sentry on that platform (--platform).
FilterId SentryFilterFor(std::string_view platform, bool host_network);

// The gofer's descriptor of /proc/self/fd has this number, because its filter names it.
inline constexpr int kGoferProcSelfFd = 200;

// Installs the filter on every thread of the process. A call that it does not allow kills the process. With `report`,
// the number of the call is logged before that.
absl::Status InstallFilter(FilterId id, bool report);

// The program, for tests.
struct FilterProgram {
  const sock_filter* instructions;
  size_t count;
};
FilterProgram GetFilter(FilterId id);

}  // namespace sentry::isolation

#endif  // SENTRY_BOOT_ISOLATION_SECCOMP_H_
