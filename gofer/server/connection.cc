#include "gofer/server/connection.h"

#include "gofer/protocol/channel.h"
#include "gofer/server/host_unsafe.h"

namespace gofer {

namespace {

template <typename T>
constexpr bool kIsSlow = std::is_same_v<T, FsyncRequest> || std::is_same_v<T, SyncFsRequest>;

// A worker needs little more than the frames of a handler.
constexpr size_t kWorkerStackBytes = 256 << 10;

}  // namespace

void CpuFollower::Follow(uint16_t cpu) {
  if (cpu == 0 || cpu == here_) {
    row_ = 0;
    return;
  }
  row_ = cpu == candidate_ ? row_ + 1 : 1;
  candidate_ = cpu;
  if (row_ < kRow) return;
  row_ = 0;
  // Refused if the CPU is not among those this process may use: then it stays. Not tried again until the next row.
  if (host::BindToCpu(static_cast<unsigned>(cpu) - 1).ok()) here_ = cpu;
}

Connection::Connection(base::UniqueFd socket, std::vector<ServerMount> mounts, base::UniqueFd proc_self_fd,
                       size_t max_nodes, int max_workers, bool bind_ports)
    : socket_(std::move(socket)),
      mounts_(std::move(mounts)),
      proc_self_fd_(std::move(proc_self_fd)),
      max_workers_(max_workers),
      bind_ports_(bind_ports),
      nodes_(max_nodes) {}

ServeEnd Connection::Run() {
  ServeThread();
  std::vector<pthread_t> workers;
  {
    // Workers are only started by a thread that leads, and none does any more.
    std::lock_guard lock(mu_);
    workers.swap(workers_);
  }
  for (pthread_t worker : workers) pthread_join(worker, nullptr);
  std::lock_guard lock(mu_);
  return end_;
}

void* Connection::WorkerMain(void* connection) {
  static_cast<Connection*>(connection)->ServeThread();
  return nullptr;
}

void Connection::ServeThread() {
  ServerBuffers buffers;
  while (AwaitLead()) {
    Next next;
    do {
      next = ServeOne(buffers);
    } while (next == Next::kLead);
    if (next == Next::kEnd) return;
  }
}

bool Connection::AwaitLead() {
  std::unique_lock lock(mu_);
  ++waiting_;
  lead_free_.wait(lock, [this] { return ended_ || !lead_taken_; });
  --waiting_;
  if (ended_) return false;
  lead_taken_ = true;
  return true;
}

bool Connection::HandOver() {
  std::lock_guard lock(mu_);
  if (ended_ || (waiting_ == 0 && !StartWorkerLocked())) return false;
  lead_taken_ = false;
  lead_free_.notify_one();
  return true;
}

bool Connection::StartWorkerLocked() {
  if (static_cast<int>(workers_.size()) >= max_workers_) return false;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_t worker;
  bool started = pthread_attr_setstacksize(&attributes, kWorkerStackBytes) == 0 &&
                 pthread_create(&worker, &attributes, &WorkerMain, this) == 0;
  pthread_attr_destroy(&attributes);
  if (started) workers_.push_back(worker);
  return started;
}

void Connection::End(ServeEnd how) {
  std::lock_guard lock(mu_);
  if (!ended_) end_ = how;
  ended_ = true;
  lead_free_.notify_all();
}

bool Connection::Send(ServerBuffers& buffers) {
  base::Result<void> sent = SendPacket(socket_.get(), buffers.out, buffers.fd.get(), /*wait=*/true);
  buffers.fd.reset();
  if (sent.ok()) return true;
  if (sent.error() != ETOOMANYREFS && sent.error() != EMFILE && sent.error() != ENOMEM && sent.error() != ENOBUFS) {
    return false;
  }
  // The host could not pass the descriptor (too many in flight) or the packet: the request failed, the connection
  // lives.
  Header header;
  Reader reader(buffers.out);
  Header::Code(reader, header);
  int error = sent.error() == ETOOMANYREFS ? EMFILE : sent.error().value();
  EncodeErrorReply(header.type, header.tag, error, buffers.out);
  return SendPacket(socket_.get(), buffers.out, -1, /*wait=*/true).ok();
}

template <typename RequestT>
Connection::Next Connection::Answer(const RequestT& request, ServerBuffers& buffers) {
  const Header& header = buffers.request.header;
  typename RequestT::Reply reply;
  base::Result<void> result;
  Next next = Next::kLead;
  if constexpr (kIsSlow<RequestT>) {
    auto found = nodes_.Find(request.node);
    if (found.ok()) {
      base::RefPtr<HostNode> node(*found);
      // From here on nodes_ may belong to another thread.
      if (HandOver()) next = Next::kFollow;
      result = Finish(request, *node);
    } else {
      result = found.error();
    }
  } else if constexpr (std::is_same_v<RequestT, CloseRequest>) {
    return Next::kLead;
  } else {
    bool first = std::is_same_v<RequestT, AttachRequest>;
    result = attached_ || first ? Handle(request, reply, buffers) : base::Result<void>(base::Errno(EPROTO));
  }
  if (!result.ok()) {
    buffers.fd.reset();
    EncodeErrorReply(header.type, header.tag, result.error().value(), buffers.out);
  } else if (!EncodeReply(RequestT::kType, reply, header.tag, buffers.fd.valid() ? 1 : 0, buffers.out)) {
    // Something of the host's that the protocol cannot say, such as a name with a NUL from a broken file system.
    buffers.fd.reset();
    EncodeErrorReply(header.type, header.tag, EIO, buffers.out);
  }
  if (Send(buffers)) return next;
  End(ServeEnd::kPeerClosed);
  return Next::kEnd;
}

Connection::Next Connection::ServeOne(ServerBuffers& buffers) {
  auto size = ReceivePacket(socket_.get(), buffers.packet, &buffers.passed, nullptr, /*wait=*/true);
  if (!size.ok() || *size == 0) {
    bool protocol = size.failed_with(EMSGSIZE) || size.failed_with(EBADMSG);
    bool closed = size.ok() || size.failed_with(ECONNRESET);
    End(protocol ? ServeEnd::kProtocolError : closed ? ServeEnd::kPeerClosed : ServeEnd::kHostError);
    return Next::kEnd;
  }
  ParsedRequest& request = buffers.request;
  base::Result<void> parsed = ParseRequest(std::span(buffers.packet).first(*size), request);
  // One request alone has a descriptor.
  const bool misplaced =
      buffers.passed.valid() && parsed.ok() && !std::holds_alternative<BindPortRequest>(request.body);
  if (parsed.failed_with(EBADMSG) || misplaced) {
    End(ServeEnd::kProtocolError);
    return Next::kEnd;
  }
  if (!parsed.ok()) {
    EncodeErrorReply(request.header.type, request.header.tag, parsed.error().value(), buffers.out);
    if (Send(buffers)) return Next::kLead;
    End(ServeEnd::kPeerClosed);
    return Next::kEnd;
  }
  buffers.follower.Follow(request.header.cpu);
  for (NodeId id : request.closes) {
    if (auto node = nodes_.Find(id); node.ok()) {
      DropStreamsOf(**node);
      nodes_.Remove(id);
    }
  }
  return std::visit([&](const auto& body) { return Answer(body, buffers); }, request.body);
}

}  // namespace gofer
