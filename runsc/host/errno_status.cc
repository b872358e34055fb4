#include "runsc/host/errno_status.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace runsc::host {

absl::Status ErrnoStatus(int error, std::string_view what) {
  std::string message(what);
  message += ": ";
  message += strerror(error);
  switch (error) {
    case ENOENT:
    case ESRCH:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case EINVAL:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

}  // namespace runsc::host
