#include "runsc/host/errno_status.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace runsc::host {

std::string ErrnoText(int error) {
  std::string text = strerror(error);
  if (text.size() > 1 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

absl::Status ErrnoStatus(int error, std::string_view what) {
  std::string message(what);
  message += ": ";
  message += ErrnoText(error);
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
