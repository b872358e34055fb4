#include "sentry/socket/unix/unix_socket.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
constexpr base::EventMask kReadable = base::kEventIn | base::kEventRdNorm;
constexpr base::EventMask kWritable = base::kEventOut | base::kEventWrNorm | base::kEventWrBand;
constexpr int kMaxBacklog = 4096;  // net.core.somaxconn

bool IsAbstract(const SocketAddress& a) { return a.length > kPathOffset && a.bytes[kPathOffset] == 0; }
std::string AbstractName(const SocketAddress& a) {
  return std::string(reinterpret_cast<const char*>(a.bytes) + kPathOffset, a.length - kPathOffset);
}
std::string PathOf(const SocketAddress& a) {
  std::string path = AbstractName(a);
  return path.substr(0, path.find('\0'));
}
SocketAddress Unnamed() {
  uint16_t family = AF_UNIX;
  return SocketAddress::Of(family);
}
// unix_validate_addr()
Result<void> Validate(const SocketAddress& a) {
  if (a.length <= kPathOffset || a.length > sizeof(sockaddr_un) || a.family() != AF_UNIX) return Errno(EINVAL);
  return {};
}

}  // namespace

UnixEndpoint::UnixEndpoint(int type, RefPtr<NetworkNamespace> net, RefPtr<SocketEvents> events)
    : type_(type), net_(std::move(net)), events_(std::move(events)), space_(base::MakeRef<SocketEvents>()) {
  net_->AddUnix(this);
}

UnixEndpoint::~UnixEndpoint() { net_->RemoveUnix(this); }

bool UnixEndpoint::FullFor(const UnixEndpoint& sender) {
  {
    base::MutexLock lock(mu_);
    if (peer_.get() == &sender) return false;  // both ways: only the sender's buffer counts
  }
  return datagrams_.count() > kMaxDatagrams;
}

void UnixEndpoint::Close() {
  std::deque<RefPtr<UnixEndpoint>> waiting;
  RefPtr<UnixEndpoint> peer;
  RefPtr<Connection> connection;
  std::string name;
  {
    base::MutexLock lock(mu_);
    state_ = State::kClosed;
    waiting.swap(accept_queue_);
    peer = std::move(peer_);
    connection = connection_;
    if (abstract_) name = AbstractName(name_);
  }
  if (!name.empty()) net_->RemoveName(name, this);
  if (connection != nullptr) connection->Close(side_);
  // Nobody accepted them: a reset for whoever connected.
  for (auto& embryo : waiting) {
    RefPtr<Connection> theirs;
    RefPtr<UnixEndpoint> client;
    {
      base::MutexLock lock(embryo->mu_);
      embryo->state_ = State::kClosed;
      theirs = embryo->connection_;
      client = std::move(embryo->peer_);
    }
    theirs->Close(embryo->side_, /*abort=*/true);
  }
  datagrams_.Close();
  space_->queue.Notify(base::kEventAll);
  // A peer that is connected to this one learns that it cannot send any more.
  if (peer != nullptr && type_ == SOCK_DGRAM) peer->events_->queue.Notify(kWritable);
}

std::string UnixEndpoint::Describe() {
  base::MutexLock lock(mu_);
  if (state_ == State::kClosed) return "";
  int st = state_ == State::kConnected ? 3 : 1;  // SS_CONNECTED, SS_UNCONNECTED
  std::string line =
      absl::StrFormat("%016x: %08X %08X %08X %04X %02X %5d", 0, 2, 0, state_ == State::kListening ? 1 << 16 : 0, type_,
                      st, ino_.load(std::memory_order_relaxed));
  if (name_.length > kPathOffset) {
    std::string name = AbstractName(name_);
    if (IsAbstract(name_)) {
      std::replace(name.begin(), name.end(), '\0', '@');
    } else {
      name = PathOf(name_);
    }
    absl::StrAppend(&line, " ", name);
  }
  return line + "\n";
}

std::string UnixProcNet(NetworkNamespace& net) {
  std::string text = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (auto& object : net.UnixObjects()) {
    if (auto* endpoint = dynamic_cast<UnixEndpoint*>(object.get())) text += endpoint->Describe();
  }
  return text;
}

// --- Making

Result<RefPtr<Socket>> UnixSocket::Create(const SocketRequest& request) {
  if (request.protocol != 0 && request.protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
  SocketRequest own = request;
  own.protocol = 0;
  if (own.type == SOCK_RAW) own.type = SOCK_DGRAM;  // unix_create
  if (own.type != SOCK_STREAM && own.type != SOCK_DGRAM && own.type != SOCK_SEQPACKET) return Errno(ESOCKTNOSUPPORT);
  return RefPtr<Socket>(base::MakeRef<UnixSocket>(own));
}

Result<std::pair<RefPtr<Socket>, RefPtr<Socket>>> UnixSocket::CreatePair(const SocketRequest& request) {
  RefPtr<Socket> a = TRY(Create(request));
  RefPtr<Socket> b = TRY(Create(request));
  Join(static_cast<UnixSocket&>(*a), static_cast<UnixSocket&>(*b), CurrentSender());
  return std::pair(std::move(a), std::move(b));
}

UnixSocket::UnixSocket(const SocketRequest& request, RefPtr<SocketEvents> events, RefPtr<UnixEndpoint> endpoint)
    : Socket(AF_UNIX, request.type, 0, request.file_flags, request.creds.get()),
      request_(request),
      endpoint_(endpoint != nullptr ? std::move(endpoint)
                                    : base::MakeRef<UnixEndpoint>(request.type, request.net, events_)) {
  if (events != nullptr) events_ = std::move(events);
  endpoint_->ino_.store(inode()->ino(), std::memory_order_relaxed);
}

UnixSocket::~UnixSocket() {
  if (watched_ != nullptr) watched_->space_->queue.Remove(*peer_wait_);
  endpoint_->Close();
}

void UnixSocket::Join(UnixSocket& a, UnixSocket& b, const SenderId& id) {
  RefPtr<Connection> connection;
  if (!a.datagrams()) {
    auto kind = a.type() == SOCK_STREAM ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPackets;
    connection = base::MakeRef<Connection>(kind, a.events_, b.events_);
  }
  UnixSocket* both[2] = {&a, &b};
  for (int i = 0; i < 2; ++i) {
    UnixEndpoint& e = *both[i]->endpoint_;
    base::MutexLock lock(e.mu_);
    e.state_ = UnixEndpoint::State::kConnected;
    e.peer_ = both[1 - i]->endpoint_;
    e.peer_id_ = e.own_id_ = id;
    e.connection_ = connection;
    e.side_ = i;
    e.published_.store(connection.get(), std::memory_order_release);
  }
  if (a.datagrams()) {
    a.FollowSpaceOf(b.endpoint_);
    b.FollowSpaceOf(a.endpoint_);
  }
}

void UnixSocket::FollowSpaceOf(const RefPtr<UnixEndpoint>& peer) {
  base::FiberMutexLock lock(connecting_);
  if (watched_ != nullptr) watched_->space_->queue.Remove(*peer_wait_);
  peer_wait_.reset();
  watched_ = peer;
  if (peer == nullptr) return;
  SocketEvents* own = events_.get();  // this socket's, which outlives the entry
  peer_wait_.emplace(kWritable, [own](base::EventMask) { own->queue.Notify(kWritable); });
  peer->space_->queue.Add(*peer_wait_);
}

// --- Names

Result<void> UnixSocket::Autobind() {
  for (int i = 0; i < (1 << 20); ++i) {
    std::string text = absl::StrFormat("%05x", endpoint_->net_->NextAutobind());
    SocketAddress a = Unnamed();
    a.bytes[kPathOffset] = 0;
    memcpy(a.bytes + kPathOffset + 1, text.data(), text.size());
    a.length = static_cast<uint32_t>(kPathOffset + 1 + text.size());
    if (!endpoint_->net_->AddName(AbstractName(a), endpoint_)) continue;
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->name_ = a;
    endpoint_->abstract_ = true;
    return {};
  }
  return Errno(ENOSPC);
}

Result<void> UnixSocket::Bind(VfsContext& ctx, const SocketAddress& address) {
  base::FiberMutexLock binding(connecting_);
  if (address.length == kPathOffset && address.family() == AF_UNIX) {
    {
      base::MutexLock lock(endpoint_->mu_);
      if (endpoint_->name_.length != 0) return {};
    }
    return Autobind();
  }
  TRY(Validate(address));
  {
    bool named;
    {
      base::MutexLock lock(endpoint_->mu_);
      named = endpoint_->name_.length != 0;
    }
    if (named) {
      // unix_bind_bsd() tries to make the file before it looks at the socket.
      bool exists = !IsAbstract(address) && WalkPath(ctx, {}, PathOf(address), 0).ok();
      return Errno(exists ? EADDRINUSE : EINVAL);
    }
  }
  if (IsAbstract(address)) {
    if (!endpoint_->net_->AddName(AbstractName(address), endpoint_)) return Errno(EADDRINUSE);
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->name_ = address;
    endpoint_->abstract_ = true;
    return {};
  }
  std::string path = PathOf(address);
  auto bound = vfs::BindSocket(ctx, {}, path, 0777, endpoint_);
  if (!bound.ok()) return bound.failed_with(EEXIST) ? Errno(EADDRINUSE) : bound.error();
  base::MutexLock lock(endpoint_->mu_);
  endpoint_->name_ = address;
  // The length counts one NUL, wherever the guest's ended (unix_mkname).
  endpoint_->name_.length = static_cast<uint32_t>(kPathOffset + path.size() + 1);
  if (endpoint_->name_.length <= SocketAddress::kMax) endpoint_->name_.bytes[kPathOffset + path.size()] = 0;
  return {};
}

Result<RefPtr<UnixEndpoint>> UnixSocket::Find(VfsContext* ctx, const SocketAddress& address) {
  TRY(Validate(address));
  RefPtr<base::RefCounted> object;
  if (IsAbstract(address)) {
    object = endpoint_->net_->FindName(AbstractName(address));
  } else {
    if (ctx == nullptr) return Errno(EINVAL);
    VfsPath path = TRY(WalkPath(*ctx, {}, PathOf(address), static_cast<uint32_t>(WalkFlag::kFollow))).path;
    RefPtr<Inode> inode = path.inode();
    if (inode == nullptr) return Errno(ENOENT);
    TRY(inode->CheckAccess(*ctx->creds, W_OK));
    if (inode->type() != FileType::kSocket) return Errno(ECONNREFUSED);
    base::MutexLock lock(inode->special_mu);
    object = inode->special;
  }
  auto* found = dynamic_cast<UnixEndpoint*>(object.get());
  if (found == nullptr) return Errno(ECONNREFUSED);
  if (found->type_ != type()) return Errno(EPROTOTYPE);
  return RefPtr<UnixEndpoint>(found);
}

Result<SocketAddress> UnixSocket::Name() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->name_.length != 0 ? endpoint_->name_ : Unnamed();
}

Result<SocketAddress> UnixSocket::PeerName() {
  RefPtr<UnixEndpoint> peer;
  {
    base::MutexLock lock(endpoint_->mu_);
    peer = endpoint_->peer_;
  }
  if (peer == nullptr) return Errno(ENOTCONN);
  base::MutexLock lock(peer->mu_);
  return peer->name_.length != 0 ? peer->name_ : Unnamed();
}

// --- Connecting

Result<void> UnixSocket::ConnectDatagram(VfsContext& ctx, const SocketAddress& address) {
  if (address.family() == AF_UNSPEC) {
    RefPtr<UnixEndpoint> dropped;
    {
      base::MutexLock lock(endpoint_->mu_);
      dropped = std::move(endpoint_->peer_);
      endpoint_->state_ = UnixEndpoint::State::kUnconnected;
      endpoint_->peer_id_.reset();
    }
    if (dropped != nullptr) endpoint_->datagrams_.Clear();  // unix_dgram_disconnected
    FollowSpaceOf(nullptr);
    return {};
  }
  if (pass_credentials() && TRY(Name()).length <= kPathOffset) {
    base::FiberMutexLock binding(connecting_);
    TRY(Autobind());
  }
  RefPtr<UnixEndpoint> other = TRY(Find(&ctx, address));
  RefPtr<UnixEndpoint> dropped;
  {
    base::MutexPairLock lock(endpoint_->mu_, other->mu_);
    if (other->state_ == UnixEndpoint::State::kClosed) return Errno(ECONNREFUSED);
    if (other->peer_ != nullptr && other->peer_ != endpoint_) return Errno(EPERM);
    dropped = std::move(endpoint_->peer_);
    endpoint_->peer_ = other;
    endpoint_->state_ = UnixEndpoint::State::kConnected;
  }
  if (dropped != nullptr && dropped != other) endpoint_->datagrams_.Clear();
  FollowSpaceOf(other);
  return {};
}

Result<void> UnixSocket::Connect(VfsContext& ctx, const SocketAddress& address, RefPtr<SocketEvents>* wait_on) {
  if (datagrams()) return ConnectDatagram(ctx, address);
  TRY(Validate(address));
  if (pass_credentials() && TRY(Name()).length <= kPathOffset) {
    base::FiberMutexLock binding(connecting_);
    TRY(Autobind());
  }
  RefPtr<UnixEndpoint> listener = TRY(Find(&ctx, address));
  auto server_events = base::MakeRef<SocketEvents>();
  auto embryo = base::MakeRef<UnixEndpoint>(type(), endpoint_->net_, server_events);
  auto kind = IsStream() ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPackets;
  auto connection = base::MakeRef<Connection>(kind, events_, server_events);
  connection->SetSendLimit(0, static_cast<size_t>(send_buffer()));
  connection->SetPassCredentials(0, pass_credentials());
  connection->SetPassCredentials(1, true);  // until it is accepted nobody knows whether it will ask (maybe_add_creds)
  SenderId id = CurrentSender();
  if (ctx.creds != nullptr) id.uid = ctx.creds->euid, id.gid = ctx.creds->egid;
  {
    base::MutexPairLock lock(endpoint_->mu_, listener->mu_);
    if (listener->state_ != UnixEndpoint::State::kListening || (listener->shut_ & 1) != 0) return Errno(ECONNREFUSED);
    if (listener->accept_queue_.size() > static_cast<size_t>(listener->backlog_)) {
      if (wait_on != nullptr) *wait_on = listener->space_;
      return Errno(EAGAIN);
    }
    if (endpoint_->state_ == UnixEndpoint::State::kConnected) return Errno(EISCONN);
    if (endpoint_->state_ != UnixEndpoint::State::kUnconnected) return Errno(EINVAL);
    {
      base::MutexLock embryo_lock(embryo->mu_);  // nobody else knows it
      embryo->state_ = UnixEndpoint::State::kConnected;
      embryo->name_ = listener->name_;
      embryo->peer_ = endpoint_;
      embryo->peer_id_ = id;
      embryo->own_id_ = listener->own_id_;
      embryo->connection_ = connection;
      embryo->side_ = 1;
      embryo->published_.store(connection.get(), std::memory_order_release);
    }
    endpoint_->state_ = UnixEndpoint::State::kConnected;
    endpoint_->peer_ = embryo;
    endpoint_->own_id_ = id;
    endpoint_->peer_id_ = listener->own_id_;
    endpoint_->connection_ = connection;
    endpoint_->side_ = 0;
    endpoint_->published_.store(connection.get(), std::memory_order_release);
    listener->accept_queue_.push_back(std::move(embryo));
  }
  listener->events_->queue.Notify(kReadable);
  return {};
}

Result<void> UnixSocket::Listen(VfsContext& ctx, int backlog) {
  if (datagrams()) return Errno(EOPNOTSUPP);
  SenderId id = CurrentSender();
  if (ctx.creds != nullptr) id.uid = ctx.creds->euid, id.gid = ctx.creds->egid;
  bool more = false;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->name_.length == 0) return Errno(EINVAL);
    if (endpoint_->state_ != UnixEndpoint::State::kUnconnected &&
        endpoint_->state_ != UnixEndpoint::State::kListening) {
      return Errno(EINVAL);
    }
    int wanted = static_cast<unsigned>(backlog) > kMaxBacklog ? kMaxBacklog : backlog;
    more = wanted > endpoint_->backlog_;
    endpoint_->backlog_ = wanted;
    endpoint_->state_ = UnixEndpoint::State::kListening;
    endpoint_->own_id_ = id;
  }
  if (more) endpoint_->space_->queue.Notify(kWritable);
  return {};
}

Result<RefPtr<Socket>> UnixSocket::Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
  if (datagrams()) return Errno(EOPNOTSUPP);
  TRY(CheckCount());
  RefPtr<UnixEndpoint> embryo;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ != UnixEndpoint::State::kListening) return Errno(EINVAL);
    if (endpoint_->accept_queue_.empty()) {
      if ((endpoint_->shut_ & 1) != 0) return Errno(EINVAL);
      return Errno(EAGAIN);
    }
    embryo = std::move(endpoint_->accept_queue_.front());
    endpoint_->accept_queue_.pop_front();
  }
  endpoint_->space_->queue.Notify(kWritable);
  embryo->published_.load(std::memory_order_acquire)->SetPassCredentials(1, false);
  SocketRequest request = request_;
  request.file_flags = file_flags;
  request.creds = ctx.creds;
  RefPtr<SocketEvents> events = embryo->events_;
  auto socket = base::MakeRef<UnixSocket>(request, std::move(events), std::move(embryo));
  if (peer != nullptr) {
    auto name = socket->PeerName();
    *peer = name.ok() ? *name : Unnamed();
  }
  return RefPtr<Socket>(std::move(socket));
}

// --- Data

Result<size_t> UnixSocket::Send(OutgoingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (datagrams()) return SendDatagram(message);
  Connection* connection = endpoint_->published_.load(std::memory_order_acquire);
  if (message.to != nullptr && IsStream()) return Errno(connection != nullptr ? EISCONN : EOPNOTSUPP);
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    return Errno((endpoint_->shut_ & 2) != 0 ? EPIPE : ENOTCONN);
  }
  return connection->Send(endpoint_->side_, message, CurrentSender());
}

Result<size_t> UnixSocket::SendDatagram(OutgoingMessage& message) {
  if (pass_credentials() && TRY(Name()).length <= kPathOffset) {
    base::FiberMutexLock binding(connecting_);
    if (TRY(Name()).length <= kPathOffset) TRY(Autobind());
  }
  RefPtr<UnixEndpoint> other;
  SocketAddress from;
  bool connected = false;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (message.to == nullptr) {
      if (endpoint_->peer_ == nullptr) return Errno(ENOTCONN);
      other = endpoint_->peer_;
      connected = true;
    }
    from = endpoint_->name_;
  }
  if (message.data.remaining() > static_cast<size_t>(send_buffer()) - 32) return Errno(EMSGSIZE);
  if (other == nullptr) other = TRY(Find(message.ctx, *message.to));
  RefPtr<UnixEndpoint> dropped;
  bool mutual;
  {
    base::MutexPairLock lock(endpoint_->mu_, other->mu_);
    if ((endpoint_->shut_ & 2) != 0) return Errno(EPIPE);
    if (other->state_ == UnixEndpoint::State::kClosed) {
      if (connected && endpoint_->peer_ == other) {
        dropped = std::move(endpoint_->peer_);
        endpoint_->state_ = UnixEndpoint::State::kUnconnected;
      }
      return Errno(ECONNREFUSED);
    }
    if (other->peer_ != nullptr && other->peer_ != endpoint_) return Errno(EPERM);
    if ((other->shut_ & 1) != 0) return Errno(EPIPE);
    mutual = other->peer_ == endpoint_;
  }
  // Looked at before the copy, so that a full queue costs nothing, and again by Push.
  size_t limit = mutual ? static_cast<size_t>(send_buffer()) : SIZE_MAX;
  size_t max_count = mutual ? SIZE_MAX : UnixEndpoint::kMaxDatagrams + 1;
  if (other->datagrams_.count() >= max_count || (mutual && other->datagrams_.charged() >= LimitUnderPressure(limit))) {
    message.wait_on = other->space_;
    return Errno(EAGAIN);
  }
  size_t length = message.data.remaining();
  RefPtr<Chunk> datagram = TRY(CopyDatagram(message.data));
  if (from.length != 0) datagram->from = std::make_unique<SocketAddress>(from);
  if (message.sender.has_value() || pass_credentials() || other->pass_credentials_.load(std::memory_order_relaxed)) {
    datagram->sender = message.sender.value_or(CurrentSender());
  }
  datagram->rights = message.rights;
  if (!other->datagrams_.Push(datagram, mutual ? limit + length + Chunk::kOverhead : SIZE_MAX, max_count)) {
    message.data.Revert(length);
    datagram->rights = nullptr;
    message.wait_on = other->space_;
    return Errno(EAGAIN);  // or closed: the next try says so
  }
  message.rights = nullptr;
  other->events_->queue.Notify(kReadable);
  return length;
}

Result<size_t> UnixSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (datagrams()) return ReceiveDatagram(message);
  Connection* connection = endpoint_->published_.load(std::memory_order_acquire);
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    return Errno(IsStream() ? EINVAL : ENOTCONN);
  }
  auto received = connection->Receive(endpoint_->side_, message);
  if (!pass_credentials()) message.sender.reset();
  if (message.wants_from && received.ok()) {
    SocketAddress from = TRY(PeerName());
    if (from.length > kPathOffset) message.from = from;
  }
  return received;
}

Result<size_t> UnixSocket::ReceiveDatagram(IncomingMessage& message) {
  const bool peek = (message.flags & MSG_PEEK) != 0;
  RefPtr<Chunk> datagram = endpoint_->datagrams_.Pop(peek);
  if (datagram == nullptr) {
    if (int error = TakeError(); error != 0) return Errno(error);
    base::MutexLock lock(endpoint_->mu_);
    if ((endpoint_->shut_ & 1) != 0) return 0;
    return Errno(EAGAIN);
  }
  if (!peek) endpoint_->space_->queue.Notify(kWritable);
  message.rights = datagram->rights;
  if (!peek) datagram->rights = nullptr;
  if (datagram->from != nullptr) message.from = *datagram->from;
  if (pass_credentials()) message.sender = datagram->sender;
  return DeliverDatagram(*datagram, message);
}

Result<void> UnixSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    return connection->Shutdown(endpoint_->side_, how);
  {
    base::MutexLock lock(endpoint_->mu_);
    endpoint_->shut_ |= static_cast<uint8_t>(how + 1);
  }
  events_->queue.Notify(kReadable | kWritable | base::kEventRdHup | (how == SHUT_RDWR ? base::kEventHup : 0));
  endpoint_->space_->queue.Notify(kWritable);
  return {};
}

base::EventMask UnixSocket::Readiness() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    return connection->Readiness(endpoint_->side_);
  base::EventMask events = 0;
  RefPtr<UnixEndpoint> peer;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (error_.load(std::memory_order_relaxed) != 0) events |= base::kEventErr;
    if (endpoint_->shut_ == 3) events |= base::kEventHup;
    if ((endpoint_->shut_ & 1) != 0) events |= kReadable | base::kEventRdHup;
    if (endpoint_->state_ == UnixEndpoint::State::kListening) {
      if (!endpoint_->accept_queue_.empty()) events |= kReadable;
      return events;
    }
    if (!datagrams()) return events | base::kEventHup | kWritable;
    peer = endpoint_->peer_;
  }
  if (!endpoint_->datagrams_.empty()) events |= kReadable;
  bool full = false;
  if (peer != nullptr) {
    full = peer->FullFor(*endpoint_) ||
           peer->datagrams_.charged() >= LimitUnderPressure(static_cast<size_t>(send_buffer()));
  }
  if (!full) events |= kWritable;
  return events;
}

// --- The rest

Result<std::string> UnixSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  if (name == SO_PEERCRED) {
    base::MutexLock lock(endpoint_->mu_);
    if (!endpoint_->peer_id_.has_value()) return IntBytes(0) + IntBytes(-1) + IntBytes(-1);
    const SenderId& id = *endpoint_->peer_id_;
    return IntBytes(id.pid) + IntBytes(static_cast<int>(id.uid)) + IntBytes(static_cast<int>(id.gid));
  }
  return Socket::GetOption(ctx, level, name);
}

Result<void> UnixSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  return Socket::SetOption(ctx, level, name, value);
}

void UnixSocket::OptionsChanged() {
  endpoint_->pass_credentials_.store(pass_credentials(), std::memory_order_relaxed);
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    connection->SetSendLimit(endpoint_->side_, static_cast<size_t>(send_buffer()));
    connection->SetPassCredentials(endpoint_->side_, pass_credentials());
  }
}

Result<int> UnixSocket::ReadableBytes() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    return static_cast<int>(connection->ReadableBytes(endpoint_->side_));
  }
  if (!datagrams()) return Listening() ? Result<int>(Errno(EINVAL)) : Result<int>(0);
  return static_cast<int>(endpoint_->datagrams_.FirstSize());
}

Result<int> UnixSocket::UnsentBytes() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    return static_cast<int>(connection->UnreadByPeer(endpoint_->side_));
  }
  return 0;
}

int UnixSocket::TakeError() {
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    return connection->TakeError(endpoint_->side_);
  return Socket::TakeError();
}

bool UnixSocket::Listening() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->state_ == UnixEndpoint::State::kListening;
}

void UnixSocket::CollectQueuedRights(std::vector<RefPtr<Rights>>& out) {
  endpoint_->datagrams_.CollectRights(out);
  std::vector<RefPtr<UnixEndpoint>> waiting;
  {
    base::MutexLock lock(endpoint_->mu_);
    waiting.assign(endpoint_->accept_queue_.begin(), endpoint_->accept_queue_.end());
  }
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire)) {
    connection->CollectQueuedRights(endpoint_->side_, out);
  }
  for (auto& embryo : waiting) {
    embryo->published_.load(std::memory_order_acquire)->CollectQueuedRights(embryo->side_, out);
  }
}

void UnixSocket::PurgeQueue() {
  endpoint_->datagrams_.Clear();
  std::vector<RefPtr<UnixEndpoint>> waiting;
  {
    base::MutexLock lock(endpoint_->mu_);
    waiting.assign(endpoint_->accept_queue_.begin(), endpoint_->accept_queue_.end());
  }
  if (Connection* connection = endpoint_->published_.load(std::memory_order_acquire))
    connection->PurgeQueue(endpoint_->side_);
  for (auto& embryo : waiting) embryo->published_.load(std::memory_order_acquire)->PurgeQueue(embryo->side_);
}

void RegisterUnixSockets() { RegisterSocketProvider({AF_UNIX, &UnixSocket::Create, &UnixSocket::CreatePair}); }

}  // namespace sentry
