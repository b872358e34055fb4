// Cgroups of the host, both hierarchies: version 1 with one mount per controller, and version 2. A mixed host
// ("hybrid") counts as version 1 as long as it has controllers there.
//
// What a kernel does not offer is a warning in the debug log where runc warns; a limit that the caller asked for and
// that cannot be set is an error. The pids limit is not set: the host would count the sentry's threads instead of the
// guest's tasks, so the sentry applies it (BootSpec::pids_limit).
#ifndef RUNSC_CGROUP_CGROUP_H_
#define RUNSC_CGROUP_CGROUP_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runsc/oci/spec.h"

namespace runsc::cgroup {

// Where the hierarchies are. Detect reads /proc; tests make their own over a directory tree.
struct Layout {
  // Version 1: controller ("memory", "cpu", …) → mount point. Several may share one (cpu,cpuacct).
  std::map<std::string, std::string> controllers;
  // Version 2: the mount point, if it is in use.
  std::string unified;
  // Our own group in each, by controller ("" for version 2), as in /proc/self/cgroup.
  std::map<std::string, std::string> own;

  bool version2() const { return controllers.empty() && !unified.empty(); }
  static Layout Detect();
  // From the contents of /proc/self/mountinfo and /proc/self/cgroup.
  static Layout Parse(const std::string& mountinfo, const std::string& self_cgroup);
};

// The group that linux.cgroupsPath names: absolute, or below our own; with `systemd` "slice:prefix:name" becomes the
// path that systemd would make of it (its daemon is not asked).
absl::StatusOr<std::string> ResolvePath(const std::string& cgroups_path, bool systemd, const std::string& own);

// CPUs' worth of time that our own groups and those above them give us (cpu.max, cpu.cfs_quota_us); 0: no limit.
double CpuLimit(const Layout& layout);

class Cgroup {
 public:
  // Makes the directories that are missing and remembers which those were.
  static absl::StatusOr<Cgroup> Create(const Layout& layout, const std::string& cgroups_path, bool systemd);
  // From what directories() and created() gave.
  static Cgroup Restore(std::map<std::string, std::string> directories, std::vector<std::string> created);

  absl::Status Apply(const oci::Resources& resources) const;
  absl::Status Join(pid_t pid) const;
  // Removes what Create made. Groups that somebody else still uses stay.
  void Remove() const;
  std::optional<uint64_t> MemoryUsage() const;

  // Controller → directory; version 2 has one, under "".
  const std::map<std::string, std::string>& directories() const { return directories_; }
  const std::vector<std::string>& created() const { return created_; }

 private:
  absl::Status ApplyVersion1(const oci::Resources& r) const;
  absl::Status ApplyVersion2(const oci::Resources& r) const;
  bool version2() const { return directories_.count("") != 0; }

  std::map<std::string, std::string> directories_;
  std::vector<std::string> created_;  // outermost first
};

// Conversions between the versions (runc and crun agree on them).
uint64_t WeightFromShares(uint64_t shares);         // [2, 262144] → [1, 10000]
uint64_t IoWeightFromBlkioWeight(uint64_t weight);  // [10, 1000] → [1, 10000]

}  // namespace runsc::cgroup

#endif  // RUNSC_CGROUP_CGROUP_H_
