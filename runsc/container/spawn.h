// Starting the two processes of a container. Both are children of the runsc that creates it, cloned straight into their
// namespaces without a new program image. Each waits for Release before it touches anything, so that its id maps, its
// cgroup and the hooks that need its namespaces are in place first.
#ifndef RUNSC_CONTAINER_SPAWN_H_
#define RUNSC_CONTAINER_SPAWN_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/container/boot_plan.h"
#include "runsc/container/state.h"
#include "runsc/oci/spec.h"
#include "sentry/boot/boot.h"

namespace runsc::container {

class Child {
 public:
  const HostProcess& process() const { return process_; }
  // Lets it go on; AwaitReady then waits for its report.
  absl::Status Release();
  absl::Status AwaitReady(std::string_view who);
  // SIGKILL and wait.
  void Kill();

 private:
  friend absl::StatusOr<Child> SpawnSandbox(sentry::boot::BootSpec, const struct SandboxSpawnOptions&);
  friend absl::StatusOr<Child> SpawnGofer(struct GoferSpawnOptions);
  HostProcess process_;
  base::UniqueFd go_;
  base::UniqueFd ready_;
};

struct SandboxSpawnOptions {
  std::string network_namespace;  // path to join; empty: a new one, unless boot.network is host
  sentry::boot::SandboxFactory factory;
};
// Fills in boot.id_maps and boot.ready.
absl::StatusOr<Child> SpawnSandbox(sentry::boot::BootSpec boot, const SandboxSpawnOptions& options);

struct GoferSpawnOptions {
  std::vector<GoferTree> trees;
  std::vector<MountPoint> mount_points;  // to be made in tree 0 where they are missing
  base::UniqueFd socket;                 // the gofer's end
  bool host_uds = false;
  bool host_uds_create = false;
  bool host_fifo = false;
  bool bind_ports = false;  // keeps CAP_NET_BIND_SERVICE and binds the sentry's sockets
  bool debug = false;
  bool die_with_parent = false;
  base::UniqueFd debug_log;
  // The container's id maps; with them, or without root, the gofer gets a user namespace of its own.
  std::vector<oci::IdMapping> uid_mappings;
  std::vector<oci::IdMapping> gid_mappings;
};
absl::StatusOr<Child> SpawnGofer(GoferSpawnOptions options);

}  // namespace runsc::container

#endif  // RUNSC_CONTAINER_SPAWN_H_
