// What changes directories: making, linking, removing and renaming.
#include <fcntl.h>
#include <sys/stat.h>

#include "gofer/server/connection.h"
#include "gofer/server/host_unsafe.h"

namespace gofer {

// Gives the file behind `fd` (O_PATH or not) the owner and mode that were asked for, where the host chose others, and
// reads its attributes. Owner first: a change of owner clears the set-id bits.
base::Result<void> Connection::FinishNew(int fd, uint32_t type, uint32_t mode, uint32_t uid, uint32_t gid,
                                         Attributes& attributes) const {
  attributes = TRY(host::GetAttributes(fd));
  // Somebody on the host replaced it in the meantime. What is there now is theirs, and stays as it is.
  if ((attributes.mode & S_IFMT) != type) return base::Errno(ESTALE);
  bool owner = (uid != kNoId && uid != attributes.uid) || (gid != kNoId && gid != attributes.gid);
  if (owner) TRY(host::SetOwner(fd, uid, gid));
  bool set_mode = type != S_IFLNK && ((attributes.mode & 07777) != mode || (owner && (mode & 06000) != 0));
  if (set_mode) TRY(host::SetMode(proc_self_fd_.get(), fd, mode));
  if (owner || set_mode) attributes = TRY(host::GetAttributes(fd));
  return {};
}

base::Result<void> Connection::AdoptNew(const HostNode& directory, std::string_view name, base::UniqueFd path,
                                        uint32_t type, uint32_t mode, uint32_t uid, uint32_t gid, NodeReply& reply) {
  auto adopt = [&]() -> base::Result<void> {
    if (!path.valid()) path = TRY(host::OpenPath(directory.fd.get(), name));
    TRY(FinishNew(path.get(), type, mode, uid, gid, reply.attributes));
    reply.node = TRY(nodes_.Add(base::MakeRef<HostNode>(std::move(path), type, directory.mount)));
    return {};
  };
  base::Result<void> adopted = adopt();
  if (!adopted.ok() && adopted.error() != ESTALE) {
    // Nobody was promised the file. That it may not be ours any more, if the host raced us, cannot be excluded: names
    // are all that unlink takes.
    (void)host::Remove(directory.fd.get(), name, type == S_IFDIR);
  }
  return adopted;
}

base::Result<void> Connection::Handle(const CreateRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (nodes_.full()) return base::Errno(ENFILE);
  if ((r.open_flags & kOpenAccessMode) == kOpenAccessMode) return base::Errno(EINVAL);
  base::UniqueFd file = TRY(host::CreateFile(directory->fd.get(), r.name, static_cast<int>(r.open_flags), r.mode));
  // The same inode by O_PATH, through the descriptor rather than by name: it cannot be another.
  auto path = host::Reopen(proc_self_fd_.get(), file.get(), O_PATH);
  if (!path.ok()) {
    (void)host::Remove(directory->fd.get(), r.name, false);
    return path.error();
  }
  TRY(AdoptNew(*directory, r.name, std::move(*path), S_IFREG, r.mode, r.uid, r.gid, reply));
  buffers.fd = std::move(file);
  return {};
}

base::Result<void> Connection::Handle(const MkdirRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (nodes_.full()) return base::Errno(ENFILE);
  TRY(host::MakeDirectory(directory->fd.get(), r.name, r.mode));
  return AdoptNew(*directory, r.name, {}, S_IFDIR, r.mode, r.uid, r.gid, reply);
}

base::Result<void> Connection::Handle(const SymlinkRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (nodes_.full()) return base::Errno(ENFILE);
  TRY(host::MakeSymlink(r.target, directory->fd.get(), r.name));
  return AdoptNew(*directory, r.name, {}, S_IFLNK, 0, r.uid, r.gid, reply);
}

base::Result<void> Connection::Handle(const MknodRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  const uint32_t type = r.mode & S_IFMT;
  bool allowed = type == S_IFREG || type == S_IFIFO || type == S_IFSOCK || (type == S_IFCHR && r.rdev == 0);
  if (!allowed) return base::Errno(Attributes::ValidMode(r.mode) ? EPERM : EINVAL);
  if (nodes_.full()) return base::Errno(ENFILE);
  TRY(host::MakeNode(directory->fd.get(), r.name, r.mode, type == S_IFCHR ? r.rdev : 0));
  return AdoptNew(*directory, r.name, {}, type, r.mode & 07777, r.uid, r.gid, reply);
}

base::Result<void> Connection::Handle(const BindRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (!mounts_[directory->mount].host_uds_create) return base::Errno(EPERM);
  if (nodes_.full()) return base::Errno(ENFILE);
  base::UniqueFd socket = TRY(host::BindUnix(directory->fd.get(), r.name, static_cast<int>(r.socket_type)));
  TRY(AdoptNew(*directory, r.name, {}, S_IFSOCK, r.mode, r.uid, r.gid, reply));
  buffers.fd = std::move(socket);
  return {};
}

base::Result<void> Connection::Handle(const TmpfileRequest& r, NodeReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (nodes_.full()) return base::Errno(ENFILE);
  const uint32_t access = r.open_flags & kOpenAccessMode;
  if (access == O_RDONLY || access == kOpenAccessMode) return base::Errno(EINVAL);
  base::UniqueFd file =
      TRY(host::CreateNameless(proc_self_fd_.get(), directory->fd.get(), static_cast<int>(r.open_flags), r.mode));
  base::UniqueFd path = TRY(host::Reopen(proc_self_fd_.get(), file.get(), O_PATH));
  TRY(FinishNew(path.get(), S_IFREG, r.mode, r.uid, r.gid, reply.attributes));
  reply.node = TRY(nodes_.Add(base::MakeRef<HostNode>(std::move(path), S_IFREG, directory->mount)));
  buffers.fd = std::move(file);
  return {};
}

base::Result<void> Connection::Handle(const LinkRequest& r, AttributesReply& reply, ServerBuffers& buffers) {
  HostNode* node = TRY(FindWritable(r.node));
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  if (node->mount != directory->mount) return base::Errno(EXDEV);
  if (node->type == S_IFDIR) return base::Errno(EPERM);
  TRY(host::MakeLink(proc_self_fd_.get(), node->fd.get(), directory->fd.get(), r.name));
  reply.attributes = TRY(host::GetAttributes(node->fd.get()));
  return {};
}

base::Result<void> Connection::Handle(const UnlinkRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* directory = TRY(FindWritableDirectory(r.directory));
  return host::Remove(directory->fd.get(), r.name, (r.flags & kUnlinkDirectory) != 0);
}

base::Result<void> Connection::Handle(const RenameRequest& r, EmptyReply& reply, ServerBuffers& buffers) {
  HostNode* from = TRY(FindWritableDirectory(r.old_directory));
  HostNode* to = TRY(FindWritableDirectory(r.new_directory));
  if (from->mount != to->mount) return base::Errno(EXDEV);
  return host::Rename(from->fd.get(), r.old_name, to->fd.get(), r.new_name, r.flags);
}

}  // namespace gofer
