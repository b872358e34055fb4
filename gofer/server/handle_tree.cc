// Look-up, attributes, directories.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "gofer/server/connection.h"
#include "gofer/server/host_unsafe.h"

namespace gofer {

namespace {

constexpr size_t kMinReaddirBytes = 1024;
constexpr size_t kMaxDirentBytes = 280;  // struct linux_dirent64 with a name of 255 bytes

}  // namespace

base::Result<HostNode*> Connection::FindDirectory(NodeId id) const {
  HostNode* node = TRY(nodes_.Find(id));
  if (node->type != S_IFDIR) return base::Errno(ENOTDIR);
  return node;
}

base::Result<HostNode*> Connection::FindWritable(NodeId id) const {
  HostNode* node = TRY(nodes_.Find(id));
  if (mounts_[node->mount].read_only) return base::Errno(EROFS);
  return node;
}

base::Result<HostNode*> Connection::FindWritableDirectory(NodeId id) const {
  HostNode* node = TRY(FindDirectory(id));
  if (mounts_[node->mount].read_only) return base::Errno(EROFS);
  return node;
}

base::Result<void> Connection::Handle(const AttachRequest& r, AttachReply& reply, ServerBuffers& buffers) {
  if (r.version < kVersion || r.max_message_bytes < kMaxMessageBytes) return base::Errno(EPROTONOSUPPORT);
  if (r.mount >= mounts_.size()) return base::Errno(EINVAL);
  const ServerMount& mount = mounts_[r.mount];
  base::UniqueFd root = TRY(host::Duplicate(mount.root.get()));
  reply.attributes = TRY(host::GetAttributes(root.get()));
  reply.root = TRY(nodes_.Add(base::MakeRef<HostNode>(std::move(root), reply.attributes.mode & S_IFMT, r.mount)));
  reply.version = kVersion;
  reply.max_message_bytes = kMaxMessageBytes;
  reply.max_in_flight = kMaxInFlight;
  reply.max_nodes = static_cast<uint32_t>(nodes_.max_nodes());
  reply.mount_flags = (mount.read_only ? kMountReadOnly : 0) | (mount.host_uds ? kMountHostUds : 0) |
                      (mount.host_fifo ? kMountHostFifo : 0) | (mount.host_uds_create ? kMountHostUdsCreate : 0);
  attached_ = true;
  return {};
}

base::Result<std::string_view> Connection::ReadTarget(int fd, ServerBuffers& buffers) const {
  buffers.blob.resize(kMaxLinkBytes + 1);
  std::string_view target = TRY(host::ReadLink(fd, buffers.blob));
  // Linux keeps targets below PATH_MAX; another file system's longer one would come back cut off.
  if (target.size() > kMaxLinkBytes) return base::Errno(ENAMETOOLONG);
  return target;
}

base::Result<void> Connection::Handle(const WalkRequest& r, WalkReply& reply, ServerBuffers& buffers) {
  const bool want_nodes = (r.flags & kWalkNoNodes) == 0;
  const bool want_open = (r.flags & kWalkOpen) != 0;
  const bool want_list = (r.flags & kWalkList) != 0;
  if ((want_open || want_list) && !want_nodes) return base::Errno(EINVAL);
  base::RefPtr<HostNode> at(TRY(nodes_.Find(r.base)));
  reply.components.reserve(std::max<size_t>(r.names.size(), 1));

  // Appends what `at` now is, as a component. False when it cannot be had, with stop_errno set.
  auto append = [&](const base::RefPtr<HostNode>& node, const Attributes& attributes) {
    NodeId id = NodeId::kNone;
    if (want_nodes) {
      auto added = nodes_.Add(node);
      if (!added.ok()) {
        reply.stop_errno = static_cast<uint32_t>(added.error().value());
        return false;
      }
      id = *added;
    }
    reply.components.push_back({.node = id, .attributes = attributes});
    return true;
  };
  auto stop = [&](base::Errno error) { reply.stop_errno = static_cast<uint32_t>(error.value()); };

  if (r.names.empty()) {
    Attributes attributes = TRY(host::GetAttributes(at->fd.get()));
    if (!append(at, attributes)) return {};
  }
  for (size_t i = 0; i < r.names.size(); ++i) {
    // Links were not entered: `at` is one only if it is the base.
    if (at->type != S_IFDIR) {
      stop(base::Errno(ENOTDIR));
      return {};
    }
    const bool last = i + 1 == r.names.size();
    if (last && !want_nodes) {
      // One host call instead of three, unless it turns out to be a link, whose target is wanted from the same inode.
      auto attributes = host::GetAttributesAt(at->fd.get(), r.names[i]);
      if (!attributes.ok()) {
        stop(attributes.error());
        return {};
      }
      if (!S_ISLNK(attributes->mode)) {
        append(nullptr, *attributes);
        return {};
      }
    }
    if (want_nodes && nodes_.full()) {
      stop(base::Errno(ENFILE));
      return {};
    }
    auto fd = host::OpenPath(at->fd.get(), r.names[i]);
    if (!fd.ok()) {
      stop(fd.error());
      return {};
    }
    auto attributes = host::GetAttributes(fd->get());
    if (!attributes.ok()) {
      stop(attributes.error());
      return {};
    }
    const uint32_t type = attributes->mode & S_IFMT;
    if (type == S_IFLNK) {
      auto target = ReadTarget(fd->get(), buffers);
      if (!target.ok()) {
        stop(target.error());
        return {};
      }
      reply.symlink_target = *target;
    }
    at = base::MakeRef<HostNode>(std::move(*fd), type, at->mount);
    if (!append(at, *attributes)) return {};
    if (type == S_IFLNK) return {};
  }
  if (want_open && at->type == S_IFREG) {
    auto opened = OpenNode(*at, r.open_flags);
    if (opened.ok()) {
      buffers.fd = std::move(*opened);
      if ((r.open_flags & O_TRUNC) != 0) {
        auto after = host::GetAttributes(at->fd.get());
        if (after.ok()) reply.components.back().attributes = *after;
      }
    } else {
      reply.open_errno = static_cast<uint32_t>(opened.error().value());
    }
  }
  // A bonus: whoever wants to know why it cannot be listed asks for that.
  if (want_list && at->type == S_IFDIR && !ReadEntries(*at, 0, kWalkListBytes, reply.listing, buffers).ok()) {
    reply.listing = ReaddirReply();
  }
  return {};
}

base::Result<void> Connection::Handle(const GetAttrRequest& r, AttributesReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  reply.attributes = TRY(host::GetAttributes(node->fd.get()));
  return {};
}

base::Result<void> Connection::Handle(const ReadLinkRequest& r, ReadLinkReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  if (node->type != S_IFLNK) return base::Errno(EINVAL);
  reply.target = TRY(ReadTarget(node->fd.get(), buffers));
  return {};
}

base::Result<void> Connection::Handle(const StatFsRequest& r, StatFsReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  reply = TRY(host::GetStatFs(node->fd.get()));
  return {};
}

base::Result<Connection::DirectoryStream*> Connection::StreamAt(HostNode& node, uint64_t cookie) {
  DirectoryStream* oldest = &streams_[0];
  for (DirectoryStream& stream : streams_) {
    if (stream.node.get() == &node) {
      if (stream.cookie != cookie || cookie == 0) TRY(host::Seek(stream.fd.get(), cookie));
      stream.cookie = cookie;
      stream.used = ++stream_clock_;
      return &stream;
    }
    if (stream.used < oldest->used) oldest = &stream;
  }
  base::UniqueFd fd = TRY(host::OpenDirectory(proc_self_fd_.get(), node.fd.get()));
  if (cookie != 0) TRY(host::Seek(fd.get(), cookie));
  oldest->node = base::RefPtr<HostNode>(&node);
  oldest->fd = std::move(fd);
  oldest->cookie = cookie;
  oldest->used = ++stream_clock_;
  return oldest;
}

void Connection::DropStreamsOf(const HostNode& node) {
  for (DirectoryStream& stream : streams_) {
    if (stream.node.get() == &node) stream = DirectoryStream();
  }
}

base::Result<void> Connection::Handle(const ReaddirRequest& r, ReaddirReply& reply, ServerBuffers& buffers) {
  return ReadEntries(*TRY(FindDirectory(r.node)), r.cookie, r.max_bytes, reply, buffers);
}

base::Result<void> Connection::ReadEntries(HostNode& directory, uint64_t cookie, size_t max_bytes, ReaddirReply& reply,
                                           ServerBuffers& buffers) {
  DirectoryStream* stream = TRY(StreamAt(directory, cookie));
  // The host's records are longer than ours (19 bytes and the name with its NUL, rounded up to 8, against 18 and the
  // name), so that as many as fit in max_bytes there fit in max_bytes here.
  size_t capacity = std::clamp<size_t>(max_bytes, kMinReaddirBytes, kMaxReaddirBytes);
  buffers.blob.resize(kMaxReaddirBytes);
  std::span<uint8_t> all(reinterpret_cast<uint8_t*>(buffers.blob.data()), capacity);
  size_t filled = 0;
  // Several calls for one reply: a file system may return less than fits, and the end only shows in a call that returns
  // nothing.
  while (filled + kMaxDirentBytes <= capacity) {
    auto read = host::GetDents(stream->fd.get(), all.subspan(filled));
    if (!read.ok()) {
      if (reply.entries.empty()) return read.error();
      break;  // what was read is good; the next request meets the error again
    }
    if (*read == 0) {
      reply.end = 1;
      break;
    }
    for (size_t at = filled; at < filled + *read;) {
      // Fixed offsets of struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name.
      uint64_t ino, next;
      uint16_t record;
      memcpy(&ino, &all[at], 8);
      memcpy(&next, &all[at + 8], 8);
      memcpy(&record, &all[at + 16], 2);
      const char* name_bytes = reinterpret_cast<const char*>(&all[at + 19]);
      std::string_view name(name_bytes, strnlen(name_bytes, record - 19));
      stream->cookie = next;
      // A name that the protocol does not allow could only come from a broken file system: left out.
      if (ValidName(name)) reply.entries.push_back({.ino = ino, .cookie = next, .type = all[at + 18], .name = name});
      at += record;
    }
    // No entries: only "." and ".." so far, and nothing points into the buffer.
    filled = reply.entries.empty() ? 0 : filled + *read;
  }
  if (reply.end != 0) *stream = DirectoryStream();
  return {};
}

}  // namespace gofer
