// OCI hooks: programs of the host that run at points of a container's life, with its state on their standard input.
#ifndef RUNSC_CONTAINER_HOOKS_H_
#define RUNSC_CONTAINER_HOOKS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "runsc/oci/spec.h"

namespace runsc::container {

// Runs them in order, each to its end or its timeout, with the working directory `bundle` and nothing of our
// descriptors. The first that fails ends it; the error has what it wrote to standard error. `network_namespace`: a
// descriptor to join for the hook, or −1.
absl::Status RunHooks(const std::vector<oci::Hook>& hooks, std::string_view kind, const std::string& state_json,
                      const std::string& bundle, int network_namespace = -1);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_HOOKS_H_
