#include "sentry/mm/host_batch.h"

namespace sentry {

using platform::MapOp;

void HostBatch::Map(base::Range guest, int fd, uint64_t offset, uint8_t prot, bool populate) {
  while (!ops_.empty() && ops_.back().kind == MapOp::Kind::kUnmap && ops_.back().start >= guest.start &&
         ops_.back().start + ops_.back().length <= guest.end) {
    ops_.pop_back();
  }
  if (!ops_.empty()) {
    MapOp& last = ops_.back();
    if (last.kind == MapOp::Kind::kMap && last.fd == fd && last.prot == prot && last.populate == populate &&
        last.start + last.length == guest.start && last.offset + last.length == offset) {
      last.length += guest.length();
      return;
    }
  }
  ops_.push_back({.kind = MapOp::Kind::kMap,
                  .populate = populate,
                  .prot = prot,
                  .fd = fd,
                  .start = guest.start,
                  .length = guest.length(),
                  .offset = offset});
}

void HostBatch::Unmap(base::Range guest) {
  if (!ops_.empty()) {
    MapOp& last = ops_.back();
    if (last.kind == MapOp::Kind::kUnmap && last.start + last.length == guest.start) {
      last.length += guest.length();
      return;
    }
  }
  ops_.push_back({.kind = MapOp::Kind::kUnmap, .start = guest.start, .length = guest.length()});
}

void HostBatch::Protect(base::Range guest, uint8_t prot) {
  if (!ops_.empty()) {
    MapOp& last = ops_.back();
    if (last.kind == MapOp::Kind::kProtect && last.prot == prot && last.start + last.length == guest.start) {
      last.length += guest.length();
      return;
    }
  }
  ops_.push_back({.kind = MapOp::Kind::kProtect, .prot = prot, .start = guest.start, .length = guest.length()});
}

void HostBatch::Append(HostBatch&& later) {
  for (const MapOp& op : later.ops_) {
    base::Range guest{op.start, op.start + op.length};
    switch (op.kind) {
      case MapOp::Kind::kMap:
        Map(guest, op.fd, op.offset, op.prot, op.populate);
        break;
      case MapOp::Kind::kUnmap:
        Unmap(guest);
        break;
      case MapOp::Kind::kProtect:
        Protect(guest, op.prot);
        break;
    }
  }
  free_.insert(free_.end(), later.free_.begin(), later.free_.end());
  for (auto& object : later.hold_) hold_.push_back(std::move(object));
  restores_text_ |= later.restores_text_;
  later = HostBatch();
}

void HostBatch::Finish(platform::MemoryFile& memory_file) {
  for (const platform::FileRange& pages : free_) memory_file.DecRef(pages);
  free_.clear();
  ops_.clear();
  hold_.clear();
  restores_text_ = false;
}

}  // namespace sentry
