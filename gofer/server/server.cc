#include "gofer/server/server.h"

#include <algorithm>

#include "gofer/server/connection.h"
#include "gofer/server/host_unsafe.h"

namespace gofer {

namespace {

// Descriptors that are not nodes: standard streams, socket, roots, directory streams, and one being opened per thread.
constexpr uint64_t kReservedFds = 48;

}  // namespace

ServeEnd Serve(base::UniqueFd socket, std::vector<ServerMount> mounts, ServerOptions options) {
  if (!options.proc_self_fd.valid()) {
    auto opened = host::OpenProcSelfFd();
    if (!opened.ok()) return ServeEnd::kHostError;
    options.proc_self_fd = std::move(*opened);
  }
  auto descriptors = host::DescriptorLimit();
  if (!descriptors.ok()) return ServeEnd::kHostError;
  uint64_t reserved = kReservedFds + mounts.size();
  uint64_t room = *descriptors > reserved ? *descriptors - reserved : 1;
  if (std::any_of(mounts.begin(), mounts.end(), [](const ServerMount& m) { return m.host_uds || m.host_uds_create; }) &&
      !host::EnterProcSelfFd(options.proc_self_fd.get()).ok()) {
    return ServeEnd::kHostError;
  }
  Connection connection(std::move(socket), std::move(mounts), std::move(options.proc_self_fd),
                        static_cast<size_t>(std::min<uint64_t>(options.max_nodes, room)), options.max_workers,
                        options.bind_ports);
  return connection.Run();
}

}  // namespace gofer
