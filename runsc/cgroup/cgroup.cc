#include "runsc/cgroup/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/logging.h"
#include "base/status_macros.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"

namespace runsc::cgroup {
namespace {

// The controllers that a container's group is made in. Others of the host are left alone.
bool Used(const std::string& controller) {
  for (const char* name : {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd",
                           "hugetlb", "net_cls", "net_prio", "perf_event"}) {
    if (controller == name) return true;
  }
  return false;
}

// mkdir -p below `mount`; new directories are appended to `created`.
absl::Status MakeGroup(const std::string& mount, const std::string& path, std::vector<std::string>& created) {
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    std::string directory = mount + path.substr(0, slash);
    if (mkdir(directory.c_str(), 0755) == 0) {
      created.push_back(directory);
    } else if (errno != EEXIST) {
      return host::ErrnoStatus(errno, "cannot create cgroup " + directory);
    }
  }
  return absl::OkStatus();
}

std::string ReadTrimmed(const std::string& path) {
  std::string text = host::ReadFile(path).value_or("");
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// A new cpuset group has neither CPUs nor memory nodes, and takes no task before it has (man 7 cpuset): copy the
// parent's, downwards from the first that has some.
void InheritCpuset(const std::string& mount, const std::string& path) {
  for (size_t slash = 0; slash != std::string::npos;) {
    std::string parent = mount + path.substr(0, slash);
    slash = path.find('/', slash + 1);
    std::string directory = mount + path.substr(0, slash);
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
      if (!ReadTrimmed(directory + file).empty()) continue;
      (void)host::WriteExisting(AT_FDCWD, directory + file, ReadTrimmed(parent + file));
    }
  }
}

// A controller works in a group only if every group above it passes it on.
void EnableControllers(const std::string& mount, const std::string& path) {
  for (size_t slash = 0;;) {
    std::string directory = mount + path.substr(0, slash);
    std::string available = ReadTrimmed(directory + "/cgroup.controllers");
    for (size_t begin = 0; begin < available.size();) {
      size_t end = std::min(available.find(' ', begin), available.size());
      // One at a time: the kernel refuses a list of which it refuses one.
      absl::Status status = host::WriteExisting(AT_FDCWD, directory + "/cgroup.subtree_control",
                                                "+" + available.substr(begin, end - begin));
      if (!status.ok()) LOG_DEBUG("cgroup: %s", std::string(status.message()).c_str());
      begin = end + 1;
    }
    slash = path.find('/', slash + 1);
    if (slash == std::string::npos) break;
  }
}

std::string MaxOr(int64_t value) { return value < 0 ? "max" : std::to_string(value); }

void Warn(const absl::Status& status) {
  if (!status.ok()) LOG_WARNING("cgroup: %s", std::string(status.message()).c_str());
}

}  // namespace

uint64_t WeightFromShares(uint64_t shares) {
  if (shares == 0) return 0;
  shares = std::clamp<uint64_t>(shares, 2, 262144);
  return 1 + ((shares - 2) * 9999) / 262142;
}

uint64_t IoWeightFromBlkioWeight(uint64_t weight) {
  if (weight == 0) return 0;
  weight = std::clamp<uint64_t>(weight, 10, 1000);
  return 1 + (weight - 10) * 9999 / 990;
}

double CpuLimit(const Layout& layout) {
  const auto mounted = layout.controllers.find("cpu");
  const bool version2 = mounted == layout.controllers.end();
  const std::string mount = version2 ? layout.unified : mounted->second;
  const auto own = layout.own.find(version2 ? "" : "cpu");
  if (mount.empty() || own == layout.own.end()) return 0;
  double limit = 0;
  std::string path = own->second == "/" ? "" : own->second;
  for (;;) {
    // "max 100000", "150000 100000"; −1 without a limit in version 1.
    const std::string text = version2 ? ReadTrimmed(mount + path + "/cpu.max")
                                      : ReadTrimmed(mount + path + "/cpu.cfs_quota_us") + " " +
                                            ReadTrimmed(mount + path + "/cpu.cfs_period_us");
    double quota = 0, period = 0;
    if (sscanf(text.c_str(), "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
      limit = limit == 0 ? quota / period : std::min(limit, quota / period);
    }
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return limit;
    path.resize(slash);
  }
}

absl::StatusOr<Cgroup> Cgroup::Create(const Layout& layout, const std::string& cgroups_path, bool systemd) {
  Cgroup cgroup;
  if (layout.version2()) {
    std::string own = layout.own.count("") != 0 ? layout.own.at("") : "/";
    ASSIGN_OR_RETURN(std::string path, ResolvePath(cgroups_path, systemd, own));
    absl::Status made = MakeGroup(layout.unified, path, cgroup.created_);
    if (!made.ok()) {
      cgroup.Remove();
      return made;
    }
    EnableControllers(layout.unified, path);
    cgroup.directories_[""] = layout.unified + path;
    return cgroup;
  }
  if (layout.controllers.empty()) return absl::FailedPreconditionError("this host has no cgroups mounted");
  for (const auto& [controller, mount] : layout.controllers) {
    if (!Used(controller)) continue;
    std::string own = layout.own.count(controller) != 0 ? layout.own.at(controller) : "/";
    auto path = ResolvePath(cgroups_path, systemd, own);
    if (!path.ok()) return path.status();
    absl::Status made = MakeGroup(mount, *path, cgroup.created_);
    if (!made.ok()) {
      // A read-only or absent hierarchy is no reason to fail, unless a limit asks for it (Apply).
      LOG_DEBUG("cgroup: %s", std::string(made.message()).c_str());
      continue;
    }
    if (controller == "cpuset") InheritCpuset(mount, *path);
    cgroup.directories_[controller] = mount + *path;
  }
  if (cgroup.directories_.empty()) {
    return absl::PermissionDeniedError("cannot create the cgroup " + cgroups_path +
                                       " in any hierarchy; --ignore-cgroups does without");
  }
  return cgroup;
}

Cgroup Cgroup::Restore(std::map<std::string, std::string> directories, std::vector<std::string> created) {
  Cgroup cgroup;
  cgroup.directories_ = std::move(directories);
  cgroup.created_ = std::move(created);
  return cgroup;
}

absl::Status Cgroup::Apply(const oci::Resources& resources) const {
  return version2() ? ApplyVersion2(resources) : ApplyVersion1(resources);
}

absl::Status Cgroup::ApplyVersion1(const oci::Resources& r) const {
  auto set = [&](const char* controller, const char* file, const std::string& value) -> absl::Status {
    auto it = directories_.find(controller);
    if (it == directories_.end()) {
      return absl::FailedPreconditionError(std::string("cannot set ") + file + ": this host has no " + controller +
                                           " cgroup");
    }
    return host::WriteExisting(AT_FDCWD, it->second + "/" + file, value);
  };
  if (r.memory_limit && *r.memory_limit != 0) {
    // memory + swap may never be below memory: if that is in the way, it changes first.
    absl::Status status = set("memory", "memory.limit_in_bytes", std::to_string(*r.memory_limit));
    if (!status.ok() && directories_.count("memory") != 0) {
      Warn(set("memory", "memory.memsw.limit_in_bytes", std::to_string(r.memory_swap.value_or(-1))));
      status = set("memory", "memory.limit_in_bytes", std::to_string(*r.memory_limit));
    }
    RETURN_IF_ERROR(status);
  }
  if (r.memory_swap && *r.memory_swap != 0)
    Warn(set("memory", "memory.memsw.limit_in_bytes", std::to_string(*r.memory_swap)));
  if (r.memory_reservation && *r.memory_reservation != 0) {
    RETURN_IF_ERROR(set("memory", "memory.soft_limit_in_bytes", std::to_string(*r.memory_reservation)));
  }
  if (r.memory_swappiness) Warn(set("memory", "memory.swappiness", std::to_string(*r.memory_swappiness)));
  if (r.memory_disable_oom_killer && *r.memory_disable_oom_killer)
    RETURN_IF_ERROR(set("memory", "memory.oom_control", "1"));

  if (r.cpu_shares && *r.cpu_shares != 0) RETURN_IF_ERROR(set("cpu", "cpu.shares", std::to_string(*r.cpu_shares)));
  // The period first: the quota that goes with it may be out of range for the old one.
  if (r.cpu_period && *r.cpu_period != 0)
    RETURN_IF_ERROR(set("cpu", "cpu.cfs_period_us", std::to_string(*r.cpu_period)));
  if (r.cpu_quota && *r.cpu_quota != 0) RETURN_IF_ERROR(set("cpu", "cpu.cfs_quota_us", std::to_string(*r.cpu_quota)));
  if (r.cpu_burst) Warn(set("cpu", "cpu.cfs_burst_us", std::to_string(*r.cpu_burst)));
  if (r.cpu_idle) Warn(set("cpu", "cpu.idle", std::to_string(*r.cpu_idle)));
  if (r.cpu_realtime_period && *r.cpu_realtime_period != 0) {
    Warn(set("cpu", "cpu.rt_period_us", std::to_string(*r.cpu_realtime_period)));
  }
  if (r.cpu_realtime_runtime && *r.cpu_realtime_runtime != 0) {
    Warn(set("cpu", "cpu.rt_runtime_us", std::to_string(*r.cpu_realtime_runtime)));
  }
  if (!r.cpuset_cpus.empty()) RETURN_IF_ERROR(set("cpuset", "cpuset.cpus", r.cpuset_cpus));
  if (!r.cpuset_mems.empty()) RETURN_IF_ERROR(set("cpuset", "cpuset.mems", r.cpuset_mems));
  if (r.blkio_weight && *r.blkio_weight != 0) Warn(set("blkio", "blkio.weight", std::to_string(*r.blkio_weight)));
  if (!r.unified.empty())
    return absl::InvalidArgumentError("config.json: linux.resources.unified needs cgroup version 2");
  return absl::OkStatus();
}

absl::Status Cgroup::ApplyVersion2(const oci::Resources& r) const {
  const std::string& directory = directories_.at("");
  auto set = [&](const std::string& file, const std::string& value) {
    return host::WriteExisting(AT_FDCWD, directory + "/" + file, value);
  };
  if (r.memory_limit && *r.memory_limit != 0) RETURN_IF_ERROR(set("memory.max", MaxOr(*r.memory_limit)));
  if (r.memory_swap && *r.memory_swap != 0) {
    // Version 1 counts memory and swap together, version 2 swap alone.
    int64_t swap = *r.memory_swap;
    if (swap > 0) {
      if (!r.memory_limit || *r.memory_limit <= 0) {
        return absl::InvalidArgumentError(
            "config.json: linux.resources.memory.swap needs memory.limit with cgroup version 2");
      }
      if (swap < *r.memory_limit) {
        return absl::InvalidArgumentError("config.json: linux.resources.memory.swap is below memory.limit");
      }
      swap -= *r.memory_limit;
    }
    Warn(set("memory.swap.max", MaxOr(swap)));
  }
  if (r.memory_reservation && *r.memory_reservation != 0)
    RETURN_IF_ERROR(set("memory.low", MaxOr(*r.memory_reservation)));
  if (r.cpu_shares && *r.cpu_shares != 0)
    RETURN_IF_ERROR(set("cpu.weight", std::to_string(WeightFromShares(*r.cpu_shares))));
  if ((r.cpu_quota && *r.cpu_quota != 0) || (r.cpu_period && *r.cpu_period != 0)) {
    std::string value = r.cpu_quota && *r.cpu_quota > 0 ? std::to_string(*r.cpu_quota) : "max";
    if (r.cpu_period && *r.cpu_period != 0) value += " " + std::to_string(*r.cpu_period);
    RETURN_IF_ERROR(set("cpu.max", value));
  }
  if (r.cpu_burst) Warn(set("cpu.max.burst", std::to_string(*r.cpu_burst)));
  if (r.cpu_idle) Warn(set("cpu.idle", std::to_string(*r.cpu_idle)));
  if (!r.cpuset_cpus.empty()) RETURN_IF_ERROR(set("cpuset.cpus", r.cpuset_cpus));
  if (!r.cpuset_mems.empty()) RETURN_IF_ERROR(set("cpuset.mems", r.cpuset_mems));
  if (r.blkio_weight && *r.blkio_weight != 0) {
    absl::Status status = set("io.bfq.weight", std::to_string(*r.blkio_weight));
    if (!status.ok()) Warn(set("io.weight", "default " + std::to_string(IoWeightFromBlkioWeight(*r.blkio_weight))));
  }
  for (const auto& [file, value] : r.unified) RETURN_IF_ERROR(set(file, value));
  return absl::OkStatus();
}

absl::Status Cgroup::Join(pid_t pid) const {
  std::vector<std::string> joined;  // controllers that share a mount share the directory
  for (const auto& [controller, directory] : directories_) {
    if (std::find(joined.begin(), joined.end(), directory) != joined.end()) continue;
    RETURN_IF_ERROR(host::WriteExisting(AT_FDCWD, directory + "/cgroup.procs", std::to_string(pid)));
    joined.push_back(directory);
  }
  return absl::OkStatus();
}

void Cgroup::Remove() const {
  // A process that was just killed leaves its group a moment later.
  for (auto it = created_.rbegin(); it != created_.rend(); ++it) {
    for (int attempt = 0; attempt < 8; ++attempt) {
      if (rmdir(it->c_str()) == 0 || errno != EBUSY) break;
      timespec pause{0, (1 << attempt) * 1000000L};
      nanosleep(&pause, nullptr);
    }
  }
}

std::optional<uint64_t> Cgroup::MemoryUsage() const {
  std::string path;
  if (version2()) {
    path = directories_.at("") + "/memory.current";
  } else if (auto it = directories_.find("memory"); it != directories_.end()) {
    path = it->second + "/memory.usage_in_bytes";
  } else {
    return std::nullopt;
  }
  std::string text = ReadTrimmed(path);
  if (text.empty()) return std::nullopt;
  return strtoull(text.c_str(), nullptr, 10);
}

}  // namespace runsc::cgroup
