// Giving up what a process of ours does not need: file systems, capabilities, descriptors. Used by the sentry and by
// the gofer, in a child that was just cloned into new namespaces. Single-threaded only.
#ifndef SENTRY_BOOT_ISOLATION_CONFINE_H_
#define SENTRY_BOOT_ISOLATION_CONFINE_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace sentry::isolation {

// Makes an empty read-only tmpfs the root of this mount namespace and detaches everything else. Descriptors that are
// open keep working. Needs CAP_SYS_ADMIN over a mount namespace of its own.
absl::Status EnterEmptyRoot();

// Takes the ids, without supplementary groups if the user namespace allows to drop them.
absl::Status SetIds(uint32_t uid, uint32_t gid);

// Keeps exactly the capabilities of `keep` (bit N is capability N) as permitted and effective, none inheritable or
// ambient, and removes all others from the bounding set; then no_new_privs. Call after SetIds; for keep ≠ 0 the ids
// must not change later.
absl::Status LimitCapabilities(uint64_t keep);

// Soft limits up to the hard ones for what our own processes use (descriptors, processes, file size), no core dumps.
void RaiseOwnLimits();

// All signals to their default action and unblocked, except that SIGPIPE is ignored.
void ResetSignals();

// Puts /dev/null (`null_fd`, closed afterwards) on descriptors 0, 1 and 2 and closes every other one that is not in
// `keep`.
absl::Status KeepOnlyDescriptors(std::vector<int> keep, int null_fd);

}  // namespace sentry::isolation

#endif  // SENTRY_BOOT_ISOLATION_CONFINE_H_
