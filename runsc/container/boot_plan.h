// From an OCI configuration and flags to what a sentry and a gofer are started with. Looks at the host only to see
// whether a mount's source is there; opens nothing.
#ifndef RUNSC_CONTAINER_BOOT_PLAN_H_
#define RUNSC_CONTAINER_BOOT_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runsc/config/config.h"
#include "runsc/oci/spec.h"
#include "sentry/boot/boot.h"

namespace runsc::container {

// A tree of the host that the gofer serves.
struct GoferTree {
  std::string source;
  bool recursive = true;
  bool read_only = false;
  bool no_exec = false;
};

// A place in the root that something is mounted on.
struct MountPoint {
  std::string path;
  bool is_file = false;
};

struct BootPlan {
  sentry::boot::BootSpec boot;   // without descriptors
  std::vector<GoferTree> trees;  // 0 is the root
  // To be made on the host where they are missing, as runc does: the root is read-only for the sentry from the start.
  std::vector<MountPoint> mount_points;
  std::string network_namespace;  // path to join; empty: a new one, unless network=host
};

// `rootfs`: absolute. `bundle`: what relative sources are relative to.
absl::StatusOr<BootPlan> MakeBootPlan(const oci::Spec& spec, const config::Config& config, const std::string& id,
                                      const std::string& bundle, const std::string& rootfs);

// A process object as the sentry takes it, without descriptors.
sentry::control::ProcessSpec MakeProcessSpec(const oci::Process& process);

// CPUs' worth of time that it may use: of its quota and our own groups' the least; 0: no limit.
double CpuLimit(const oci::Resources& resources);

// CPUs that a sandbox may use: the caller's affinity, and no more than a quota or cpuset grants.
int CpuCount(const oci::Resources& resources);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_BOOT_PLAN_H_
