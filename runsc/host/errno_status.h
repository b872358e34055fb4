// ErrnoStatus: a sentence about a host call that failed, with the code a caller can look at.
#ifndef RUNSC_HOST_ERRNO_STATUS_H_
#define RUNSC_HOST_ERRNO_STATUS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace runsc::host {

// strerror(3) as Go spells it, in lower case: callers look for "no such file or directory" and "permission denied".
std::string ErrnoText(int error);

// "what: no such file or directory". ENOENT and ESRCH become kNotFound, EACCES and EPERM kPermissionDenied, EEXIST
// kAlreadyExists, the rest kInternal. `error` is an errno value.
absl::Status ErrnoStatus(int error, std::string_view what);

}  // namespace runsc::host

#endif  // RUNSC_HOST_ERRNO_STATUS_H_
