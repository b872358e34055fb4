// The gofer's serving loop. The process around it (namespaces, pivot_root, capabilities, seccomp) is made by runsc.
//
// One thread serves; a request that may wait on a disk (fsync, syncfs) hands the socket over to another thread first
// (leader and followers), so that one slow request does not hold up the others. Workers start at the first such
// request.
//
// The peer is not trusted: any bytes are answered with an error or end the connection. Memory is bounded: `max_nodes`
// open files, one packet of kMaxMessageBytes per thread. Files are reached only from the mounts' roots, component by
// component with openat(O_PATH | O_NOFOLLOW), and opened only through /proc/self/fd after their type is known; a
// process on the host that renames things meanwhile cannot make a walk end outside of the tree. (It can move a
// directory that is being walked somewhere else, as it can under any process's working directory.)
//
// Not offered: file handles.
#ifndef GOFER_SERVER_SERVER_H_
#define GOFER_SERVER_SERVER_H_

#include <cstdint>
#include <vector>

#include "base/unique_fd.h"

namespace gofer {

struct ServerMount {
  base::UniqueFd root;  // a directory or any other file (a bind mount of a single file); O_PATH is enough
  bool read_only = false;
  bool host_uds = false;         // --host-uds=open or all
  bool host_uds_create = false;  // --host-uds=create or all
  bool host_fifo = false;        // --host-fifo=open
};

struct ServerOptions {
  // A descriptor of /proc/self/fd of the process that serves (a fork makes it the parent's), O_PATH is enough. Opened
  // here if invalid, which works only while /proc is still visible.
  base::UniqueFd proc_self_fd;
  // Nodes that the peer may hold. The real limit is what RLIMIT_NOFILE leaves room for; set that to max_nodes + 64 or
  // more.
  uint32_t max_nodes = 64 << 10;
  // Threads beyond the first.
  int max_workers = 2;
  // Whether sockets of the peer are bound to ports on its behalf: takes CAP_NET_BIND_SERVICE.
  bool bind_ports = false;
};

enum class ServeEnd {
  kPeerClosed,     // the ordinary end
  kProtocolError,  // the peer sent something that cannot be answered
  kHostError,      // the socket or /proc/self/fd is unusable
};

// Serves the connection until it ends. Closes everything it was given. The process should have umask 0 (modes arrive
// complete) and no RLIMIT_FSIZE (SIGXFSZ would end it). It may have few capabilities; of use are CHOWN DAC_OVERRIDE
// DAC_READ_SEARCH FOWNER FSETID MKNOD. Host calls: gofer/server/host_calls.h.
ServeEnd Serve(base::UniqueFd socket, std::vector<ServerMount> mounts, ServerOptions options);

}  // namespace gofer

#endif  // GOFER_SERVER_SERVER_H_
