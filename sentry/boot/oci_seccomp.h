// linux.seccomp of an OCI configuration (--oci-seccomp): a profile becomes a filter of the container's processes.
//
// Differs from runc: the filter is in place when the program starts, so what starts it (execve) is not looked at.
#ifndef SENTRY_BOOT_OCI_SECCOMP_H_
#define SENTRY_BOOT_OCI_SECCOMP_H_

#include <linux/filter.h>

#include <vector>

#include "absl/status/statusor.h"
#include "sentry/boot/boot.h"

namespace sentry::boot {

// The first rule that fits decides, those without conditions on arguments before the others (as libseccomp has it);
// otherwise the default action. Names of system calls that do not exist here are left out.
absl::StatusOr<std::vector<sock_filter>> CompileSeccompProfile(const SeccompProfile& profile);

}  // namespace sentry::boot

#endif  // SENTRY_BOOT_OCI_SECCOMP_H_
