#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "gofer/client/client.h"
#include "gofer/client/client_impl.h"

namespace gofer {

Node::Node(base::RefPtr<Client> client, NodeId id) : client_(std::move(client)), id_(id) {}

Node::~Node() { client_->impl().multiplexer.QueueClose(id_); }

base::Result<NewNode> Node::Adopt(base::Result<NodeReply> reply) {
  NodeReply made = TRY(std::move(reply));
  if (made.node == NodeId::kNone) return client_->impl().Malformed();
  return NewNode{base::MakeRef<Node>(client_, made.node), made.attributes};
}

namespace {

// Whether the components are what a walk of `names` names can have come upon: directories up to the last, and the
// link's target where, and only where, a link is. A walk that says it was complete has to be: callers loop until it is.
bool Plausible(const WalkReply& reply, size_t names, bool nodes) {
  const size_t wanted = std::max<size_t>(names, 1);
  const auto& components = reply.components;
  if (components.size() > wanted) return false;
  for (size_t i = 0; i < components.size(); ++i) {
    if ((components[i].node != NodeId::kNone) != nodes) return false;
    if (i + 1 < components.size() && !S_ISDIR(components[i].attributes.mode)) return false;
  }
  // No names: the base itself, whose target nobody asked for.
  bool at_link = names != 0 && !components.empty() && S_ISLNK(components.back().attributes.mode);
  if (reply.stop_errno == 0 && components.size() < wanted && !at_link) return false;
  // Only a directory has entries.
  const bool listed = reply.listing.end != 0 || !reply.listing.entries.empty();
  if (listed && (components.size() < wanted || !S_ISDIR(components.back().attributes.mode))) return false;
  return at_link || reply.symlink_target.empty();
}

DirectoryChunk ToChunk(const ReaddirReply& reply) {
  DirectoryChunk chunk;
  chunk.end = reply.end != 0;
  chunk.entries.reserve(reply.entries.size());
  for (const ReaddirReply::Entry& entry : reply.entries) {
    chunk.entries.push_back({entry.ino, entry.cookie, entry.type, std::string(entry.name)});
  }
  return chunk;
}

}  // namespace

base::Result<WalkResult> Node::Walk(std::span<const std::string_view> names, const WalkOptions& options) {
  Client::Impl& impl = client_->impl();
  WalkRequest request;
  request.base = id_;
  request.flags = (options.open ? kWalkOpen : 0) | (options.nodes ? 0 : kWalkNoNodes) | (options.list ? kWalkList : 0);
  request.open_flags = options.open ? options.open_flags : 0;
  const size_t count = std::min(names.size(), kMaxWalkNames);
  // Opening and listing are for the last name of all.
  if (count < names.size()) request.flags &= ~(kWalkOpen | kWalkList);
  request.names.assign(names.begin(), names.begin() + static_cast<ptrdiff_t>(count));
  for (std::string_view name : request.names) TRY(CheckName(name));
  ReceivedReply received;
  WalkResult result;
  WalkReply reply = TRY(impl.Call(request, received, &result.file));
  if (!Plausible(reply, count, options.nodes)) return impl.Malformed();
  result.components.reserve(reply.components.size());
  for (const WalkReply::Component& component : reply.components) {
    result.components.push_back(
        {options.nodes ? base::MakeRef<Node>(client_, component.node) : nullptr, component.attributes});
  }
  if (result.file.valid() &&
      ((request.flags & kWalkOpen) == 0 || !CheckDonated(result.file, DonatedKind::kFile, options.open_flags))) {
    return impl.Malformed();
  }
  result.stop_errno = SaneErrno(reply.stop_errno);
  result.open_errno = SaneErrno(reply.open_errno);
  result.symlink_target = reply.symlink_target;
  if (reply.listing.end != 0 || !reply.listing.entries.empty()) {
    if ((request.flags & kWalkList) == 0) return impl.Malformed();
    result.listing = ToChunk(reply.listing);
  }
  return result;
}

base::Result<Attributes> Node::GetAttr() {
  GetAttrRequest request;
  request.node = id_;
  return TRY(client_->impl().Call(request)).attributes;
}

base::Result<Attributes> Node::SetAttr(SetAttrRequest request) {
  request.node = id_;
  return TRY(client_->impl().Call(request)).attributes;
}

base::Result<std::string> Node::ReadLink() {
  ReadLinkRequest request;
  request.node = id_;
  ReceivedReply received;
  return std::string(TRY(client_->impl().Call(request, received)).target);
}

base::Result<DirectoryChunk> Node::Readdir(uint64_t cookie, size_t max_bytes) {
  ReaddirRequest request;
  request.node = id_;
  request.cookie = cookie;
  request.max_bytes = static_cast<uint32_t>(std::min(max_bytes, kMaxReaddirBytes));
  ReceivedReply received;
  ReaddirReply reply = TRY(client_->impl().Call(request, received));
  if (reply.entries.empty() && reply.end == 0) return client_->impl().Malformed();
  return ToChunk(reply);
}

base::Result<StatFsReply> Node::StatFs() {
  StatFsRequest request;
  request.node = id_;
  return client_->impl().Call(request);
}

base::Result<base::UniqueFd> Node::Open(uint32_t flags) {
  OpenRequest request;
  request.node = id_;
  request.flags = flags;
  base::UniqueFd fd;
  TRY(client_->impl().Call(request, &fd));
  if (!CheckDonated(fd, DonatedKind::kFileOrFifo, flags)) return client_->impl().Malformed();
  return fd;
}

base::Result<NewFile> Node::Create(std::string_view name, uint32_t open_flags, const CreateOptions& options) {
  TRY(CheckName(name));
  CreateRequest request;
  request.directory = id_;
  request.open_flags = open_flags;
  request.mode = options.mode;
  request.uid = options.uid;
  request.gid = options.gid;
  request.name = name;
  NewFile made;
  NewNode node = TRY(Adopt(client_->impl().Call(request, &made.file)));
  if (!CheckDonated(made.file, DonatedKind::kFile, open_flags)) return client_->impl().Malformed();
  made.node = std::move(node.node);
  made.attributes = node.attributes;
  return made;
}

base::Result<NewNode> Node::Mkdir(std::string_view name, const CreateOptions& options) {
  TRY(CheckName(name));
  MkdirRequest request;
  request.directory = id_;
  request.mode = options.mode;
  request.uid = options.uid;
  request.gid = options.gid;
  request.name = name;
  return Adopt(client_->impl().Call(request));
}

base::Result<NewNode> Node::Symlink(std::string_view name, std::string_view target, uint32_t uid, uint32_t gid) {
  TRY(CheckName(name));
  // man 2 symlink: ENOENT for an empty target.
  if (target.empty()) return base::Errno(ENOENT);
  if (target.size() > kMaxLinkBytes) return base::Errno(ENAMETOOLONG);
  SymlinkRequest request;
  request.directory = id_;
  request.uid = uid;
  request.gid = gid;
  request.name = name;
  request.target = target;
  return Adopt(client_->impl().Call(request));
}

base::Result<NewNode> Node::Mknod(std::string_view name, uint32_t file_type, uint64_t rdev,
                                  const CreateOptions& options) {
  TRY(CheckName(name));
  MknodRequest request;
  request.directory = id_;
  request.mode = file_type | options.mode;
  request.uid = options.uid;
  request.gid = options.gid;
  request.rdev = rdev;
  request.name = name;
  return Adopt(client_->impl().Call(request));
}

base::Result<Attributes> Node::Link(Node& target, std::string_view name) {
  TRY(CheckName(name));
  if (target.client_ != client_) return base::Errno(EXDEV);
  LinkRequest request;
  request.node = target.id_;
  request.directory = id_;
  request.name = name;
  return TRY(client_->impl().Call(request)).attributes;
}

base::Result<void> Node::Unlink(std::string_view name) {
  TRY(CheckName(name));
  UnlinkRequest request;
  request.directory = id_;
  request.name = name;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<void> Node::Rmdir(std::string_view name) {
  TRY(CheckName(name));
  UnlinkRequest request;
  request.directory = id_;
  request.flags = kUnlinkDirectory;
  request.name = name;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<void> Node::Rename(std::string_view name, Node& new_directory, std::string_view new_name, uint32_t flags) {
  TRY(CheckName(name));
  TRY(CheckName(new_name));
  if (new_directory.client_ != client_) return base::Errno(EXDEV);
  RenameRequest request;
  request.old_directory = id_;
  request.new_directory = new_directory.id_;
  request.flags = flags;
  request.old_name = name;
  request.new_name = new_name;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<void> Node::Fsync(bool data_only) {
  FsyncRequest request;
  request.node = id_;
  request.flags = data_only ? kFsyncDataOnly : 0;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<void> Node::SyncFs() {
  SyncFsRequest request;
  request.node = id_;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<std::string> Node::GetXattr(std::string_view name) {
  GetXattrRequest request;
  request.node = id_;
  request.name = name;
  ReceivedReply received;
  return std::string(TRY(client_->impl().Call(request, received)).bytes);
}

base::Result<void> Node::SetXattr(std::string_view name, std::string_view value, uint32_t flags) {
  SetXattrRequest request;
  request.node = id_;
  request.flags = flags;
  request.name = name;
  request.value = value;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<std::vector<std::string>> Node::ListXattr() {
  ListXattrRequest request;
  request.node = id_;
  ReceivedReply received;
  std::string_view rest = TRY(client_->impl().Call(request, received)).bytes;
  std::vector<std::string> names;
  while (!rest.empty()) {
    size_t end = rest.find('\0');
    if (end == 0 || end == std::string_view::npos || end > kMaxXattrNameBytes) return client_->impl().Malformed();
    names.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return names;
}

base::Result<void> Node::RemoveXattr(std::string_view name) {
  RemoveXattrRequest request;
  request.node = id_;
  request.name = name;
  TRY(client_->impl().Call(request));
  return {};
}

base::Result<base::UniqueFd> Node::Connect(int socket_type) {
  ConnectRequest request;
  request.node = id_;
  request.socket_type = static_cast<uint32_t>(socket_type);
  base::UniqueFd fd;
  TRY(client_->impl().Call(request, &fd));
  if (!CheckDonated(fd, DonatedKind::kSocket, 0)) return client_->impl().Malformed();
  return fd;
}

base::Result<NewFile> Node::Bind(std::string_view name, int socket_type, const CreateOptions& options) {
  TRY(CheckName(name));
  BindRequest request;
  request.directory = id_;
  request.socket_type = static_cast<uint32_t>(socket_type);
  request.mode = options.mode;
  request.uid = options.uid;
  request.gid = options.gid;
  request.name = name;
  NewFile made;
  NewNode node = TRY(Adopt(client_->impl().Call(request, &made.file)));
  if (!CheckDonated(made.file, DonatedKind::kSocket, 0)) return client_->impl().Malformed();
  made.node = std::move(node.node);
  made.attributes = node.attributes;
  return made;
}

base::Result<NewFile> Node::Tmpfile(uint32_t open_flags, const CreateOptions& options) {
  TmpfileRequest request;
  request.directory = id_;
  request.open_flags = open_flags;
  request.mode = options.mode;
  request.uid = options.uid;
  request.gid = options.gid;
  NewFile made;
  NewNode node = TRY(Adopt(client_->impl().Call(request, &made.file)));
  if (!CheckDonated(made.file, DonatedKind::kFile, open_flags)) return client_->impl().Malformed();
  made.node = std::move(node.node);
  made.attributes = node.attributes;
  return made;
}

}  // namespace gofer
