#include "sentry/kernel/uts_namespace.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "sentry/kernel/version.h"

namespace sentry {
namespace {

void Set(char (&field)[65], std::string_view text) {
  std::memcpy(field, text.data(), std::min(text.size(), sizeof(field) - 1));
}

}  // namespace

Utsname UtsNamespace::Describe() {
  Utsname u{};
  Set(u.sysname, "Linux");
  Set(u.release, kKernelRelease);
  Set(u.version, kKernelVersion);
  Set(u.machine, "x86_64");
  base::MutexLock l(mu);
  Set(u.nodename, hostname);
  Set(u.domainname, domainname);
  return u;
}

}  // namespace sentry
