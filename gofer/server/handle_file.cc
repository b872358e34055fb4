// What concerns one file: opening, attributes, durability.
#include <fcntl.h>
#include <sys/stat.h>

#include "gofer/server/connection.h"
#include "gofer/server/host_unsafe.h"

namespace gofer {

base::Result<base::UniqueFd> Connection::OpenNode(const HostNode& node, uint32_t flags) const {
  const ServerMount& mount = mounts_[node.mount];
  switch (node.type) {
    case S_IFREG:
      break;
    case S_IFIFO:
      if (mount.host_fifo) break;
      return base::Errno(ENXIO);
    case S_IFDIR:
      return base::Errno(EISDIR);
    case S_IFLNK:
      return base::Errno(ELOOP);
    default:
      return base::Errno(ENXIO);
  }
  const uint32_t access = flags & kOpenAccessMode;
  if (access == kOpenAccessMode) return base::Errno(EINVAL);
  // Writing to a FIFO does not change the file system (man 2 open, EROFS).
  if (mount.read_only && node.type == S_IFREG && (access != O_RDONLY || (flags & O_TRUNC) != 0))
    return base::Errno(EROFS);
  return host::Reopen(proc_self_fd_.get(), node.fd.get(), static_cast<int>(flags) | O_NONBLOCK);
}

base::Result<base::UniqueFd> Connection::OpenForReading(const HostNode& node) const {
  auto opened = host::Reopen(proc_self_fd_.get(), node.fd.get(), O_RDONLY | O_NONBLOCK);
  // A file that we may write but not read serves as well.
  if (opened.failed_with(EACCES) && node.type == S_IFREG) {
    return host::Reopen(proc_self_fd_.get(), node.fd.get(), O_WRONLY | O_NONBLOCK);
  }
  return opened;
}

base::Result<void> Connection::Handle(const OpenRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  buffers.fd = TRY(OpenNode(*node, r.flags));
  return {};
}

base::Result<void> Connection::Handle(const SetAttrRequest& r, AttributesReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(FindWritable(r.node));
  const int fd = node->fd.get();
  if ((r.which & kSetSize) != 0) {
    if (node->type == S_IFDIR) return base::Errno(EISDIR);
    if (node->type != S_IFREG) return base::Errno(EINVAL);
    base::UniqueFd file = TRY(host::Reopen(proc_self_fd_.get(), fd, O_WRONLY | O_NONBLOCK));
    TRY(host::SetSize(file.get(), r.size));
  }
  if ((r.which & (kSetUid | kSetGid)) != 0) {
    TRY(host::SetOwner(fd, (r.which & kSetUid) != 0 ? r.uid : kNoId, (r.which & kSetGid) != 0 ? r.gid : kNoId));
  }
  if ((r.which & kSetMode) != 0) {
    if (node->type == S_IFLNK) return base::Errno(EOPNOTSUPP);
    TRY(host::SetMode(proc_self_fd_.get(), fd, r.mode));
  }
  if ((r.which & (kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow)) != 0) {
    TRY(host::SetTimes(fd, r.which, r.atime_ns, r.mtime_ns));
  }
  reply.attributes = TRY(host::GetAttributes(fd));
  return {};
}

namespace {

bool IsFileOrDirectory(const HostNode& node) { return node.type == S_IFREG || node.type == S_IFDIR; }

}  // namespace

base::Result<void> Connection::Handle(const GetXattrRequest& r, BlobReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  if (!IsFileOrDirectory(*node)) return base::Errno(ENODATA);
  base::UniqueFd file = TRY(OpenForReading(*node));
  buffers.blob.resize(kMaxXattrBytes);
  size_t size = TRY(host::GetXattr(file.get(), r.name, buffers.blob));
  reply.bytes = std::string_view(buffers.blob.data(), size);
  return {};
}

base::Result<void> Connection::Handle(const ListXattrRequest& r, BlobReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  if (!IsFileOrDirectory(*node)) return {};
  base::UniqueFd file = TRY(OpenForReading(*node));
  buffers.blob.resize(kMaxXattrBytes);
  size_t size = TRY(host::ListXattr(file.get(), buffers.blob));
  reply.bytes = std::string_view(buffers.blob.data(), size);
  return {};
}

base::Result<void> Connection::Handle(const SetXattrRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(FindWritable(r.node));
  if (!IsFileOrDirectory(*node) || r.name.starts_with("security.")) return base::Errno(EPERM);
  base::UniqueFd file = TRY(OpenForReading(*node));
  return host::SetXattr(file.get(), r.name, r.value, r.flags);
}

base::Result<void> Connection::Handle(const RemoveXattrRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(FindWritable(r.node));
  if (!IsFileOrDirectory(*node) || r.name.starts_with("security.")) return base::Errno(EPERM);
  base::UniqueFd file = TRY(OpenForReading(*node));
  return host::RemoveXattr(file.get(), r.name);
}

base::Result<void> Connection::Handle(const ConnectRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(nodes_.Find(r.node));
  if (node->type != S_IFSOCK || !mounts_[node->mount].host_uds) return base::Errno(ECONNREFUSED);
  buffers.fd = TRY(host::ConnectUnix(node->fd.get(), static_cast<int>(r.socket_type)));
  return {};
}

base::Result<void> Connection::Handle(const BindPortRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  base::UniqueFd socket = std::move(buffers.passed);
  if (!bind_ports_) return base::Errno(EPERM);
  if (!socket.valid()) return base::Errno(EBADF);
  return host::BindPort(socket.get(), r.address);
}

base::Result<void> Connection::Finish(const FsyncRequest& r, const HostNode& node) const {
  // man 2 fsync: EINVAL for what does not support synchronization.
  if (!IsFileOrDirectory(node)) return base::Errno(EINVAL);
  base::UniqueFd file = TRY(OpenForReading(node));
  return host::Sync(file.get(), (r.flags & kFsyncDataOnly) != 0);
}

base::Result<void> Connection::Finish(const SyncFsRequest& r, const HostNode& node) const {
  if (!IsFileOrDirectory(node)) return base::Errno(EINVAL);
  base::UniqueFd file = TRY(OpenForReading(node));
  return host::SyncFileSystem(file.get());
}

}  // namespace gofer
