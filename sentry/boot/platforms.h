// The platforms that this build has, by the names of --platform.
#ifndef SENTRY_BOOT_PLATFORMS_H_
#define SENTRY_BOOT_PLATFORMS_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "platform/platform.h"

namespace sentry {

struct PlatformOptions {
  bool systrap_patching = true;
  double cpu_limit = 0;  // CPUs' worth of time; 0: no limit
  base::UniqueFd kvm;    // /dev/kvm, opened while there was a path to it
};

// Before the filter. A host that does not let the platform work: a sentence that says which other to try.
absl::StatusOr<std::unique_ptr<platform::Platform>> NewPlatform(std::string_view name, PlatformOptions options);

}  // namespace sentry

#endif  // SENTRY_BOOT_PLATFORMS_H_
