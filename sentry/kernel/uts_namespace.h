// UtsNamespace: the names of the host and of its domain. (man 7 uts_namespaces)
#ifndef SENTRY_KERNEL_UTS_NAMESPACE_H_
#define SENTRY_KERNEL_UTS_NAMESPACE_H_

#include <string>

#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "sentry/kernel/pid_namespace.h"
#include "sentry/vfs/credentials.h"

namespace sentry {

// struct new_utsname (include/uapi/linux/utsname.h).
struct Utsname {
  char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
};

// Whoever changes a name calls Kernel::ChangeAnswers afterwards, with no lock held.
class UtsNamespace final : public base::RefCounted {
 public:
  const uint64_t number = AllocateNamespaceNumber();  // /proc/<pid>/ns
  base::Mutex mu;
  std::string hostname GUARDED_BY(mu);
  std::string domainname GUARDED_BY(mu) = "(none)";

  Utsname Describe() EXCLUDES(mu);  // uname(2)
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_UTS_NAMESPACE_H_
