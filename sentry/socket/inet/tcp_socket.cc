#include "sentry/socket/inet/tcp_socket.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>

#include "base/time.h"

namespace sentry {
namespace {

constexpr int kInitialSend = 16384;  // net.ipv4.tcp_wmem
constexpr int kInitialReceive = 131072;
constexpr int kSegment = 65483;  // of lo's MTU
enum LinuxTcpState {
  kEstablished = 1,
  kSynSent,
  kSynRecv,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClose,
  kCloseWait,
  kLastAck,
  kListen
};

struct TcpOptionRow {
  int name, initial, min, max;
};
constexpr TcpOptionRow kTcpOptions[] = {
    {TCP_NODELAY, 0, 0, 1},
    {TCP_CORK, 0, 0, 1},
    {TCP_KEEPIDLE, 7200, 1, 32767},
    {TCP_KEEPINTVL, 75, 1, 32767},
    {TCP_KEEPCNT, 9, 1, 127},
    {TCP_SYNCNT, 6, 1, 127},
    {TCP_LINGER2, 60, INT32_MIN, INT32_MAX},
    {TCP_DEFER_ACCEPT, 0, 0, INT32_MAX},
    {TCP_WINDOW_CLAMP, 0, 0, INT32_MAX},
    {TCP_QUICKACK, 1, 0, 1},
    {TCP_USER_TIMEOUT, 0, 0, INT32_MAX},
    {TCP_FASTOPEN, 0, 0, INT32_MAX},
    {TCP_FASTOPEN_CONNECT, 0, 0, 1},
    {TCP_NOTSENT_LOWAT, 0, 0, INT32_MAX},
    {TCP_TIMESTAMP, 0, INT32_MIN, INT32_MAX},
    {TCP_SAVE_SYN, 0, 0, 2},
    {TCP_THIN_LINEAR_TIMEOUTS, 0, 0, 1},
    {TCP_THIN_DUPACK, 0, 0, 1},
    {TCP_INQ, 0, 0, 1},
    {TCP_TX_DELAY, 0, 0, INT32_MAX},
};

// The end of a connection whose socket has SO_LINGER with a time.
class LingeringConnection final : public Lingering {
 public:
  LingeringConnection(RefPtr<Connection> connection, int side, RefPtr<SocketEvents> events, int seconds)
      : connection_(std::move(connection)),
        side_(side),
        events_(std::move(events)),
        deadline_(base::MonotonicNow() + int64_t{seconds} * 1'000'000'000) {}
  bool Over() override { return connection_->Delivered(side_); }
  base::WaitQueue& wait_queue() override { return events_->queue; }
  base::MonotonicNs deadline() const override { return deadline_; }

 private:
  const RefPtr<Connection> connection_;
  const int side_;
  const RefPtr<SocketEvents> events_;
  const base::MonotonicNs deadline_;
};

}  // namespace

// --- TcpEndpoint

TcpEndpoint::~TcpEndpoint() { net_->tcp().Remove(*this); }

int TcpEndpoint::LinuxState() {
  base::MutexLock lock(mu_);
  switch (state_) {
    case State::kListening:
      return kListen;
    case State::kConnecting:
      return kSynSent;
    case State::kClosed:
      return kClose;
    case State::kConnected:
      break;
  }
  if (connection_->Over(side_)) return kClose;
  bool sent = connection_->FinSent(side_), received = connection_->FinReceived(side_);
  return sent ? (received ? kLastAck : kFinWait2) : (received ? kCloseWait : kEstablished);
}

size_t TcpEndpoint::Pending() {
  base::MutexLock lock(mu_);
  if (state_ == State::kListening) return accept_queue_.size();
  return connection_ != nullptr ? connection_->ReadableBytes(side_) : 0;
}

void TcpEndpoint::EstablishLocked(TcpEndpoint& listener, TcpEndpoint& client) {
  auto events = base::MakeRef<SocketEvents>();
  auto server = base::MakeRef<TcpEndpoint>(client.net_, events);
  auto connection = base::MakeRef<Connection>(Connection::Kind::kTcp, client.events_, events);
  connection->SetSendLimit(0, client.send_space_.load() + listener.receive_space_.load());
  connection->SetSendLimit(1, listener.send_space_.load() + client.receive_space_.load());
  connection->SetWindow(0, client.receive_space_.load());
  connection->SetWindow(1, listener.receive_space_.load());
  // Nobody else has the new endpoint yet, and the others' places do not change while they connect and listen.
  server->v6 = listener.v6;
  server->v6_only = listener.v6_only;
  server->reuse_address = listener.reuse_address;
  server->reuse_port = listener.reuse_port;
  server->uid = listener.uid;
  server->local = client.peer;
  server->peer = client.local;
  {
    base::MutexLock lock(server->mu_);
    server->state_ = State::kConnected;
    server->connection_ = connection;
    server->side_ = 1;
  }
  client.net_->tcp().AddAccepted(*server);
  client.state_ = State::kConnected;
  client.connection_ = std::move(connection);
  client.side_ = 0;
  listener.accept_queue_.Push(std::move(server));
}

void TcpEndpoint::Close(bool abort) {
  std::deque<RefPtr<TcpEndpoint>> unaccepted, waiting;
  RefPtr<Connection> connection;
  int side;
  {
    base::MutexLock lock(mu_);
    state_ = State::kClosed;
    unaccepted = accept_queue_.TakeAll();
    waiting.swap(waiting_);
    connection = std::move(connection_);
    side = side_;
  }
  if (connection != nullptr) connection->Close(side, abort);
  for (auto& embryo : unaccepted) {
    embryo->Close(/*abort=*/true);
    embryo->net_->tcp().Remove(*embryo);
  }
  for (auto& client : waiting) {
    {
      base::MutexLock lock(client->mu_);
      if (client->state_ != State::kConnecting) continue;
      client->state_ = State::kClosed;
      client->failed_ = true;
      client->pending_error_ = ECONNREFUSED;
    }
    client->events_->queue.Notify(kSocketReadable | kSocketWritable | base::kEventErr | base::kEventHup);
  }
}

// --- TcpSocket

TcpSocket::TcpSocket(const SocketRequest& request, RefPtr<SocketEvents> events, RefPtr<TcpEndpoint> endpoint)
    : InetSocket(request, IPPROTO_TCP),
      endpoint_(endpoint != nullptr ? std::move(endpoint) : base::MakeRef<TcpEndpoint>(request.net, events_)) {
  if (events != nullptr) {
    events_ = std::move(events);
    bound_ = true;
    asked_ = endpoint_->local;
  } else {
    send_buffer_.store(kInitialSend, std::memory_order_relaxed);
    receive_buffer_.store(kInitialReceive, std::memory_order_relaxed);
    endpoint_->v6 = v6();
    endpoint_->local.address = v6() ? IpAddress::V6Any() : IpAddress::V4(0);
    endpoint_->peer.address = endpoint_->local.address;
    endpoint_->uid = request.creds != nullptr ? request.creds->euid : 0;
  }
  endpoint_->ino = inode()->ino();
}

TcpSocket::~TcpSocket() {
  endpoint_->Close(linger_seconds() == 0);
  net().tcp().Remove(*endpoint_);
}

std::pair<RefPtr<Connection>, int> TcpSocket::Current() {
  base::MutexLock lock(endpoint_->mu_);
  return {endpoint_->connection_, endpoint_->side_};
}

Result<void> TcpSocket::BindLocked(IpEndpoint to) {
  IpEndpoint before = endpoint_->local;
  net().tcp().Update(*endpoint_, [&](PortBinding& b) {
    b.v6_only = v6_only();
    b.reuse_address = reuse_address();
    b.reuse_port = reuse_port();
    b.local = to;
  });
  auto bound = net().tcp().Bind(*endpoint_, /*datagram=*/false);
  if (!bound.ok()) {
    net().tcp().Update(*endpoint_, [&](PortBinding& b) { b.local = before; });
    return bound;
  }
  bound_ = true;
  return {};
}

Result<void> TcpSocket::Bind(VfsContext& ctx, const SocketAddress& address) {
  IpEndpoint to = TRY(ParseBindAddress(ctx, address));
  base::FiberMutexLock naming(naming_);
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ != TcpEndpoint::State::kClosed) return Errno(EINVAL);
  }
  if (bound_) return Errno(EINVAL);
  TRY(BindLocked(to));
  asked_ = to;
  return {};
}

Result<void> TcpSocket::Connect(VfsContext&, const SocketAddress& address, RefPtr<SocketEvents>*) {
  base::FiberMutexLock naming(naming_);
  using State = TcpEndpoint::State;
  if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
  if (address.family() == AF_UNSPEC) {
    // tcp_disconnect(): a reset, and the socket is as new, but for the name that bind gave it.
    endpoint_->Close(/*abort=*/true);
    net().tcp().Remove(*endpoint_);
    const IpEndpoint any{v6() ? IpAddress::V6Any() : IpAddress::V4(0), 0};
    net().tcp().Update(*endpoint_, [&](PortBinding& b) {
      b.peer = any;
      b.local = any;
      b.listening = false;
    });
    bound_ = false;
    {
      base::MutexLock lock(endpoint_->mu_);
      endpoint_->failed_ = false;
      endpoint_->pending_error_ = 0;
    }
    if (asked_.port != 0) TRY(BindLocked(asked_));
    return {};
  }
  {
    base::MutexLock lock(endpoint_->mu_);
    switch (endpoint_->state_) {
      case State::kListening:
        return Errno(EISCONN);
      case State::kConnecting:
        return Errno(EALREADY);
      case State::kConnected:
        if (std::exchange(endpoint_->connect_reported_, true)) return Errno(EISCONN);
        return {};
      case State::kClosed:
        if (std::exchange(endpoint_->failed_, false)) {
          int error = std::exchange(endpoint_->pending_error_, 0);
          return Errno(error != 0 ? error : ECONNABORTED);
        }
    }
  }
  TRY(base::ChargedMemory::Admit());
  IpEndpoint to = TRY(ParseAddress(address));
  IpAddress source = endpoint_->local.address;
  to = TRY(Route(to, &source));
  if (!bound_) TRY(BindLocked({source, 0}));
  net().tcp().Update(*endpoint_, [&](PortBinding& b) {
    b.local.address = source;
    b.peer = to;
  });
  RefPtr<PortBinding> found = net().tcp().Find(to, endpoint_->local, /*listeners=*/true);
  bool refused = true, waits = false, connected = false;
  if (found != nullptr) {
    auto& listener = static_cast<TcpEndpoint&>(*found);
    base::MutexPairLock lock(endpoint_->mu_, listener.mu_);
    if (listener.state_ == State::kListening) {
      refused = false;
      endpoint_->connect_reported_ = true;
      if (!listener.accept_queue_.full()) {
        TcpEndpoint::EstablishLocked(listener, *endpoint_);
        connected = true;
        endpoint_->connect_reported_ = !nonblocking();
      } else if (listener.waiting_.size() < TcpEndpoint::kMaxWaiting) {
        waits = true;
        endpoint_->state_ = State::kConnecting;
        endpoint_->connect_reported_ = false;
        listener.waiting_.push_back(endpoint_);
      } else {
        refused = true;
      }
    }
  }
  if (connected) {
    static_cast<TcpEndpoint&>(*found).events_->queue.Notify(kSocketReadable);
    // Somebody may poll this socket since before.
    events_->queue.Notify(kSocketWritable);
  }
  if (refused) {
    net().tcp().Update(*endpoint_, [](PortBinding& b) { b.peer.port = 0; });
    if (!nonblocking()) return Errno(ECONNREFUSED);
    {
      base::MutexLock lock(endpoint_->mu_);
      endpoint_->failed_ = true;
      endpoint_->pending_error_ = ECONNREFUSED;
    }
    events_->queue.Notify(kSocketReadable | kSocketWritable | base::kEventErr | base::kEventHup);
  }
  // Linux answers EINPROGRESS also when all is done by then: the handshake runs after the call has looked
  // (inet_stream_connect).
  if (nonblocking() || waits) return Errno(EINPROGRESS);
  return {};
}

Result<void> TcpSocket::Listen(VfsContext&, int backlog) {
  base::FiberMutexLock naming(naming_);
  using State = TcpEndpoint::State;
  bool again;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ != State::kClosed && endpoint_->state_ != State::kListening) return Errno(EINVAL);
    again = endpoint_->state_ == State::kListening;
  }
  if (!again) {
    if (!bound_) TRY(BindLocked({endpoint_->local.address, 0}));
    TRY(net().tcp().SetListening(*endpoint_));
  }
  base::MutexLock lock(endpoint_->mu_);
  endpoint_->accept_queue_.SetBacklog(backlog);
  endpoint_->state_ = State::kListening;
  endpoint_->failed_ = false;
  return {};
}

Result<RefPtr<Socket>> TcpSocket::Accept(VfsContext& ctx, uint32_t file_flags, SocketAddress* peer) {
  TRY(CheckCount());
  using State = TcpEndpoint::State;
  RefPtr<TcpEndpoint> accepted, client;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ != State::kListening) return Errno(EINVAL);
    accepted = endpoint_->accept_queue_.Pop();
    if (accepted == nullptr) return Errno(EAGAIN);
  }
  // Room for one of those that wait.
  for (bool again = true; again;) {
    again = false;
    {
      base::MutexLock lock(endpoint_->mu_);
      if (endpoint_->waiting_.empty() || endpoint_->accept_queue_.full()) break;
      client = std::move(endpoint_->waiting_.front());
      endpoint_->waiting_.pop_front();
    }
    {
      base::MutexPairLock lock(endpoint_->mu_, client->mu_);
      if (client->state_ != State::kConnecting || endpoint_->state_ != State::kListening) {
        again = true;  // it gave up
        continue;
      }
      TcpEndpoint::EstablishLocked(*endpoint_, *client);
    }
    client->events_->queue.Notify(kSocketWritable);
  }
  SocketRequest request = request_;
  request.file_flags = file_flags;
  request.creds = ctx.creds;
  RefPtr<SocketEvents> events = accepted->events_;
  auto socket = base::MakeRef<TcpSocket>(request, std::move(events), std::move(accepted));
  socket->InheritOptions(*this);
  if (peer != nullptr) *peer = MakeAddress(socket->endpoint_->peer);
  return RefPtr<Socket>(std::move(socket));
}

Result<size_t> TcpSocket::Send(OutgoingMessage& message) {
  if ((message.flags & MSG_FASTOPEN) != 0) return Errno(EOPNOTSUPP);
  auto [connection, side] = Current();
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ == TcpEndpoint::State::kConnecting) return Errno(EAGAIN);
    if (endpoint_->pending_error_ != 0) return Errno(std::exchange(endpoint_->pending_error_, 0));
    return Errno(EPIPE);
  }
  message.rights = nullptr;  // __scm_send looks at UNIX sockets only
  return connection->Send(side, message, SenderId{});
}

Result<size_t> TcpSocket::Receive(IncomingMessage& message) {
  if ((message.flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  auto [connection, side] = Current();
  if (connection == nullptr) {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ == TcpEndpoint::State::kConnecting) return Errno(EAGAIN);
    if (endpoint_->pending_error_ != 0) return Errno(std::exchange(endpoint_->pending_error_, 0));
    if (endpoint_->failed_) return 0;
    return Errno(ENOTCONN);
  }
  connection->SetUrgentInline(side, Flag(SO_OOBINLINE));
  auto received = connection->Receive(side, message);
  message.sender.reset();
  return received;
}

Result<bool> TcpSocket::AtMark() {
  auto [connection, side] = Current();
  return connection != nullptr && connection->AtMark(side);
}

Result<void> TcpSocket::Shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  auto [connection, side] = Current();
  if (connection != nullptr) return connection->Shutdown(side, how);
  using State = TcpEndpoint::State;
  State state;
  {
    base::MutexLock lock(endpoint_->mu_);
    state = endpoint_->state_;
  }
  if (state == State::kListening && how != SHUT_WR) {
    // It stops listening, and accept fails (inet_shutdown); the port stays.
    endpoint_->Close(/*abort=*/false);
    net().tcp().Update(*endpoint_, [](PortBinding& b) { b.listening = false; });
    events_->queue.Notify(kSocketReadable | kSocketWritable | base::kEventHup);
    return {};
  }
  if (state == State::kListening) return {};
  if (state == State::kConnecting) {
    {
      base::MutexLock lock(endpoint_->mu_);
      endpoint_->state_ = State::kClosed;
      endpoint_->failed_ = true;
    }
    events_->queue.Notify(kSocketReadable | kSocketWritable | base::kEventHup);
    return {};
  }
  return Errno(ENOTCONN);
}

Result<SocketAddress> TcpSocket::Name() {
  IpEndpoint local;
  net().tcp().Update(*endpoint_, [&](PortBinding& b) { local = b.local; });
  return MakeAddress(local);
}

Result<SocketAddress> TcpSocket::PeerName() {
  auto [connection, side] = Current();
  if (connection == nullptr || connection->Over(side)) return Errno(ENOTCONN);
  IpEndpoint peer;
  net().tcp().Update(*endpoint_, [&](PortBinding& b) { peer = b.peer; });
  return MakeAddress(peer);
}

base::EventMask TcpSocket::Readiness() {
  RefPtr<Connection> connection;
  int side;
  {
    base::MutexLock lock(endpoint_->mu_);
    switch (endpoint_->state_) {
      case TcpEndpoint::State::kListening:
        return endpoint_->accept_queue_.empty() ? 0 : kSocketReadable;
      case TcpEndpoint::State::kConnecting:
        return 0;
      case TcpEndpoint::State::kClosed: {
        base::EventMask events = base::kEventHup | kSocketWritable;
        if (endpoint_->failed_) events |= kSocketReadable | base::kEventRdHup;
        if (endpoint_->pending_error_ != 0) events |= base::kEventErr;
        return events;
      }
      case TcpEndpoint::State::kConnected:
        break;
    }
    connection = endpoint_->connection_;
    side = endpoint_->side_;
  }
  connection->SetUrgentInline(side, Flag(SO_OOBINLINE));
  return connection->Readiness(side);
}

RefPtr<Lingering> TcpSocket::Linger() {
  const int seconds = linger_seconds();
  if (seconds <= 0) return nullptr;
  auto [connection, side] = Current();
  if (connection == nullptr) return nullptr;
  auto lingering = base::TryMakeRef<LingeringConnection>(std::move(connection), side, events_, seconds);
  return lingering.ok() ? *std::move(lingering) : nullptr;
}

// --- Options

std::string TcpSocket::Info() {
  tcp_info info{};
  info.tcpi_state = static_cast<uint8_t>(endpoint_->LinuxState());
  info.tcpi_options = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;
  info.tcpi_snd_wscale = info.tcpi_rcv_wscale = 7;
  info.tcpi_rto = 201000;
  info.tcpi_ato = 40000;
  info.tcpi_snd_mss = kSegment;
  info.tcpi_rcv_mss = 536;
  info.tcpi_pmtu = kLoopbackMtu;
  info.tcpi_rcv_ssthresh = info.tcpi_rcv_space = 65483;
  info.tcpi_rtt = 20;
  info.tcpi_rttvar = 10;
  info.tcpi_snd_ssthresh = INT32_MAX;
  info.tcpi_snd_cwnd = 10;
  info.tcpi_advmss = kSegment;
  info.tcpi_reordering = 3;
  {
    base::MutexLock lock(endpoint_->mu_);
    if (endpoint_->state_ == TcpEndpoint::State::kListening) {
      info.tcpi_unacked = static_cast<uint32_t>(endpoint_->accept_queue_.size());
      info.tcpi_sacked = static_cast<uint32_t>(endpoint_->accept_queue_.backlog());
    }
  }
  if (auto [connection, side] = Current(); connection != nullptr) {
    auto counters = connection->counters(side);
    info.tcpi_bytes_acked = info.tcpi_bytes_sent = counters.sent;
    info.tcpi_bytes_received = counters.received;
  }
  return std::string(reinterpret_cast<const char*>(&info), sizeof(info));
}

// do_tcp_getsockopt()
Result<std::string> TcpSocket::GetOption(VfsContext& ctx, int level, int name) {
  if (level != IPPROTO_TCP) return InetSocket::GetOption(ctx, level, name);
  for (const TcpOptionRow& row : kTcpOptions) {
    if (row.name == name) return KeptOption(level, name, row.initial);
  }
  switch (name) {
    case TCP_MAXSEG: {
      if (HasPeer()) return IntBytes(kSegment);
      int wanted = KeptInt(level, name, 0);
      return IntBytes(wanted != 0 ? wanted : 536);
    }
    case TCP_INFO:
      return Info();
    case TCP_CONGESTION: {
      std::string kept = KeptOption(level, name, 0);
      std::string value = kept[0] == 0 ? "cubic" : kept;
      value.resize(16);
      return value;
    }
    case TCP_CC_INFO:
    case TCP_SAVED_SYN:
    case TCP_ULP:
      return std::string();
    case TCP_REPAIR:
      return IntBytes(0);
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<void> TcpSocket::SetOption(VfsContext& ctx, int level, int name, std::string_view value) {
  if (level != IPPROTO_TCP) return InetSocket::SetOption(ctx, level, name, value);
  if (name == TCP_CONGESTION) {
    std::string text(value.substr(0, 15));
    text = text.substr(0, text.find('\0'));
    if (text != "cubic" && text != "reno") return Errno(text.empty() ? EINVAL : ENOENT);
    KeepOption(level, name, text + std::string(1, '\0'));
    return {};
  }
  if (name == TCP_ULP) return Errno(ENOENT);
  if (name == TCP_REPAIR) return Errno(EPERM);
  int v = TRY(IntValue(value));
  if (name == TCP_MAXSEG) {
    if (v != 0 && (v < 88 || v > 32767)) return Errno(EINVAL);
    KeepOption(level, name, IntBytes(v));
    return {};
  }
  for (const TcpOptionRow& row : kTcpOptions) {
    if (row.name != name) continue;
    if (row.min == 0 && row.max == 1) {
      v = v != 0 ? 1 : 0;
    } else if (v < row.min || v > row.max) {
      return Errno(EINVAL);
    }
    KeepOption(level, name, IntBytes(v));
    return {};
  }
  return Errno(ENOPROTOOPT);
}

void TcpSocket::OptionsChanged() {
  if (send_buffer_set_.load(std::memory_order_relaxed))
    endpoint_->send_space_.store(static_cast<size_t>(send_buffer()));
  endpoint_->receive_space_.store(static_cast<size_t>(receive_buffer()));
  net().tcp().Update(*endpoint_, [&](PortBinding& b) {
    b.reuse_address = reuse_address();
    b.reuse_port = reuse_port();
  });
  if (auto [connection, side] = Current(); connection != nullptr) {
    // The peer's receive buffer is not known here: a send buffer that was set counts alone.
    if (send_buffer_set_.load(std::memory_order_relaxed)) {
      connection->SetSendLimit(side, static_cast<size_t>(send_buffer()) + 131072);
    }
    connection->SetLowWater(side, receive_low_water());
    connection->SetWindow(side, static_cast<size_t>(receive_buffer()));
  }
}

Result<int> TcpSocket::ReadableBytes() {
  if (Listening()) return Errno(EINVAL);
  auto [connection, side] = Current();
  return connection != nullptr ? static_cast<int>(connection->ReadableBytes(side)) : 0;
}

Result<int> TcpSocket::UnsentBytes() {
  if (Listening()) return Errno(EINVAL);
  return 0;  // what is sent has arrived
}

int TcpSocket::TakeError() {
  auto [connection, side] = Current();
  if (connection != nullptr) return connection->TakeError(side);
  base::MutexLock lock(endpoint_->mu_);
  return std::exchange(endpoint_->pending_error_, 0);
}

bool TcpSocket::Listening() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->state_ == TcpEndpoint::State::kListening;
}

bool TcpSocket::Bound() {
  base::FiberMutexLock naming(naming_);
  return bound_;
}

bool TcpSocket::HasPeer() {
  base::MutexLock lock(endpoint_->mu_);
  return endpoint_->connection_ != nullptr;
}

}  // namespace sentry
