#include "gofer/server/node_table.h"

namespace gofer {

// An id is generation << 32 | index + 1; no id is 0.

base::Result<NodeId> NodeTable::Add(base::RefPtr<HostNode> node) {
  if (full()) return base::Errno(ENFILE);
  if (first_free_ == 0) {
    slots_.emplace_back();
    first_free_ = static_cast<uint32_t>(slots_.size());
  }
  uint32_t number = first_free_;
  Slot& slot = slots_[number - 1];
  first_free_ = slot.next_free;
  slot.node = std::move(node);
  ++size_;
  return static_cast<NodeId>(uint64_t{slot.generation} << 32 | number);
}

const NodeTable::Slot* NodeTable::Look(NodeId id) const {
  uint64_t value = static_cast<uint64_t>(id);
  uint32_t number = static_cast<uint32_t>(value);
  if (number == 0 || number > slots_.size()) return nullptr;
  const Slot& slot = slots_[number - 1];
  return slot.node && slot.generation == value >> 32 ? &slot : nullptr;
}

base::Result<HostNode*> NodeTable::Find(NodeId id) const {
  const Slot* slot = Look(id);
  if (slot == nullptr) return base::Errno(ESTALE);
  return slot->node.get();
}

void NodeTable::Remove(NodeId id) {
  const Slot* found = Look(id);
  if (found == nullptr) return;
  Slot& slot = slots_[static_cast<size_t>(found - slots_.data())];
  slot.node.reset();
  if (++slot.generation == 0) slot.generation = 1;
  slot.next_free = first_free_;
  first_free_ = static_cast<uint32_t>(found - slots_.data()) + 1;
  --size_;
}

}  // namespace gofer
