// The files that the peer knows, by id. Ids carry a generation, so that an id that was closed does not come to mean
// another file.
#ifndef GOFER_SERVER_NODE_TABLE_H_
#define GOFER_SERVER_NODE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/errno.h"
#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"

namespace gofer {

// A host file, held by an O_PATH descriptor. Immutable. Counted, because a request that runs on a worker keeps it while
// the peer may close its id.
struct HostNode final : base::RefCounted {
  HostNode(base::UniqueFd path, uint32_t type, uint32_t mount_index)
      : fd(std::move(path)), type(type), mount(mount_index) {}
  const base::UniqueFd fd;
  const uint32_t type;  // S_IF*; an inode never changes it
  const uint32_t mount;
};

// Used by one thread at a time (the one that leads the connection).
class NodeTable {
 public:
  explicit NodeTable(size_t max_nodes) : max_nodes_(max_nodes) {}

  // ENFILE at the limit.
  base::Result<NodeId> Add(base::RefPtr<HostNode> node);
  // ESTALE for an id that is not known.
  base::Result<HostNode*> Find(NodeId id) const;
  // Unknown ids are ignored.
  void Remove(NodeId id);
  bool full() const { return size_ >= max_nodes_; }
  size_t size() const { return size_; }
  size_t max_nodes() const { return max_nodes_; }

 private:
  struct Slot {
    base::RefPtr<HostNode> node;  // null: free
    uint32_t generation = 1;
    uint32_t next_free = 0;  // index + 1
  };
  // Null if `id` names no occupied slot.
  const Slot* Look(NodeId id) const;

  const size_t max_nodes_;
  std::vector<Slot> slots_;
  uint32_t first_free_ = 0;  // index + 1
  size_t size_ = 0;
};

}  // namespace gofer

#endif  // GOFER_SERVER_NODE_TABLE_H_
