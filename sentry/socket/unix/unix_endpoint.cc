#include "sentry/socket/unix/unix_endpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sentry/socket/unix/unix_name.h"

namespace sentry {

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
  AcceptQueue<UnixEndpoint>::Waiting waiting;
  RefPtr<UnixEndpoint> peer;
  RefPtr<Connection> connection;
  RefPtr<HostPeer> host_peer, host_bound;
  std::string name;
  {
    base::MutexLock lock(mu_);
    host_peer.swap(host_peer_);
    host_bound.swap(host_bound_);
    state_ = State::kClosed;
    waiting = accept_queue_.TakeAll();
    peer = std::move(peer_);
    connection = connection_;
    if (abstract_) name = UnixNameBytes(name_);
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
  if (peer != nullptr && type_ == SOCK_DGRAM) peer->events_->queue.Notify(kUnixWritable);
}

std::string UnixEndpoint::Describe() {
  base::MutexLock lock(mu_);
  if (state_ == State::kClosed) return "";
  int st = state_ == State::kConnected ? 3 : 1;  // SS_CONNECTED, SS_UNCONNECTED
  std::string line =
      absl::StrFormat("%016x: %08X %08X %08X %04X %02X %5d", 0, 2, 0, state_ == State::kListening ? 1 << 16 : 0, type_,
                      st, ino_.load(std::memory_order_relaxed));
  if (name_.length > kUnixPathOffset) {
    std::string name = UnixNameBytes(name_);
    if (IsAbstractUnixName(name_)) {
      std::replace(name.begin(), name.end(), '\0', '@');
    } else {
      name = UnixPathOf(name_);
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

}  // namespace sentry
