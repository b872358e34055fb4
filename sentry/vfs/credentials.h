// Credentials of a task (man 7 credentials, capabilities). Immutable once published: a change makes a copy, as in
// include/linux/cred.h, so that readers need no lock.
#ifndef SENTRY_VFS_CREDENTIALS_H_
#define SENTRY_VFS_CREDENTIALS_H_

#include <linux/capability.h>

#include <cstdint>
#include <vector>

#include "base/ref_ptr.h"

namespace sentry {

inline constexpr uint64_t kAllCapabilities = (uint64_t{1} << (CAP_LAST_CAP + 1)) - 1;

struct Credentials final : public base::RefCounted {
  Credentials() = default;
  Credentials(const Credentials& o)
      : base::RefCounted(),
        ruid(o.ruid),
        euid(o.euid),
        suid(o.suid),
        fsuid(o.fsuid),
        rgid(o.rgid),
        egid(o.egid),
        sgid(o.sgid),
        fsgid(o.fsgid),
        groups(o.groups),
        permitted(o.permitted),
        effective(o.effective),
        inheritable(o.inheritable),
        bounding(o.bounding),
        ambient(o.ambient),
        securebits(o.securebits),
        no_new_privs(o.no_new_privs) {}

  uint32_t ruid = 0, euid = 0, suid = 0, fsuid = 0;
  uint32_t rgid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<uint32_t, base::ChargedAllocator<uint32_t>> groups;  // at most NGROUPS_MAX, sorted
  uint64_t permitted = 0, effective = 0, inheritable = 0, bounding = 0, ambient = 0;
  uint32_t securebits = 0;
  bool no_new_privs = false;

  bool Capable(int cap) const { return (effective >> cap) & 1; }
  // fsgid or one of the supplementary groups.
  bool InGroup(uint32_t gid) const;
};
using CredentialsRef = base::RefPtr<const Credentials>;

}  // namespace sentry

#endif  // SENTRY_VFS_CREDENTIALS_H_
