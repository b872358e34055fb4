// The sentry's end of the gofer protocol: a Client per connection (one gofer per container), a Node per host file that
// the sentry knows. Nothing is cached here; that is the gofer file system's business (sentry/fs/gofer).
//
// Every call sends one message and waits for its reply. On a fiber whose executor has nothing else to do it waits on
// the socket itself, until the kernel's next tick at most (waking a parked fiber through another thread costs 50 µs,
// most replies take less); after that, or if other fibers are runnable, it parks and the reactor reads. Outside of a
// fiber it blocks the host thread. Any number of calls may be in flight. A call is not interruptible by guest signals,
// like a hard NFS mount's.
//
// The gofer is not trusted: a malformed reply, one that nobody waits for, or a descriptor of the wrong kind breaks the
// connection. When it breaks, for that reason or because the gofer died, every pending and every later call fails with
// EIO, for good. Calls also return EIO for a reply that does not fit the request; other errors are the host's own.
//
// Host calls: sendmsg, recvmsg, ppoll, shutdown, close, fstat, fcntl(F_GETFL), futex; through the reactor epoll_ctl.
#ifndef GOFER_CLIENT_CLIENT_H_
#define GOFER_CLIENT_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/errno.h"
#include "base/ref_ptr.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"

namespace gofer {

class Client;
class Node;

// A mount's root and properties.
struct Attachment {
  base::RefPtr<Node> root;
  Attributes attributes;
  bool read_only = false;
  bool host_uds = false;         // Node::Connect may succeed
  bool host_fifo = false;        // Node::Open of a FIFO may succeed
  bool host_uds_create = false;  // Node::Bind may succeed
  uint32_t max_nodes = 0;        // of the connection, all mounts together
};

class Client final : public base::RefCounted {
 public:
  // `socket`: the client's end of MakeChannel (gofer/protocol/channel.h); a gofer serves the other.
  static base::RefPtr<Client> Create(base::UniqueFd socket);

  // Mount `mount` of the list that the gofer was started with.
  base::Result<Attachment> Attach(uint32_t mount);
  // bind(2) of an internet socket of ours to `address` (struct sockaddr_in or sockaddr_in6), with the gofer's
  // capability for ports below 1024. EPERM if it has none.
  base::Result<void> BindPort(int socket, std::string_view address);
  // True once the connection is unusable.
  bool broken() const;
  // Breaks it: pending and later calls fail with EIO.
  void Disconnect();
  // Sends the ids of dropped nodes now instead of with the next call. Does not wait.
  void FlushCloses();

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  template <typename T, typename... Args>
  friend base::RefPtr<T> base::MakeRef(Args&&... args);
  explicit Client(base::UniqueFd socket);
  ~Client() override;
  std::unique_ptr<Impl> impl_;
};

struct WalkOptions {
  bool open = false;        // open the last component, if it is a regular file
  uint32_t open_flags = 0;  // O_RDONLY … of kOpenFlagsMask
  bool nodes = true;        // false: attributes only (revalidation); not together with open or list
  bool list = false;        // list the last component, if it is a directory
};

struct DirectoryEntry {
  uint64_t ino;
  uint64_t cookie;  // to continue after this entry
  uint8_t type;     // DT_*, maybe DT_UNKNOWN
  std::string name;
};
struct DirectoryChunk {
  std::vector<DirectoryEntry> entries;  // never "." or ".."; names are valid components
  bool end = false;                     // nothing follows
};

// How far a walk got; see WalkReply. The walk is complete if stop_errno is 0 and there are as many components as names,
// and the last is not a symbolic link or the caller does not follow it. More than kMaxWalkNames names: the first
// kMaxWalkNames are walked.
struct WalkResult {
  struct Component {
    base::RefPtr<Node> node;  // null with WalkOptions::nodes false
    Attributes attributes;
  };
  std::vector<Component> components;
  int stop_errno = 0;          // why the next name could not be had; 0 also at a symbolic link
  std::string symlink_target;  // of the last component, if it is a symbolic link
  base::UniqueFd file;         // valid if `open` was asked and the last name is a regular file that could be opened
  int open_errno = 0;          // why it could not
  std::optional<DirectoryChunk> listing;  // if `list` was asked, and the last name is a directory that could be listed
};

struct NewNode {
  base::RefPtr<Node> node;
  Attributes attributes;
};
struct NewFile {
  base::RefPtr<Node> node;
  Attributes attributes;
  base::UniqueFd file;
};

// Owner and permissions of something new. kNoId: what the host chooses.
struct CreateOptions {
  uint32_t mode = 0;  // 07777
  uint32_t uid = kNoId;
  uint32_t gid = kNoId;
};

// A host file that the gofer holds open for us, by reference to the inode and not by name: it stays itself when it is
// renamed or removed. Safe from any fiber or thread. Dropping the last reference never waits: the gofer is told with
// the next message.
//
// Errors beyond the host's own: EROFS on a read-only mount; EINVAL for a name that is not a single component
// (ENAMETOOLONG if it is too long); ENFILE or EMFILE when the gofer is at its node or descriptor limit: drop cached
// nodes and try again.
class Node final : public base::RefCounted {
 public:
  Client& client() const { return *client_; }

  base::Result<WalkResult> Walk(std::span<const std::string_view> names, const WalkOptions& options = {});
  base::Result<Attributes> GetAttr();
  // `request.node` is filled in. Returns the attributes afterwards.
  base::Result<Attributes> SetAttr(SetAttrRequest request);
  base::Result<std::string> ReadLink();
  // Entries after the one with `cookie`; 0 starts over.
  base::Result<DirectoryChunk> Readdir(uint64_t cookie, size_t max_bytes = kMaxReaddirBytes);
  base::Result<StatFsReply> StatFs();

  // A host descriptor for this regular file (or FIFO, if allowed) with the access mode and flags of `flags`. Reads,
  // writes and mappings of it do not involve the gofer again.
  base::Result<base::UniqueFd> Open(uint32_t flags);
  // O_CREAT | O_EXCL: EEXIST if there is anything under that name.
  base::Result<NewFile> Create(std::string_view name, uint32_t open_flags, const CreateOptions& options);
  base::Result<NewNode> Mkdir(std::string_view name, const CreateOptions& options);
  base::Result<NewNode> Symlink(std::string_view name, std::string_view target, uint32_t uid = kNoId,
                                uint32_t gid = kNoId);
  // `file_type`: S_IFREG, S_IFIFO, S_IFSOCK, or S_IFCHR with rdev 0 (whiteout).
  base::Result<NewNode> Mknod(std::string_view name, uint32_t file_type, uint64_t rdev, const CreateOptions& options);
  // Gives `target` the further name `name` in this directory. The target's attributes afterwards.
  base::Result<Attributes> Link(Node& target, std::string_view name);
  base::Result<void> Unlink(std::string_view name);
  base::Result<void> Rmdir(std::string_view name);
  // `flags`: kRenameNoReplace, kRenameExchange, kRenameWhiteout.
  base::Result<void> Rename(std::string_view name, Node& new_directory, std::string_view new_name, uint32_t flags = 0);

  base::Result<void> Fsync(bool data_only = false);
  // syncfs of the host file system that holds this node.
  base::Result<void> SyncFs();

  base::Result<std::string> GetXattr(std::string_view name);
  base::Result<void> SetXattr(std::string_view name, std::string_view value, uint32_t flags);
  base::Result<std::vector<std::string>> ListXattr();
  base::Result<void> RemoveXattr(std::string_view name);

  // A host socket connected to the one at this node. `socket_type`: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET, no
  // flags. The descriptor is non-blocking. ECONNREFUSED if the mount does not allow it, EAGAIN if the backlog is full.
  base::Result<base::UniqueFd> Connect(int socket_type);
  // A new socket file and a host socket bound to it (NewFile::file), non-blocking, not listening. EPERM if the mount
  // does not allow it.
  base::Result<NewFile> Bind(std::string_view name, int socket_type, const CreateOptions& options);
  // A regular file without a name in this directory's file system.
  base::Result<NewFile> Tmpfile(uint32_t open_flags, const CreateOptions& options);

 private:
  friend class Client;
  template <typename T, typename... Args>
  friend base::RefPtr<T> base::MakeRef(Args&&... args);
  Node(base::RefPtr<Client> client, NodeId id);
  ~Node() override;

  // What `reply` says about a new node, as a handle.
  base::Result<NewNode> Adopt(base::Result<NodeReply> reply);

  const base::RefPtr<Client> client_;
  const NodeId id_;
};

}  // namespace gofer

#endif  // GOFER_CLIENT_CLIENT_H_
