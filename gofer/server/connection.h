// One connection being served: who reads the socket, and what each request does.
//
// The leading thread receives, decodes and carries out requests one after the other; whatever it uses (node table,
// directory streams) needs no lock. Before a request that may take long it hands the lead over and finishes the request
// by itself.
#ifndef GOFER_SERVER_CONNECTION_H_
#define GOFER_SERVER_CONNECTION_H_

#include <pthread.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/errno.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"
#include "gofer/server/node_table.h"
#include "gofer/server/server.h"

namespace gofer {

// Moves its thread to the CPU that requests come from, once a few in a row have come from there (two callers on
// different CPUs that alternate do not drag it to and fro). The thread stays where the last such row came from: it
// sleeps when there is nothing to do.
class CpuFollower {
 public:
  // `cpu` as in Header.
  void Follow(uint16_t cpu);

 private:
  static constexpr int kRow = 3;
  uint16_t here_ = 0;  // 0: not bound yet
  uint16_t candidate_ = 0;
  int row_ = 0;
};

// What one thread needs to answer a request.
struct ServerBuffers {
  ServerBuffers() : packet(kMaxMessageBytes) {}
  std::vector<uint8_t> packet;
  std::vector<uint8_t> out;
  std::vector<char> blob;  // what views of a reply point into
  ParsedRequest request;
  base::UniqueFd passed;  // what came with the request
  base::UniqueFd fd;      // to go with the reply
  CpuFollower follower;
};

class Connection {
 public:
  Connection(base::UniqueFd socket, std::vector<ServerMount> mounts, base::UniqueFd proc_self_fd, size_t max_nodes,
             int max_workers, bool bind_ports);
  ServeEnd Run();

 private:
  enum class Next { kLead, kFollow, kEnd };

  void ServeThread();
  // False when the connection has ended.
  bool AwaitLead();
  // False if nobody can take over: the caller keeps the lead.
  bool HandOver();
  bool StartWorkerLocked();
  void End(ServeEnd how);
  static void* WorkerMain(void* connection);

  Next ServeOne(ServerBuffers& buffers);
  template <typename RequestT>
  Next Answer(const RequestT& request, ServerBuffers& buffers);
  bool Send(ServerBuffers& buffers);

  // handle_tree.cc: look-up and attributes. Each fills in the reply; `buffers` holds what the reply points to, and the
  // descriptor.
  base::Result<void> Handle(const AttachRequest& r, AttachReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const WalkRequest& r, WalkReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const GetAttrRequest& r, AttributesReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const ReadLinkRequest& r, ReadLinkReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const ReaddirRequest& r, ReaddirReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const StatFsRequest& r, StatFsReply& reply, ServerBuffers& buffers);
  // handle_create.cc: what changes directories.
  base::Result<void> Handle(const CreateRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const MkdirRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const SymlinkRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const MknodRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const LinkRequest& r, AttributesReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const BindRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const TmpfileRequest& r, NodeReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const UnlinkRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const RenameRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  // handle_file.cc: what concerns one file.
  base::Result<void> Handle(const OpenRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const SetAttrRequest& r, AttributesReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const GetXattrRequest& r, BlobReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const SetXattrRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const ListXattrRequest& r, BlobReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const RemoveXattrRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const ConnectRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  base::Result<void> Handle(const BindPortRequest& r, EmptyReply& reply, ServerBuffers& buffers);
  // Slow ones, on a node that was looked up while leading; called with or without the lead.
  base::Result<void> Finish(const FsyncRequest& r, const HostNode& node) const;
  base::Result<void> Finish(const SyncFsRequest& r, const HostNode& node) const;

  // A directory node; ENOTDIR.
  base::Result<HostNode*> FindDirectory(NodeId id) const;
  // And on a mount that may be written; EROFS.
  base::Result<HostNode*> FindWritableDirectory(NodeId id) const;
  base::Result<HostNode*> FindWritable(NodeId id) const;
  base::Result<base::UniqueFd> OpenNode(const HostNode& node, uint32_t flags) const;
  // A descriptor to read attributes or data of a regular file or directory through.
  base::Result<base::UniqueFd> OpenForReading(const HostNode& node) const;
  // The symbolic link's target, in buffers.blob.
  base::Result<std::string_view> ReadTarget(int fd, ServerBuffers& buffers) const;
  // Takes the newly made file `name` into the table, with owner and mode as wished; removes it again if that fails.
  base::Result<void> AdoptNew(const HostNode& directory, std::string_view name, base::UniqueFd path, uint32_t type,
                              uint32_t mode, uint32_t uid, uint32_t gid, NodeReply& reply);
  base::Result<void> FinishNew(int fd, uint32_t type, uint32_t mode, uint32_t uid, uint32_t gid,
                               Attributes& attributes) const;

  // Open directory streams, so that a long directory is read in pieces without opening it each time. Few: a stream that
  // was pushed out is opened again at its cookie.
  struct DirectoryStream {
    base::RefPtr<HostNode> node;
    base::UniqueFd fd;
    uint64_t cookie = 0;
    uint64_t used = 0;
  };
  // Entries of `directory` after the one with `cookie`, whose names point into buffers.blob.
  base::Result<void> ReadEntries(HostNode& directory, uint64_t cookie, size_t max_bytes, ReaddirReply& reply,
                                 ServerBuffers& buffers);
  base::Result<DirectoryStream*> StreamAt(HostNode& node, uint64_t cookie);
  void DropStreamsOf(const HostNode& node);

  const base::UniqueFd socket_;
  const std::vector<ServerMount> mounts_;
  const base::UniqueFd proc_self_fd_;
  const int max_workers_;
  const bool bind_ports_;

  // Only the leading thread.
  NodeTable nodes_;
  std::array<DirectoryStream, 16> streams_;
  uint64_t stream_clock_ = 0;
  bool attached_ = false;

  // std::mutex, for there are no fibers in this process and waiting needs a condition variable.
  std::mutex mu_;
  std::condition_variable lead_free_;
  bool lead_taken_ = false;               // guarded by mu_
  bool ended_ = false;                    // guarded by mu_
  ServeEnd end_ = ServeEnd::kPeerClosed;  // guarded by mu_
  int waiting_ = 0;                       // threads in AwaitLead; guarded by mu_
  std::vector<pthread_t> workers_;        // guarded by mu_
};

}  // namespace gofer

#endif  // GOFER_SERVER_CONNECTION_H_
