#include "runsc/config/config.h"

#include <charconv>
#include <cstdlib>
#include <limits>

#include "base/status_macros.h"

namespace runsc::config {
namespace {

// "512m", "1g", "4096": bytes with a binary suffix, as in tmpfs's size option.
bool ParseSize(std::string_view text, uint64_t* bytes) {
  uint64_t n = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n == 0) return false;
  std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  int shift = suffix.empty()                   ? 0
              : suffix == "k" || suffix == "K" ? 10
              : suffix == "m" || suffix == "M" ? 20
              : suffix == "g" || suffix == "G" ? 30
                                               : -1;
  if (shift < 0 || n > std::numeric_limits<uint64_t>::max() >> shift) return false;
  *bytes = n << shift;
  return true;
}

// A flag whose values are words.
template <typename T>
void Choice(FlagSet& flags, const std::string& name, T* target, const std::string& default_text,
            const std::string& help, std::map<std::string, T> values) {
  flags.Custom(name, default_text, help, [target, values](const std::string& text) {
    auto it = values.find(text);
    if (it != values.end()) {
      *target = it->second;
      return absl::OkStatus();
    }
    std::string allowed;
    for (const auto& [word, value] : values) allowed += (allowed.empty() ? "" : ", ") + word;
    return absl::InvalidArgumentError("must be one of " + allowed);
  });
}

// Flags of gVisor that tune what does not exist here, or that have nothing to switch off. Callers' configurations name
// them.
const char* const kIgnoredBools[] = {"alsologtostderr",
                                     "directfs",
                                     "log-packets",
                                     "profile",
                                     "gso",
                                     "software-gso",
                                     "tx-checksum-offload",
                                     "rx-checksum-offload",
                                     "net-raw",
                                     "cpu-num-from-quota",
                                     "enable-core-tags",
                                     "reproduce-nat",
                                     "reproduce-nftables",
                                     "net-disconnect-ok",
                                     "lisafs",
                                     "vfs2",
                                     "fuse",
                                     "cgroupfs",
                                     "buffer-pooling",
                                     "save-restore-netstack",
                                     "app-huge-pages",
                                     "gvisor-marker-file",
                                     "debug-to-user-log"};
const char* const kIgnoredStrings[] = {"debug-log-format",
                                       "debug-command",
                                       "panic-log",
                                       "coverage-report",
                                       "watchdog-action",
                                       "panic-signal",
                                       "metric-server",
                                       "num-network-channels",
                                       "qdisc",
                                       "platform_device_path",
                                       "fdlimit",
                                       "dcache",
                                       "traceback",
                                       "strace-log-size",
                                       "strace-event",
                                       "host-settings",
                                       "criu",
                                       "rootless-mode",
                                       "shared-root"};

// What a container may ask for by itself: more logging, fewer ways out.
bool MayOverride(const std::string& name, const std::string& value) {
  if (name == "debug" || name == "strace" || name == "strace-syscalls") return true;
  if (name == "overlay2") return value == "none" || value.find(":dir=") == std::string::npos;
  if (name == "network") return value == "none";
  if (name == "oci-seccomp") return value == "true" || value == "1";
  if (name == "host-uds" || name == "host-fifo") return value == "none";
  return false;
}

}  // namespace

absl::StatusOr<Overlay> ParseOverlay(std::string_view text) {
  Overlay overlay;
  if (text == "none") {
    overlay.scope = Overlay::Scope::kNone;
    return overlay;
  }
  auto bad = [] { return absl::InvalidArgumentError("must be none or {root|all}:{memory|self|dir=/path}[,size=N]"); };
  size_t colon = text.find(':');
  if (colon == std::string_view::npos) return bad();
  std::string_view scope = text.substr(0, colon), rest = text.substr(colon + 1);
  if (scope == "root") {
    overlay.scope = Overlay::Scope::kRoot;
  } else if (scope == "all") {
    overlay.scope = Overlay::Scope::kAll;
  } else {
    return bad();
  }
  size_t comma = rest.find(',');
  std::string_view medium = rest.substr(0, comma);
  if (comma != std::string_view::npos) {
    std::string_view option = rest.substr(comma + 1);
    if (option.substr(0, 5) != "size=" || !ParseSize(option.substr(5), &overlay.size)) return bad();
  }
  if (medium == "memory") {
    overlay.medium = Overlay::Medium::kMemory;
  } else if (medium == "self") {
    overlay.medium = Overlay::Medium::kSelf;
  } else if (medium.substr(0, 5) == "dir=/") {
    overlay.medium = Overlay::Medium::kDir;
    overlay.dir = medium.substr(4);
  } else {
    return bad();
  }
  return overlay;
}

std::string DefaultRoot() {
  const char* runtime_dir = getenv("XDG_RUNTIME_DIR");
  if (runtime_dir != nullptr && runtime_dir[0] == '/') return std::string(runtime_dir) + "/runsc";
  return "/var/run/runsc";
}

void RegisterFlags(FlagSet& flags, Config& config) {
  config.root = DefaultRoot();
  flags.String("root", &config.root, "directory of the state of containers");
  flags.String("log", &config.log, "file that errors for the caller are appended to");
  Choice<std::string>(flags, "log-format", &config.log_format, "text", "format of --log: text or json",
                      {{"text", "text"}, {"json", "json"}, {"json-k8s", "json"}});
  flags.Bool("debug", &config.debug, "write debug messages to --debug-log");
  flags.String(
      "debug-log", &config.debug_log,
      "file for debug messages, or a directory if it ends with /; %ID%, %COMMAND% and %TIMESTAMP% are replaced");
  Choice<std::string>(flags, "platform", &config.platform, "systrap", "how guest code runs: systrap, ptrace or kvm",
                      {{"systrap", "systrap"}, {"ptrace", "ptrace"}, {"kvm", "kvm"}});
  Choice<bool>(flags, "systrap-patching", &config.systrap_patching, config.systrap_patching ? "on" : "off",
               "on: system calls in program text become jumps, as far as that is safe (systrap)",
               {{"on", true}, {"off", false}});
  flags.Bool("systrap-disable-syscall-patching", &config.systrap_disable_patching,
             "the same as --systrap-patching=off");
  Choice<Network>(flags, "network", &config.network, "sandbox",
                  "none (loopback only), sandbox (the container's own network namespace) or host (the host's sockets)",
                  {{"none", Network::kNone}, {"sandbox", Network::kSandbox}, {"host", Network::kHost}});
  flags.Custom("overlay2", "root:memory",
               "where writes to files of the host go: none, or {root|all}:{memory|self|dir=/path}[,size=N]",
               [&config](const std::string& text) -> absl::Status {
                 ASSIGN_OR_RETURN(config.overlay, ParseOverlay(text));
                 return absl::OkStatus();
               });
  const std::map<std::string, FileAccess> access = {{"exclusive", FileAccess::kExclusive},
                                                    {"shared", FileAccess::kShared}};
  Choice<FileAccess>(flags, "file-access", &config.file_access, "exclusive",
                     "exclusive: nobody else changes the root; shared: look again each time", access);
  Choice<FileAccess>(flags, "file-access-mounts", &config.file_access_mounts, "shared", "the same for bind mounts",
                     access);
  flags.Bool("rootless", &config.rootless, "run without root: a user namespace for everything");
  flags.Bool("ignore-cgroups", &config.ignore_cgroups, "do not use cgroups");
  flags.Bool("systemd-cgroup", &config.systemd_cgroup, "read cgroupsPath as slice:prefix:name");
  flags.Bool("oci-seccomp", &config.oci_seccomp, "install the filters of linux.seccomp in the guest's kernel");
  flags.Bool("strace", &config.strace, "log the system calls of the guest");
#ifdef RUNSC_FAIL_ALLOCATIONS
  flags.String("fail-allocations", &config.fail_allocations, "every N-th allocation for a guest fails");
#endif
  flags.String("strace-syscalls", &config.strace_syscalls, "only these, separated by commas");
  const std::map<std::string, std::string> uds = {
      {"none", "none"}, {"open", "open"}, {"create", "create"}, {"all", "all"}};
  Choice<std::string>(flags, "host-uds", &config.host_uds, "none",
                      "Unix sockets of the host that the guest may use: none, open, create or all", uds);
  flags.Alias("fsgofer-host-uds", "host-uds");
  Choice<std::string>(flags, "host-fifo", &config.host_fifo, "none",
                      "FIFOs of the host that the guest may open: none or open", {{"none", "none"}, {"open", "open"}});
  flags.Bool("allow-flag-override", &config.allow_flag_override, "let dev.gvisor.flag.* annotations set any flag");
  flags.Bool("version", &config.version, "print the version");
  flags.Alias("v", "version");
  for (const char* name : kIgnoredBools) flags.IgnoredBool(name);
  for (const char* name : kIgnoredStrings) flags.IgnoredString(name);
}

absl::Status Validate(const Config& config) {
  if (config.overlay.scope != Overlay::Scope::kNone && config.file_access == FileAccess::kShared) {
    // An overlay caches what lies beneath it; changes from outside would show or not, depending on what was looked up
    // before.
    return absl::InvalidArgumentError(
        "--file-access=shared needs --overlay2=none: an overlay does not follow changes of its lower layer");
  }
  return absl::OkStatus();
}

absl::Status ApplyAnnotations(const std::map<std::string, std::string>& annotations, Config& config) {
  constexpr std::string_view kPrefix = "dev.gvisor.flag.";
  FlagSet flags;
  Config current = config;
  RegisterFlags(flags, current);
  current.root = config.root;
  bool changed = false;
  for (const auto& [key, value] : annotations) {
    if (key.compare(0, kPrefix.size(), kPrefix) != 0) continue;
    std::string name = key.substr(kPrefix.size());
    if (!flags.Has(name)) return absl::InvalidArgumentError("annotation " + key + ": there is no flag " + name);
    if (!config.allow_flag_override && !MayOverride(name, value)) {
      return absl::PermissionDeniedError("annotation " + key + " needs --allow-flag-override");
    }
    absl::Status status = flags.Set(name, value);
    if (!status.ok()) return absl::InvalidArgumentError("annotation " + key + ": " + std::string(status.message()));
    changed = true;
  }
  if (!changed) return absl::OkStatus();
  RETURN_IF_ERROR(Validate(current));
  config = std::move(current);
  return absl::OkStatus();
}

}  // namespace runsc::config
