#include "sentry/vfs/credentials.h"

#include <algorithm>

namespace sentry {

bool Credentials::InGroup(uint32_t gid) const {
  return gid == fsgid || std::binary_search(groups.begin(), groups.end(), gid);
}

}  // namespace sentry
