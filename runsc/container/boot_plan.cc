#include "runsc/container/boot_plan.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <sstream>

#include "base/logging.h"
#include "base/status_macros.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"
#include "runsc/oci/mount_options.h"

namespace runsc::container {
namespace {

namespace boot = sentry::boot;

// File systems that the sentry itself serves.
constexpr const char* kSentryFileSystems[] = {"proc",   "sysfs",  "tmpfs",   "devtmpfs", "devpts",
                                              "mqueue", "cgroup", "cgroup2", "ramfs"};

boot::FileAccess Access(config::FileAccess access) {
  return access == config::FileAccess::kShared ? boot::FileAccess::kShared : boot::FileAccess::kExclusive;
}

boot::OverlayMedium Medium(const config::Overlay& overlay) {
  return overlay.medium == config::Overlay::Medium::kMemory ? boot::OverlayMedium::kMemory : boot::OverlayMedium::kFile;
}

boot::HostUds ParseHostUds(const std::string& word) {
  if (word == "open") return boot::HostUds::kOpen;
  if (word == "create") return boot::HostUds::kCreate;
  return word == "all" ? boot::HostUds::kAll : boot::HostUds::kNone;
}

// Number of CPUs in a list like "0-2,7"; 0 if it is none.
int CountCpuList(const std::string& list) {
  int count = 0;
  std::stringstream stream(list);
  std::string range;
  while (std::getline(stream, range, ',')) {
    int first = 0, last = 0;
    int fields = sscanf(range.c_str(), "%d-%d", &first, &last);
    if (fields == 1) last = first;
    if (fields < 1 || last < first || last > 65535) return 0;
    count += last - first + 1;
  }
  return count;
}

absl::Status AddMount(const oci::Mount& mount, size_t index, const config::Config& config, const std::string& bundle,
                      BootPlan& plan) {
  auto fail = [&](const std::string& what) {
    return absl::InvalidArgumentError("config.json: mounts[" + std::to_string(index) + "] (" + mount.destination +
                                      "): " + what);
  };
  oci::MountOptions options = oci::ParseMountOptions(mount.options);
  boot::MountSpec out;
  // Relative destinations are against the specification, and taken as from the root by all runtimes.
  out.destination = host::CleanPath(mount.destination);
  out.source = mount.source;
  out.flags = options.flags;
  out.data = options.data;
  if (out.destination == "/") return fail("the root is given by root.path");

  if (oci::IsBindMount(mount, options)) {
    if (mount.source.empty()) return fail("a bind mount needs a source");
    GoferTree tree;
    tree.source = mount.source[0] == '/' ? host::CleanPath(mount.source) : host::CleanPath(bundle + "/" + mount.source);
    struct stat st;
    if (stat(tree.source.c_str(), &st) < 0) {
      return absl::Status(errno == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kInternal,
                          std::string(fail("source " + tree.source + ": " + host::ErrnoText(errno)).message()));
    }
    out.type = "bind";
    out.source_is_file = !S_ISDIR(st.st_mode);
    out.access = Access(config.file_access_mounts);
    bool writable = (options.flags & MS_RDONLY) == 0;
    if (writable && config.overlay.scope == config::Overlay::Scope::kAll && !out.source_is_file) {
      out.overlay = Medium(config.overlay);
    }
    tree.recursive = options.recursive || !options.bind;
    tree.read_only = !writable || out.overlay != boot::OverlayMedium::kNone;
    tree.no_exec = (options.flags & MS_NOEXEC) != 0;
    out.gofer_mount = static_cast<int>(plan.trees.size());
    plan.trees.push_back(std::move(tree));
  } else {
    out.type = mount.type;
    const char* const* known = std::find_if(std::begin(kSentryFileSystems), std::end(kSentryFileSystems),
                                            [&](const char* name) { return mount.type == name; });
    if (known == std::end(kSentryFileSystems)) {
      return fail(mount.type.empty() ? "no type is given" : "file system \"" + mount.type + "\" is not supported");
    }
    // An OCI runtime fills /dev with the default devices (config-linux.md#default-devices).
    if (out.destination == "/dev" && out.type == "tmpfs") out.type = "devtmpfs";
  }
  plan.boot.mounts.push_back(std::move(out));
  return absl::OkStatus();
}

// What every container has, named in its configuration or not (config-linux.md#default-filesystems).
void AddMissingMounts(std::vector<boot::MountSpec>& mounts) {
  auto has = [&](const char* destination) {
    return std::any_of(mounts.begin(), mounts.end(),
                       [&](const boot::MountSpec& m) { return m.destination == destination; });
  };
  auto make = [](const char* destination, const char* type, uint64_t flags, const char* data) {
    boot::MountSpec m;
    m.destination = destination;
    m.type = type;
    m.source = type;
    m.flags = flags;
    m.data = data;
    return m;
  };
  auto add_below_dev = [&](boot::MountSpec mount) {
    if (has(mount.destination.c_str())) return;
    auto dev =
        std::find_if(mounts.begin(), mounts.end(), [](const boot::MountSpec& m) { return m.destination == "/dev"; });
    mounts.insert(dev == mounts.end() ? mounts.begin() : dev + 1, std::move(mount));
  };
  add_below_dev(make("/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777"));
  add_below_dev(make("/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
  if (!has("/dev")) mounts.insert(mounts.begin(), make("/dev", "devtmpfs", MS_NOSUID, "mode=755"));
  if (!has("/sys"))
    mounts.insert(mounts.begin(), make("/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, ""));
  if (!has("/proc")) mounts.insert(mounts.begin(), make("/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""));
}

boot::SeccompProfile MakeSeccompProfile(const oci::Seccomp& seccomp) {
  using Op = boot::SeccompCondition::Op;
  static const std::map<std::string, Op> kOps = {{"SCMP_CMP_NE", Op::kNotEqual},          {"SCMP_CMP_LT", Op::kLess},
                                                 {"SCMP_CMP_LE", Op::kLessOrEqual},       {"SCMP_CMP_EQ", Op::kEqual},
                                                 {"SCMP_CMP_GE", Op::kGreaterOrEqual},    {"SCMP_CMP_GT", Op::kGreater},
                                                 {"SCMP_CMP_MASKED_EQ", Op::kMaskedEqual}};
  boot::SeccompProfile profile;
  profile.default_action = seccomp.default_action;
  for (const oci::SeccompRule& rule : seccomp.rules) {
    boot::SeccompRule out;
    out.names = rule.names;
    out.action = rule.action;
    for (const oci::SeccompArg& arg : rule.args) {
      out.conditions.push_back({arg.index, kOps.at(arg.op), arg.value, arg.value_two});
    }
    profile.rules.push_back(std::move(out));
  }
  return profile;
}

std::vector<std::string> SplitWords(const std::string& text) {
  std::vector<std::string> words;
  std::stringstream stream(text);
  std::string word;
  while (std::getline(stream, word, ',')) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

}  // namespace

int CpuCount(const oci::Resources& resources) {
  cpu_set_t set;
  int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  if (int listed = CountCpuList(resources.cpuset_cpus); listed > 0) count = std::min(count, listed);
  if (resources.cpu_quota && *resources.cpu_quota > 0 && resources.cpu_period && *resources.cpu_period > 0) {
    uint64_t quota = static_cast<uint64_t>(*resources.cpu_quota), period = *resources.cpu_period;
    uint64_t granted = (quota + period - 1) / period;
    count = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(count), granted));
  }
  return std::max(count, 1);
}

double CpuLimit(const oci::Resources& resources) {
  double limit = cgroup::CpuLimit(cgroup::Layout::Detect());
  if (resources.cpu_quota && *resources.cpu_quota > 0 && resources.cpu_period && *resources.cpu_period > 0) {
    const double granted = static_cast<double>(*resources.cpu_quota) / static_cast<double>(*resources.cpu_period);
    limit = limit == 0 ? granted : std::min(limit, granted);
  }
  return limit;
}

sentry::control::ProcessSpec MakeProcessSpec(const oci::Process& process) {
  sentry::control::ProcessSpec spec;
  spec.argv = process.args;
  spec.envv = process.env;
  spec.cwd = process.cwd;
  spec.uid = process.user.uid;
  spec.gid = process.user.gid;
  spec.additional_gids = process.user.additional_gids;
  spec.umask = process.user.umask.value_or(022);
  for (const oci::Rlimit& limit : process.rlimits) spec.rlimits.push_back({limit.resource, limit.soft, limit.hard});
  if (process.capabilities) {
    spec.capabilities = {process.capabilities->effective, process.capabilities->permitted,
                         process.capabilities->inheritable, process.capabilities->bounding,
                         process.capabilities->ambient};
  }
  spec.no_new_privs = process.no_new_privileges;
  spec.terminal = process.terminal;
  spec.terminal_rows = process.console_rows;
  spec.terminal_columns = process.console_columns;
  return spec;
}

absl::StatusOr<BootPlan> MakeBootPlan(const oci::Spec& spec, const config::Config& config, const std::string& id,
                                      const std::string& bundle, const std::string& rootfs) {
  BootPlan plan;
  boot::BootSpec& b = plan.boot;
  b.container_id = id;
  b.sandbox_id = id;
  b.annotations = spec.annotations;
  b.process = MakeProcessSpec(*spec.process);
  b.hostname = spec.hostname;
  if (b.hostname.empty()) {
    char name[65] = {};
    if (gethostname(name, sizeof(name) - 1) == 0) b.hostname = name;
  }
  b.domainname = spec.domainname;

  struct stat st;
  if (stat(rootfs.c_str(), &st) < 0) {
    return absl::Status(errno == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kInternal,
                        "config.json: root.path: " + rootfs + ": " + host::ErrnoText(errno));
  }
  if (!S_ISDIR(st.st_mode))
    return absl::InvalidArgumentError("config.json: root.path: " + rootfs + " is not a directory");
  b.root_readonly = spec.root.readonly;
  b.root_access = Access(config.file_access);
  // A read-only root has one, too: mount points that are missing are made in it.
  b.root_overlay =
      config.overlay.scope == config::Overlay::Scope::kNone ? boot::OverlayMedium::kNone : Medium(config.overlay);
  b.overlay_size_limit = config.overlay.size;
  plan.trees.push_back({rootfs, true, spec.root.readonly || b.root_overlay != boot::OverlayMedium::kNone, false});
  for (size_t i = 0; i < spec.mounts.size(); ++i) RETURN_IF_ERROR(AddMount(spec.mounts[i], i, config, bundle, plan));
  AddMissingMounts(b.mounts);
  if (plan.trees[0].read_only && b.root_overlay == boot::OverlayMedium::kNone) {
    for (const boot::MountSpec& mount : b.mounts)
      plan.mount_points.push_back({mount.destination, mount.source_is_file});
  }
  b.masked_paths = spec.linux_.masked_paths;
  b.readonly_paths = spec.linux_.readonly_paths;
  b.sysctl = spec.linux_.sysctl;

  switch (config.network) {
    case config::Network::kNone:
      b.network = boot::NetworkMode::kNone;
      break;
    case config::Network::kSandbox:
      b.network = boot::NetworkMode::kSandbox;
      break;
    case config::Network::kHost:
      b.network = boot::NetworkMode::kHost;
      break;
  }
  for (const oci::Namespace& n : spec.linux_.namespaces) {
    if (n.type == "network" && config.network != config::Network::kNone) plan.network_namespace = n.path;
  }
  b.host_uds = ParseHostUds(config.host_uds);
  b.host_fifo = config.host_fifo == "open";

  if (spec.linux_.seccomp) {
    if (config.oci_seccomp) {
      b.seccomp = MakeSeccompProfile(*spec.linux_.seccomp);
    } else {
      // As gVisor's users expect: the sandbox is the confinement, and the profile is written for another kernel.
      LOG_INFO("linux.seccomp is ignored: --oci-seccomp installs it in the guest's kernel");
    }
  }
  b.platform = config.platform;
  b.systrap_patching = config.systrap_patching && !config.systrap_disable_patching;
  b.cpu_count = CpuCount(spec.linux_.resources);
  b.cpu_limit = CpuLimit(spec.linux_.resources);
  if (spec.linux_.resources.memory_limit.value_or(0) > 0) {
    b.memory_limit = static_cast<uint64_t>(*spec.linux_.resources.memory_limit);
  }
  b.pids_limit = std::max<int64_t>(spec.linux_.resources.pids_limit.value_or(0), 0);
  b.strace = config.strace;
  b.fail_allocations = strtoull(config.fail_allocations.c_str(), nullptr, 10);
  b.strace_syscalls = SplitWords(config.strace_syscalls);
  b.debug = config.debug;
  return plan;
}

}  // namespace runsc::container
