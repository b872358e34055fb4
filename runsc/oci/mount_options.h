// Mount options of the OCI configuration: words into flags, the rest into the file system's own data.
#ifndef RUNSC_OCI_MOUNT_OPTIONS_H_
#define RUNSC_OCI_MOUNT_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "runsc/oci/spec.h"

namespace runsc::oci {

struct MountOptions {
  uint64_t flags = 0;      // MS_… of sys/mount.h without propagation and bind
  bool bind = false;       // bind or rbind
  bool recursive = false;  // rbind
  std::string data;        // what is left, comma separated
};

// Options are read in order; the last of two that contradict each other counts (as mount(8) has it).
MountOptions ParseMountOptions(const std::vector<std::string>& options);

// True if the mount's files come from the host: a bind option, or type "bind".
bool IsBindMount(const Mount& mount, const MountOptions& options);

// The options that belong in `features`.
std::vector<std::string> KnownMountOptions();

}  // namespace runsc::oci

#endif  // RUNSC_OCI_MOUNT_OPTIONS_H_
