#include "runsc/container/gofer_process.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/clean_pages.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "gofer/server/server.h"
#include "runsc/host/errno_status.h"
#include "runsc/oci/names.h"
#include "sentry/boot/isolation/confine.h"
#include "sentry/boot/isolation/seccomp.h"
#include "sentry/control/ready.h"

namespace runsc::container {
namespace {

namespace isolation = sentry::isolation;

// Files of any owner are read, made and given away on the guest's behalf, whose own rights the sentry has checked.
// With ports, its sockets are bound to those that take a capability.
uint64_t GoferCapabilities(bool bind_ports) {
  uint64_t set = bind_ports ? uint64_t{1} << *oci::CapabilityNumber("NET_BIND_SERVICE") : 0;
  for (const char* name : {"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "MKNOD"}) {
    set |= uint64_t{1} << *oci::CapabilityNumber(name);
  }
  return set;
}

// A copy of the mount tree at the path that nobody else has: detached, private, without devices and set-user-id.
absl::StatusOr<base::UniqueFd> CloneTree(const GoferTree& tree) {
  unsigned recursive = tree.recursive ? AT_RECURSIVE : 0;
  base::UniqueFd fd(static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, tree.source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive)));
  if (!fd.valid()) return host::ErrnoStatus(errno, "cannot take " + tree.source + " as a mount");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (tree.read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (tree.no_exec) attributes.attr_set |= MOUNT_ATTR_NOEXEC;
  attributes.propagation = 1 << 18;  // MS_PRIVATE
  if (syscall(SYS_mount_setattr, fd.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof(attributes)) < 0) {
    return host::ErrnoStatus(errno, "cannot restrict the mount " + tree.source);
  }
  return fd;
}

// Makes a directory, or an empty file, and the directories above it where they are missing. Links are followed inside
// of the tree only.
absl::Status MakeMountPoint(int root, const MountPoint& point) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  auto open_in_root = [&](const std::string& path) {
    return base::UniqueFd(static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how))));
  };
  if (open_in_root(point.path).valid()) return absl::OkStatus();
  for (size_t slash = 0; slash != std::string::npos;) {
    size_t next = point.path.find('/', slash + 1);
    std::string name = point.path.substr(slash + 1, next == std::string::npos ? next : next - slash - 1);
    base::UniqueFd parent = open_in_root(point.path.substr(0, slash) + "/");
    if (!parent.valid()) return host::ErrnoStatus(errno, "cannot make the mount point " + point.path);
    int made = point.is_file && next == std::string::npos ? mknodat(parent.get(), name.c_str(), S_IFREG | 0644, 0)
                                                          : mkdirat(parent.get(), name.c_str(), 0755);
    if (made < 0 && errno != EEXIST) return host::ErrnoStatus(errno, "cannot make the mount point " + point.path);
    slash = next;
  }
  return absl::OkStatus();
}

absl::Status Prepare(GoferSpawnOptions& options, base::UniqueFd go, int ready,
                     std::vector<gofer::ServerMount>& mounts) {
  char byte;
  ssize_t n;
  do {
    n = read(go.get(), &byte, 1);
  } while (n < 0 && errno == EINTR);
  if (n != 1) return absl::CancelledError("runsc ended while it started the gofer");
  go.reset();

  isolation::ResetSignals();
  setsid();
  umask(0);
  base::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return host::ErrnoStatus(errno, "cannot open /dev/null");
  // /proc is the host's here: "self" is this process all the same, and stays so after the root is gone.
  base::UniqueFd proc_self_fd(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!proc_self_fd.valid()) return host::ErrnoStatus(errno, "cannot open /proc/self/fd");
  // The filter knows it by its number, and nothing else of ours is that high.
  isolation::RaiseOwnLimits();
  for (int fd : {options.socket.get(), ready, options.debug_log.get()}) {
    if (fd == isolation::kGoferProcSelfFd) return absl::InternalError("too many descriptors were inherited");
  }
  if (dup2(proc_self_fd.get(), isolation::kGoferProcSelfFd) < 0) return host::ErrnoStatus(errno, "dup2");
  std::vector<int> keep = {isolation::kGoferProcSelfFd, options.socket.get(), ready, options.debug_log.get()};
  if (!options.mount_points.empty()) {
    base::UniqueFd root(open(options.trees[0].source.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return host::ErrnoStatus(errno, "cannot open " + options.trees[0].source);
    for (const MountPoint& point : options.mount_points) RETURN_IF_ERROR(MakeMountPoint(root.get(), point));
  }
  for (const GoferTree& tree : options.trees) {
    gofer::ServerMount mount;
    ASSIGN_OR_RETURN(mount.root, CloneTree(tree));
    mount.read_only = tree.read_only;
    mount.host_uds = options.host_uds;
    mount.host_uds_create = options.host_uds_create;
    mount.host_fifo = options.host_fifo;
    keep.push_back(mount.root.get());
    mounts.push_back(std::move(mount));
  }
  RETURN_IF_ERROR(isolation::EnterEmptyRoot());
  if (geteuid() != 0) RETURN_IF_ERROR(isolation::SetIds(0, 0));  // id 0 of the container, in a user namespace
  RETURN_IF_ERROR(isolation::LimitCapabilities(GoferCapabilities(options.bind_ports)));

  RETURN_IF_ERROR(isolation::KeepOnlyDescriptors(keep, null.get()));
  (void)null.release();
  (void)proc_self_fd.release();
  if (options.die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pollfd p{ready, 0, 0};
    if (poll(&p, 1, 0) > 0 && (p.revents & POLLERR) != 0) return absl::CancelledError("runsc ended");
  }
  prctl(PR_SET_DUMPABLE, 0);
  const bool sockets = options.host_uds || options.host_uds_create;
  return isolation::InstallFilter(sockets ? isolation::FilterId::kGoferHostUds : isolation::FilterId::kGofer,
                                  options.debug);
}

}  // namespace

int RunGofer(GoferSpawnOptions options, base::UniqueFd go, base::UniqueFd ready) {
  prctl(PR_SET_NAME, "runsc-gofer");
  base::SetUserLog({});
  base::SetDebugLog({options.debug_log.get(), base::LogFormat::kText,
                     options.debug ? base::LogLevel::kDebug : base::LogLevel::kInfo});
  std::vector<gofer::ServerMount> mounts;
  absl::Status status = Prepare(options, std::move(go), ready.get(), mounts);
  sentry::control::ReportReady(std::move(ready), status);
  if (!status.ok()) return 128;
  gofer::ServerOptions server;
  server.proc_self_fd.reset(isolation::kGoferProcSelfFd);
  server.bind_ports = options.bind_ports;
  base::DropCleanPages();  // what it took to get here is not needed again
  gofer::Serve(std::move(options.socket), std::move(mounts), std::move(server));
  return 0;
}

}  // namespace runsc::container
