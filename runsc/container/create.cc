#include "runsc/container/create.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/logging.h"
#include "base/status_macros.h"
#include "gofer/protocol/channel.h"
#include "runsc/cgroup/cgroup.h"
#include "runsc/container/boot_plan.h"
#include "runsc/container/hooks.h"
#include "runsc/container/spawn.h"
#include "runsc/host/errno_status.h"
#include "runsc/host/files.h"
#include "runsc/host/process.h"
#include "runsc/oci/spec.h"

namespace runsc::container {
namespace {

constexpr uint64_t kBindService = uint64_t{1} << CAP_NET_BIND_SERVICE;

// A listening socket in the state directory. Bound through the directory's descriptor: a path may have at most 107
// bytes (man 7 unix).
absl::StatusOr<base::UniqueFd> ListenForControl(const StateDirectory& directory) {
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return host::ErrnoStatus(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/control.sock", directory.fd());
  if (bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 || listen(socket.get(), 128) < 0) {
    return host::ErrnoStatus(errno, "cannot listen on " + directory.path() + "/control.sock");
  }
  return socket;
}

// The caller's standard streams and --pass-fd descriptors, for the guest.
absl::Status TakeDescriptors(const CreateOptions& options, sentry::control::ProcessSpec& process) {
  for (int fd = 0; fd < 3; ++fd) process.stdio[static_cast<size_t>(fd)].reset(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  for (auto [own, guest] : options.passed_fds) {
    base::UniqueFd fd(fcntl(own, F_DUPFD_CLOEXEC, 3));
    if (!fd.valid()) return host::ErrnoStatus(errno, "cannot pass descriptor " + std::to_string(own));
    process.passed_fds.emplace_back(std::move(fd), guest);
  }
  return absl::OkStatus();
}

absl::Status TakeTerminal(sentry::control::ProcessSpec& process, std::optional<Pty>& terminal) {
  ASSIGN_OR_RETURN(terminal, OpenPty(process.terminal_rows, process.terminal_columns));
  for (base::UniqueFd& fd : process.stdio) {
    fd = terminal->slave.Duplicate();
    if (!fd.valid()) return host::ErrnoStatus(EMFILE, "cannot duplicate the terminal");
  }
  terminal->slave.reset();
  return absl::OkStatus();
}

// A file for the --overlay2 media self and dir: beside what it overlays, or in the directory. It has no name, so that
// it goes when the sandbox does, however that ends.
absl::StatusOr<base::UniqueFd> OpenOverlayFile(const config::Overlay& overlay, const std::string& self) {
  const std::string& directory = overlay.medium == config::Overlay::Medium::kDir ? overlay.dir : self;
  base::UniqueFd fd(open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() && (errno == EOPNOTSUPP || errno == EISDIR)) {  // not every file system has nameless files
    std::string path = directory + "/.runsc.filestore.XXXXXX";
    fd.reset(mkostemp(path.data(), O_CLOEXEC));
    if (fd.valid()) unlink(path.c_str());
  }
  if (!fd.valid()) return host::ErrnoStatus(errno, "--overlay2: cannot make a file in " + directory);
  return fd;
}

absl::Status OpenOverlayFiles(const config::Overlay& overlay, const std::string& rootfs, BootPlan& plan) {
  if (overlay.medium == config::Overlay::Medium::kMemory) return absl::OkStatus();
  if (plan.boot.root_overlay == sentry::boot::OverlayMedium::kFile) {
    ASSIGN_OR_RETURN(plan.boot.overlay_file, OpenOverlayFile(overlay, rootfs));
  }
  for (sentry::boot::MountSpec& mount : plan.boot.mounts) {
    if (mount.overlay != sentry::boot::OverlayMedium::kFile) continue;
    const std::string& source = plan.trees[static_cast<size_t>(mount.gofer_mount)].source;
    ASSIGN_OR_RETURN(mount.overlay_file, OpenOverlayFile(overlay, source));
  }
  return absl::OkStatus();
}

// For --network=host: the sandbox has no path to /proc. They tell of the namespace of who opened them, that is ours.
std::vector<std::pair<std::string, base::UniqueFd>> OpenHostNetFiles() {
  std::vector<std::pair<std::string, base::UniqueFd>> files;
  for (const char* name : {"dev", "route", "ipv6_route", "if_inet6", "arp", "tcp", "tcp6", "udp", "udp6", "snmp",
                           "snmp6", "netstat", "sockstat", "sockstat6"}) {
    base::UniqueFd fd(open((std::string("/proc/self/net/") + name).c_str(), O_RDONLY | O_CLOEXEC));
    // A host without IPv6 lacks some.
    if (fd.valid()) files.emplace_back(name, std::move(fd));
  }
  return files;
}

std::string OwnerName() {
  // Not getpwuid: a static program would load the name service's libraries.
  return geteuid() == 0 ? "root" : std::to_string(geteuid());
}

int64_t NowUnixNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// What has been made so far, taken back unless Keep is called.
class Undo {
 public:
  ~Undo() {
    if (kept_) return;
    if (sandbox) sandbox->Kill();
    if (gofer) gofer->Kill();
    if (cgroup) cgroup->Remove();
    if (directory) (void)directory->Remove();
  }
  void Keep() { kept_ = true; }

  StateDirectory* directory = nullptr;
  std::optional<Child> sandbox;
  std::optional<Child> gofer;
  std::optional<cgroup::Cgroup> cgroup;

 private:
  bool kept_ = false;
};

absl::StatusOr<oci::Spec> LoadSpec(const CreateOptions& options, std::string& json) {
  if (options.spec_json) {
    json = *options.spec_json;
  } else {
    auto text = host::ReadFile(options.bundle + "/config.json");
    if (absl::IsNotFound(text.status())) {
      return absl::NotFoundError("there is no bundle at " + options.bundle +
                                 ": config.json: no such file or directory");
    }
    if (!text.ok()) return text.status();
    json = std::move(*text);
  }
  return oci::ParseSpec(json);
}

absl::Status SetUpCgroup(const config::Config& config, const oci::Spec& spec, State& state, Undo& undo) {
  if (config.ignore_cgroups || spec.linux_.cgroups_path.empty()) return absl::OkStatus();
  auto cgroup = cgroup::Cgroup::Create(cgroup::Layout::Detect(), spec.linux_.cgroups_path, config.systemd_cgroup);
  if (!cgroup.ok()) {
    // Without root there is rarely one that we may write; runc goes on, too.
    if (config.rootless || geteuid() != 0) {
      LOG_WARNING("%s", std::string(cgroup.status().message()).c_str());
      return absl::OkStatus();
    }
    return cgroup.status();
  }
  undo.cgroup = std::move(*cgroup);
  state.cgroup_directories = undo.cgroup->directories();
  state.cgroup_created = undo.cgroup->created();
  return undo.cgroup->Apply(spec.linux_.resources);
}

void SetOomScore(pid_t pid, int score) {
  absl::Status status =
      host::WriteExisting(AT_FDCWD, "/proc/" + std::to_string(pid) + "/oom_score_adj", std::to_string(score));
  // Lowering it takes CAP_SYS_RESOURCE, which container hosts may not give us.
  if (!status.ok()) LOG_WARNING("process.oomScoreAdj: %s", std::string(status.message()).c_str());
}

absl::Status RunCreateHooks(const oci::Hooks& hooks, const State& state) {
  if (hooks.prestart.empty() && hooks.create_runtime.empty() && hooks.create_container.empty()) return absl::OkStatus();
  std::string json = OciStateJson(state, Status::kCreating, false);
  RETURN_IF_ERROR(RunHooks(hooks.prestart, "prestart", json, state.bundle));
  RETURN_IF_ERROR(RunHooks(hooks.create_runtime, "createRuntime", json, state.bundle));
  if (hooks.create_container.empty()) return absl::OkStatus();
  // "In the container namespace", with a path of the host: of the namespaces that the sandbox has, the network is the
  // one to be set up.
  ASSIGN_OR_RETURN(base::UniqueFd network,
                   host::Open(AT_FDCWD, "/proc/" + std::to_string(state.sandbox.pid) + "/ns/net", O_RDONLY));
  return RunHooks(hooks.create_container, "createContainer", json, state.bundle, network.get());
}

absl::StatusOr<base::UniqueFd> StartGofer(const config::Config& config, const oci::Spec& spec,
                                          const CreateOptions& options, BootPlan& plan, Undo& undo) {
  auto channel = gofer::MakeChannel();
  if (!channel.ok()) return host::ErrnoStatus(channel.error().value(), "cannot make the gofer's channel");
  GoferSpawnOptions gofer;
  gofer.socket = std::move(channel->server);
  gofer.trees = std::move(plan.trees);
  gofer.mount_points = std::move(plan.mount_points);
  gofer.host_uds = config.host_uds == "open" || config.host_uds == "all";
  gofer.host_uds_create = config.host_uds == "create" || config.host_uds == "all";
  gofer.host_fifo = config.host_fifo == "open";
  gofer.bind_ports = plan.boot.network == sentry::boot::NetworkMode::kHost && spec.process &&
                     spec.process->capabilities && (spec.process->capabilities->bounding & kBindService) != 0;
  gofer.debug = config.debug;
  gofer.debug_log = OpenDebugLog(config, options.id, "gofer");
  gofer.die_with_parent = options.attached;
  for (const oci::Namespace& n : spec.linux_.namespaces) {
    if (n.type != "user") continue;
    gofer.uid_mappings = spec.linux_.uid_mappings;
    gofer.gid_mappings = spec.linux_.gid_mappings;
  }
  ASSIGN_OR_RETURN(undo.gofer, SpawnGofer(std::move(gofer)));
  return std::move(channel->client);
}

absl::Status CheckTerminal(const oci::Process& process, const CreateOptions& options) {
  if (process.terminal && options.console_socket.empty() && !options.attached) {
    return absl::InvalidArgumentError(
        "config.json: process.terminal is true: a detached container needs --console-socket");
  }
  if (!process.terminal && !options.console_socket.empty()) {
    return absl::InvalidArgumentError("--console-socket is given, but config.json: process.terminal is not true");
  }
  return absl::OkStatus();
}

}  // namespace

base::UniqueFd OpenDebugLog(const config::Config& config, const std::string& id, const std::string& command) {
  std::string path = config.debug_log;
  if (path.empty()) return base::UniqueFd();
  if (path.back() == '/') path += "runsc.log.%TIMESTAMP%.%ID%.%COMMAND%.txt";
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  char stamp[80];
  snprintf(stamp + strftime(stamp, 32, "%Y%m%d-%H%M%S", &utc), 32, ".%06ld", now.tv_nsec / 1000);
  for (const auto& [pattern, value] : {std::pair<const char*, std::string>{"%TIMESTAMP%", stamp},
                                       {"%ID%", id.empty() ? "none" : id},
                                       {"%COMMAND%", command}}) {
    for (size_t at = path.find(pattern); at != std::string::npos; at = path.find(pattern, at + value.size())) {
      path.replace(at, strlen(pattern), value);
    }
  }
  if (size_t slash = path.find_last_of('/'); slash != std::string::npos && slash > 0) {
    (void)host::MakeDirectories(path.substr(0, slash), 0755);
  }
  return base::UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
}

absl::StatusOr<CreatedContainer> CreateContainer(const config::Config& flags, const CreateOptions& options) {
  RETURN_IF_ERROR(ValidateId(options.id));
  std::string spec_json;
  ASSIGN_OR_RETURN(oci::Spec spec, LoadSpec(options, spec_json));
  config::Config config = flags;
  RETURN_IF_ERROR(config::ApplyAnnotations(spec.annotations, config));
  RETURN_IF_ERROR(CheckTerminal(*spec.process, options));

  CreatedContainer container;
  State& state = container.state;
  state.id = options.id;
  state.bundle = options.bundle;
  state.rootfs = spec.root.path[0] == '/' ? host::CleanPath(spec.root.path)
                                          : host::CleanPath(options.bundle + "/" + spec.root.path);
  state.created_unix_ns = NowUnixNs();
  state.owner = OwnerName();
  state.creator = {getpid(), host::GetProcessStatus(getpid()).start_time};
  state.annotations = spec.annotations;
  ASSIGN_OR_RETURN(BootPlan plan, MakeBootPlan(spec, config, options.id, options.bundle, state.rootfs));
  RETURN_IF_ERROR(OpenOverlayFiles(config.overlay, state.rootfs, plan));

  Undo undo;
  ASSIGN_OR_RETURN(container.directory, StateDirectory::Create(config.root, options.id));
  undo.directory = &container.directory;
  RETURN_IF_ERROR(host::WriteAtomically(container.directory.fd(), "config.json", spec_json, 0600));
  RETURN_IF_ERROR(SetUpCgroup(config, spec, state, undo));

  sentry::boot::BootSpec& boot = plan.boot;
  ASSIGN_OR_RETURN(boot.control, ListenForControl(container.directory));
  std::optional<Pty> terminal;
  RETURN_IF_ERROR(TakeDescriptors(options, boot.process));
  if (boot.process.terminal) RETURN_IF_ERROR(TakeTerminal(boot.process, terminal));
  boot.user_log = base::UniqueFd();
  boot.debug_log = OpenDebugLog(config, options.id, "boot");
  if (!boot.debug_log.valid() && options.attached && (config.debug || config.strace)) {
    boot.debug_log.reset(fcntl(2, F_DUPFD_CLOEXEC, 3));
  }
  boot.log_json = config.log_format == "json";
  boot.die_with_parent = options.attached;
  bool host_network = boot.network == sentry::boot::NetworkMode::kHost;
  if (host_network) boot.host_net_files = OpenHostNetFiles();

  ASSIGN_OR_RETURN(boot.gofer, StartGofer(config, spec, options, plan, undo));
  ASSIGN_OR_RETURN(undo.sandbox,
                   SpawnSandbox(std::move(boot), {host_network ? "" : plan.network_namespace, options.factory}));
  state.gofer = undo.gofer->process();
  state.sandbox = undo.sandbox->process();
  // Before either goes on: whoever comes after a creator that was killed has to find them.
  RETURN_IF_ERROR(container.directory.Save(state));
  if (undo.cgroup) {
    RETURN_IF_ERROR(undo.cgroup->Join(state.sandbox.pid));
    RETURN_IF_ERROR(undo.cgroup->Join(state.gofer.pid));
  }
  if (spec.process->oom_score_adj) SetOomScore(state.sandbox.pid, *spec.process->oom_score_adj);
  RETURN_IF_ERROR(undo.gofer->Release());
  RETURN_IF_ERROR(RunCreateHooks(spec.hooks, state));
  RETURN_IF_ERROR(undo.sandbox->Release());
  RETURN_IF_ERROR(undo.gofer->AwaitReady("the gofer"));
  RETURN_IF_ERROR(undo.sandbox->AwaitReady("the sandbox"));

  if (!options.console_socket.empty()) {
    RETURN_IF_ERROR(SendMaster(options.console_socket, *terminal));
  } else {
    container.terminal = std::move(terminal);
  }
  state.status = Status::kCreated;
  RETURN_IF_ERROR(container.directory.Save(state));
  if (!options.pid_file.empty()) {
    RETURN_IF_ERROR(host::WriteAtomically(AT_FDCWD, options.pid_file, std::to_string(state.sandbox.pid), 0644));
  }
  undo.Keep();
  return container;
}

}  // namespace runsc::container
