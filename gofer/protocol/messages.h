// The gofer protocol: what the sentry asks of the gofer, and what it gets back.
//
// One SOCK_SEQPACKET pair per container; one packet is one message, so that a message, its boundaries and the
// descriptors that travel with it (SCM_RIGHTS) cannot get out of step, which a stream has to be parsed for.
//
//   header   u32 size · u16 type · u16 aux · u32 tag · u16 error · u16 cpu
//   request  header (error = 0) · aux × u64 node ids to close · fields of the request
//   reply    header (type | 0x8000, aux = number of descriptors, cpu = 0) · fields of the reply, none if error ≠ 0
//
// `size` counts the whole packet. A tag identifies a request in flight; replies may come in any order; the peer chooses
// tags that it does not reuse before the reply. A node is a file of the host that the gofer holds open with O_PATH;
// node ids are chosen by the server and never come back for another file while the old one is known. Node ids to close
// ride on any request, so that dropping nodes costs no message of its own; kClose exists to send them when there is no
// other request, and is the only message without a reply.
//
// `cpu` is 1 + the host CPU that the caller is bound to, or 0: a hint. The server moves to where its requests come
// from, because a wake-up across CPUs costs five times what the rest of a round trip does (bench/gofer_bench.cc: 65 µs
// against 10).
//
// All paths are single components; the server never follows a link. Numbers are Linux's for amd64 (errno, O_*, S_IF*,
// RENAME_*, XATTR_*, AT_*). uids and gids pass as numbers. Both ends treat what they read as hostile.
#ifndef GOFER_PROTOCOL_MESSAGES_H_
#define GOFER_PROTOCOL_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "base/errno.h"
#include "gofer/protocol/codec.h"
#include "gofer/protocol/types.h"

namespace gofer {

struct EmptyReply {
  template <typename C, typename M>
  static void Code(C&, M&) {}
};
struct AttributesReply {
  Attributes attributes;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    Attributes::Code(c, m.attributes);
  }
};
// Of everything that makes a file.
struct NodeReply {
  NodeId node = NodeId::kNone;
  Attributes attributes;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    Attributes::Code(c, m.attributes);
  }
};
struct BlobReply {
  std::string_view bytes;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Blob(m.bytes, kMaxXattrBytes);
  }
};

// Of a node, and nothing more to say about it.
template <MessageType kMessage, typename ReplyT>
struct NodeRequest {
  static constexpr MessageType kType = kMessage;
  using Reply = ReplyT;
  NodeId node = NodeId::kNone;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
  }
};

// What every request that makes a file begins with: where, whose, and its name.
template <typename C, typename M>
void CodeNewFile(C& c, M& m) {
  c.Int(m.directory);
  c.Int(m.uid);
  c.Int(m.gid);
  c.Name(m.name);
}

// The root of mount `mount`. The first request of a connection, and once per mount. EPROTONOSUPPORT if the versions do
// not meet, EINVAL for an index out of range.
struct AttachReply {
  uint32_t version = 0;
  uint32_t max_message_bytes = 0;
  uint32_t max_in_flight = 0;
  uint32_t max_nodes = 0;
  uint32_t mount_flags = 0;
  NodeId root = NodeId::kNone;
  Attributes attributes;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.version);
    c.Int(m.max_message_bytes);
    c.Int(m.max_in_flight);
    c.Int(m.max_nodes);
    c.Bits(m.mount_flags, kMountReadOnly | kMountHostUds | kMountHostFifo | kMountHostUdsCreate);
    c.Int(m.root);
    Attributes::Code(c, m.attributes);
  }
};
struct AttachRequest {
  static constexpr MessageType kType = MessageType::kAttach;
  using Reply = AttachReply;
  uint32_t magic = kMagic;
  uint32_t version = kVersion;  // the newest the client speaks
  uint32_t max_message_bytes = kMaxMessageBytes;
  uint32_t mount = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.magic);
    c.Require(m.magic == kMagic);
    c.Int(m.version);
    c.Int(m.max_message_bytes);
    c.Int(m.mount);
  }
};

// Entries of a directory, without "." and ".."; see ReaddirRequest.
struct ReaddirReply {
  struct Entry {
    uint64_t ino = 0;
    uint64_t cookie = 0;
    uint8_t type = 0;  // DT_*; DT_UNKNOWN where the file system does not tell
    std::string_view name;
    template <typename C, typename M>
    static void Code(C& c, M& m) {
      c.Int(m.ino);
      c.Int(m.cookie);
      c.Int(m.type);
      c.Name(m.name);
    }
  };
  static constexpr size_t kEntryBytes = 8 + 8 + 1 + 1;  // and the name
  uint8_t end = 0;
  std::vector<Entry> entries;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.AtMost(m.end, uint8_t{1});
    c.List(m.entries, kMaxReaddirBytes / (kEntryBytes + 1), kEntryBytes + 1,
           [](auto& d, auto& e) { Entry::Code(d, e); });
  }
};

// Walks `names` from `base`, at most kMaxWalkNames of them. The walk ends after the last name; after a symbolic link,
// wherever it is (its target is in the reply: the client resolves it); after a file that is not a directory, with
// stop_errno ENOTDIR if names are left; or before a name that cannot be had, with stop_errno saying why (ENOENT,
// EACCES, ENFILE if the node limit is reached, …). Walking no names looks at `base` itself: one component, a second
// node for it.
inline constexpr uint32_t kWalkOpen = 1;     // open the last one, if it is a regular file, with open_flags
inline constexpr uint32_t kWalkNoNodes = 2;  // attributes only: every node is kNone. Not with kWalkOpen or kWalkList.
inline constexpr uint32_t kWalkList =
    4;  // list the last one, if it is a directory: kWalkListBytes of its first entries
inline constexpr uint32_t kWalkListBytes = 16 << 10;
struct WalkReply {
  using Component = NodeReply;
  uint32_t stop_errno = 0;
  uint32_t open_errno = 0;  // why kWalkOpen has no descriptor though the walk reached the end and a regular file
  std::string_view symlink_target;  // of the last component, if it is a symbolic link
  std::vector<Component> components;
  ReaddirReply listing;  // neither entries nor `end`: nothing was listed
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.AtMost(m.stop_errno, uint32_t{4095});
    c.AtMost(m.open_errno, uint32_t{4095});
    c.OptionalText(m.symlink_target, kMaxLinkBytes);
    c.List(m.components, kMaxWalkNames, 8 + kAttributesBytes, [](auto& d, auto& e) { Component::Code(d, e); });
    ReaddirReply::Code(c, m.listing);
  }
};
struct WalkRequest {
  static constexpr MessageType kType = MessageType::kWalk;
  using Reply = WalkReply;
  NodeId base = NodeId::kNone;
  uint32_t flags = 0;
  uint32_t open_flags = 0;
  std::vector<std::string_view> names;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.base);
    c.Bits(m.flags, kWalkOpen | kWalkNoNodes | kWalkList);
    c.Bits(m.open_flags, kOpenFlagsMask);
    c.List(m.names, kMaxWalkNames, 1 + 1, [](auto& d, auto& e) { d.Name(e); });
  }
};

// A descriptor for a regular file, or for a FIFO if the mount allows it. ENXIO for other FIFOs, devices and sockets,
// EISDIR for directories, ELOOP for symbolic links. O_NONBLOCK is implied, so that neither a FIFO without a peer nor a
// lease of a host process (man 2 fcntl, F_SETLEASE) holds up the gofer. Differs from Linux: opening a leased file fails
// with EAGAIN instead of waiting.
struct OpenRequest {
  static constexpr MessageType kType = MessageType::kOpen;
  using Reply = EmptyReply;
  NodeId node = NodeId::kNone;
  uint32_t flags = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Bits(m.flags, kOpenFlagsMask);
  }
};

// A new regular file (O_CREAT | O_EXCL), with a descriptor.
struct CreateRequest {
  static constexpr MessageType kType = MessageType::kCreate;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t open_flags = 0;
  uint32_t mode = 0;  // 07777
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    CodeNewFile(c, m);
    c.Bits(m.open_flags, kOpenFlagsMask);
    c.Bits(m.mode, uint32_t{07777});
  }
};

struct MkdirRequest {
  static constexpr MessageType kType = MessageType::kMkdir;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    CodeNewFile(c, m);
    c.Bits(m.mode, uint32_t{07777});
  }
};

struct SymlinkRequest {
  static constexpr MessageType kType = MessageType::kSymlink;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  std::string_view name;
  std::string_view target;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    CodeNewFile(c, m);
    c.Text(m.target, kMaxLinkBytes);
  }
};

// A further name for `node`. EXDEV across mounts.
struct LinkRequest {
  static constexpr MessageType kType = MessageType::kLink;
  using Reply = AttributesReply;
  NodeId node = NodeId::kNone;
  NodeId directory = NodeId::kNone;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Int(m.directory);
    c.Name(m.name);
  }
};

// A regular file, FIFO or socket, or the character device 0:0 (an overlay's whiteout). EPERM for every other device.
struct MknodRequest {
  static constexpr MessageType kType = MessageType::kMknod;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t mode = 0;  // with the type
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  uint64_t rdev = 0;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    CodeNewFile(c, m);
    c.Bits(m.mode, uint32_t{0177777});
    c.Int(m.rdev);
  }
};

// unlink or, with kUnlinkDirectory, rmdir.
inline constexpr uint32_t kUnlinkDirectory = 1;
struct UnlinkRequest {
  static constexpr MessageType kType = MessageType::kUnlink;
  using Reply = EmptyReply;
  NodeId directory = NodeId::kNone;
  uint32_t flags = 0;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.directory);
    c.Bits(m.flags, kUnlinkDirectory);
    c.Name(m.name);
  }
};

inline constexpr uint32_t kRenameNoReplace = 1;  // RENAME_NOREPLACE
inline constexpr uint32_t kRenameExchange = 2;   // RENAME_EXCHANGE
inline constexpr uint32_t kRenameWhiteout = 4;   // RENAME_WHITEOUT; EINVAL where the host's file system has none
struct RenameRequest {
  static constexpr MessageType kType = MessageType::kRename;
  using Reply = EmptyReply;
  NodeId old_directory = NodeId::kNone;
  NodeId new_directory = NodeId::kNone;
  uint32_t flags = 0;
  std::string_view old_name;
  std::string_view new_name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.old_directory);
    c.Int(m.new_directory);
    c.Bits(m.flags, kRenameNoReplace | kRenameExchange | kRenameWhiteout);
    c.Name(m.old_name);
    c.Name(m.new_name);
  }
};

// Sets what `which` names, in the order size, owner, mode, times; the first failure ends it. Owner before mode, because
// a change of owner clears the set-id bits.
inline constexpr uint32_t kSetMode = 1, kSetUid = 2, kSetGid = 4, kSetSize = 8, kSetAtime = 16, kSetMtime = 32,
                          kSetAtimeNow = 64, kSetMtimeNow = 128, kSetAll = 255;
struct SetAttrRequest {
  static constexpr MessageType kType = MessageType::kSetAttr;
  using Reply = AttributesReply;  // as they are afterwards
  NodeId node = NodeId::kNone;
  uint32_t which = 0;
  uint32_t mode = 0;  // 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  int64_t atime_ns = 0;
  int64_t mtime_ns = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Bits(m.which, kSetAll);
    c.Bits(m.mode, uint32_t{07777});
    c.Int(m.uid);
    c.Int(m.gid);
    c.AtMost(m.size, uint64_t{INT64_MAX});
    c.Int(m.atime_ns);
    c.Int(m.mtime_ns);
  }
};

using GetAttrRequest = NodeRequest<MessageType::kGetAttr, AttributesReply>;

struct ReadLinkReply {
  std::string_view target;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.OptionalText(m.target, kMaxLinkBytes);
  }
};
using ReadLinkRequest = NodeRequest<MessageType::kReadLink, ReadLinkReply>;

// Entries after the one with `cookie` (0: from the start), without "." and "..", at most max_bytes of them. No entries
// and `end` is the end of the directory; no entries without `end` does not happen. Cookies are the host's d_off.
struct ReaddirRequest {
  static constexpr MessageType kType = MessageType::kReaddir;
  using Reply = ReaddirReply;
  NodeId node = NodeId::kNone;
  uint64_t cookie = 0;
  uint32_t max_bytes = kMaxReaddirBytes;  // at least 1 KiB is used
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Int(m.cookie);
    c.AtMost(m.max_bytes, uint32_t{kMaxReaddirBytes});
  }
};

// struct statfs (man 2 statfs).
struct StatFsReply {
  uint64_t type = 0;
  uint64_t block_size = 0;
  uint64_t blocks = 0;
  uint64_t blocks_free = 0;
  uint64_t blocks_available = 0;
  uint64_t files = 0;
  uint64_t files_free = 0;
  uint64_t fragment_size = 0;
  uint32_t name_length = 0;
  uint32_t flags = 0;  // ST_*
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.type);
    c.Int(m.block_size);
    c.Int(m.blocks);
    c.Int(m.blocks_free);
    c.Int(m.blocks_available);
    c.Int(m.files);
    c.Int(m.files_free);
    c.Int(m.fragment_size);
    c.Int(m.name_length);
    c.Int(m.flags);
  }
};
using StatFsRequest = NodeRequest<MessageType::kStatFs, StatFsReply>;

// fsync or fdatasync of a regular file or directory. (The sentry may as well call fsync on a descriptor it was given.)
inline constexpr uint32_t kFsyncDataOnly = 1;
struct FsyncRequest {
  static constexpr MessageType kType = MessageType::kFsync;
  using Reply = EmptyReply;
  NodeId node = NodeId::kNone;
  uint32_t flags = 0;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Bits(m.flags, kFsyncDataOnly);
  }
};

// syncfs of the host file system that holds `node`.
using SyncFsRequest = NodeRequest<MessageType::kSyncFs, EmptyReply>;

// Of an extended attribute by its name.
template <MessageType kMessage, typename ReplyT>
struct XattrNameRequest {
  static constexpr MessageType kType = kMessage;
  using Reply = ReplyT;
  NodeId node = NodeId::kNone;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Text(m.name, kMaxXattrNameBytes);
  }
};

// Extended attributes exist on regular files and directories here; other nodes have none (ENODATA, EPERM on a change,
// an empty list): Linux allows user.* on no others. Names in security.* can be read but not changed (EPERM): file
// capabilities and labels of security modules are the host's.
using GetXattrRequest = XattrNameRequest<MessageType::kGetXattr, BlobReply>;
struct SetXattrRequest {
  static constexpr MessageType kType = MessageType::kSetXattr;
  using Reply = EmptyReply;
  NodeId node = NodeId::kNone;
  uint32_t flags = 0;  // XATTR_CREATE 1, XATTR_REPLACE 2
  std::string_view name;
  std::string_view value;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Bits(m.flags, uint32_t{3});
    c.Text(m.name, kMaxXattrNameBytes);
    c.Blob(m.value, kMaxXattrBytes);
  }
};
using ListXattrRequest = NodeRequest<MessageType::kListXattr, BlobReply>;  // names, each ended by a NUL
using RemoveXattrRequest = XattrNameRequest<MessageType::kRemoveXattr, EmptyReply>;

// A socket connected to the host's socket at `node`, if the mount allows it (else ECONNREFUSED, as if nobody listened).
// Never waits: EAGAIN when the listener's backlog is full.
struct ConnectRequest {
  static constexpr MessageType kType = MessageType::kConnect;
  using Reply = EmptyReply;
  NodeId node = NodeId::kNone;
  uint32_t socket_type = 0;  // SOCK_STREAM 1, SOCK_DGRAM 2, SOCK_SEQPACKET 5
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.node);
    c.Int(m.socket_type);
    c.Require(m.socket_type == 1 || m.socket_type == 2 || m.socket_type == 5);
  }
};

// Makes a socket file and a host socket bound to it, if the mount allows it (else EPERM). The socket comes with the
// reply; it does not listen yet. EINVAL for a name of more than kMaxBindNameBytes.
inline constexpr size_t kMaxBindNameBytes = 95;  // sun_path less "/proc/self/fd"'s number, a slash and a NUL
struct BindRequest {
  static constexpr MessageType kType = MessageType::kBind;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t socket_type = 0;  // as in ConnectRequest
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  std::string_view name;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    CodeNewFile(c, m);
    c.Int(m.socket_type);
    c.Require(m.socket_type == 1 || m.socket_type == 2 || m.socket_type == 5);
    c.Bits(m.mode, uint32_t{07777});
  }
};

// A regular file without a name (O_TMPFILE) in the file system of `directory`, opened with `open_flags`; Link may name
// it. EOPNOTSUPP where the host's file system has none.
struct TmpfileRequest {
  static constexpr MessageType kType = MessageType::kTmpfile;
  using Reply = NodeReply;
  NodeId directory = NodeId::kNone;
  uint32_t open_flags = 0;
  uint32_t mode = 0;
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Int(m.directory);
    c.Bits(m.open_flags, kOpenFlagsMask);
    c.Bits(m.mode, uint32_t{07777});
    c.Int(m.uid);
    c.Int(m.gid);
  }
};

// bind(2) of the internet socket that comes with the request, if the server was told to do so (else EPERM): with
// --network=host, for ports below net.ipv4.ip_unprivileged_port_start, for which the sentry has no capability. The one
// request that carries a descriptor. EBADF without one.
inline constexpr size_t kMaxPortAddressBytes = 28;  // struct sockaddr_in6
struct BindPortRequest {
  static constexpr MessageType kType = MessageType::kBindPort;
  using Reply = EmptyReply;
  std::string_view address;  // struct sockaddr_in or sockaddr_in6
  template <typename C, typename M>
  static void Code(C& c, M& m) {
    c.Blob(m.address, kMaxPortAddressBytes);
  }
};

// Carries closes only; no reply.
struct CloseRequest {
  static constexpr MessageType kType = MessageType::kClose;
  using Reply = EmptyReply;
  template <typename C, typename M>
  static void Code(C&, M&) {}
};

using RequestBody = std::variant<AttachRequest, WalkRequest, OpenRequest, CreateRequest, MkdirRequest, SymlinkRequest,
                                 LinkRequest, MknodRequest, UnlinkRequest, RenameRequest, SetAttrRequest,
                                 GetAttrRequest, ReadLinkRequest, ReaddirRequest, StatFsRequest, FsyncRequest,
                                 SyncFsRequest, GetXattrRequest, SetXattrRequest, ListXattrRequest, RemoveXattrRequest,
                                 ConnectRequest, CloseRequest, BindRequest, TmpfileRequest, BindPortRequest>;

// A request as it was received. Views in the body point into the packet.
struct ParsedRequest {
  Header header;
  std::vector<NodeId> closes;
  RequestBody body;
};

// Decodes one packet. EBADMSG if not even the header is right (whoever sent it cannot be answered); EPROTO if what
// follows the header is malformed; ENOSYS for a type that does not exist. In these two `out.header` is valid. Total:
// any bytes are fine, and memory use is bounded by a small multiple of the packet's size.
base::Result<void> ParseRequest(std::span<const uint8_t> packet, ParsedRequest& out);

// The header of a reply to a request of type `type`, checked against the packet's size. EPROTO if it is not one.
base::Result<Header> ParseReplyHeader(std::span<const uint8_t> packet);

// Decodes the body of a successful reply. EPROTO if it is malformed.
template <typename ReplyT>
base::Result<void> ParseReplyBody(std::span<const uint8_t> packet, ReplyT& out) {
  if (packet.size() < kHeaderBytes) return base::Errno(EPROTO);
  Reader reader(packet.subspan(kHeaderBytes));
  ReplyT::Code(reader, out);
  if (!reader.Done()) return base::Errno(EPROTO);
  return {};
}

// Decodes a whole reply by the type in its header and throws the result away: the fuzzers' entry point.
base::Result<void> ParseReply(std::span<const uint8_t> packet);

// Where the tag and the CPU are in a packet: they are filled in when it is sent.
inline constexpr size_t kTagOffset = 8;
inline constexpr size_t kCpuOffset = 14;

// Encodes header, closes and body; sets the header's size. False if something does not fit or is not allowed.
template <typename RequestT>
[[nodiscard]] bool EncodeRequest(const RequestT& request, uint32_t tag, std::span<const NodeId> closes,
                                 std::vector<uint8_t>& out);
// The reply to a request of type `type`. With `error` ≠ 0 the body is left out.
template <typename ReplyT>
[[nodiscard]] bool EncodeReply(MessageType type, const ReplyT& reply, uint32_t tag, uint32_t fds,
                               std::vector<uint8_t>& out);
void EncodeErrorReply(uint16_t type, uint32_t tag, int error, std::vector<uint8_t>& out);

namespace internal {
void BeginMessage(Header header, std::vector<uint8_t>& out);
bool EndMessage(bool ok, std::vector<uint8_t>& out);
}  // namespace internal

template <typename RequestT>
bool EncodeRequest(const RequestT& request, uint32_t tag, std::span<const NodeId> closes, std::vector<uint8_t>& out) {
  if (closes.size() > kMaxClosesPerMessage) return false;
  internal::BeginMessage(
      {.type = static_cast<uint16_t>(RequestT::kType), .aux = static_cast<uint16_t>(closes.size()), .tag = tag}, out);
  Writer writer(out, kMaxMessageBytes);
  for (NodeId id : closes) writer.Int(id);
  RequestT::Code(writer, request);
  return internal::EndMessage(writer.ok(), out);
}

template <typename ReplyT>
bool EncodeReply(MessageType type, const ReplyT& reply, uint32_t tag, uint32_t fds, std::vector<uint8_t>& out) {
  internal::BeginMessage({.type = static_cast<uint16_t>(static_cast<uint16_t>(type) | kReplyBit),
                          .aux = static_cast<uint16_t>(fds),
                          .tag = tag},
                         out);
  Writer writer(out, kMaxMessageBytes);
  ReplyT::Code(writer, reply);
  return internal::EndMessage(writer.ok(), out);
}

}  // namespace gofer

#endif  // GOFER_PROTOCOL_MESSAGES_H_
