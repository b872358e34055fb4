#include "sentry/control/server.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/logging.h"
#include "base/status_macros.h"
#include "base/syscall_unsafe.h"
#include "sentry/control/messages.h"

namespace sentry::control {
namespace {

constexpr int kInitPid = 1;
constexpr int kMaxSignal = 64;

}  // namespace

struct ControlServer::Outcome {
  uint64_t connection_id;  // 0: the server's own wait for init
  uint64_t request_id;
  absl::StatusOr<int> status;
};

// Shared with the callbacks of WaitProcess, which run on any thread.
struct ControlServer::Mailbox {
  explicit Mailbox(int wakeup) : wakeup(wakeup) {}
  void Post(Outcome outcome) {
    base::MutexLock lock(mu);
    if (closed) return;
    outcomes.push_back(std::move(outcome));
    uint64_t one = 1;
    (void)base::Host(SYS_write, wakeup, &one, sizeof(one));
  }
  base::Mutex mu;
  std::vector<Outcome> outcomes GUARDED_BY(mu);
  bool closed GUARDED_BY(mu) = false;
  const int wakeup;
};

struct ControlServer::Connection {
  uint64_t id;
  base::UniqueFd socket;
  FrameReader reader;
  std::string unsent;
  std::set<std::pair<uint64_t, int32_t>> waits;  // request id, pid
  std::set<int32_t> dependents;                  // processes to kill when the connection ends
  bool closing = false;
};

ControlServer::ControlServer(SandboxOps& ops, Options options)
    : ops_(ops), options_(std::move(options)), mailbox_(std::make_shared<Mailbox>(options_.wakeup.get())) {}

ControlServer::~ControlServer() {
  base::MutexLock lock(mailbox_->mu);
  mailbox_->closed = true;
}

int ControlServer::Run() {
  ops_.WaitProcess(kInitPid, [mailbox = mailbox_](absl::StatusOr<int> status) {
    mailbox->Post({0, 0, std::move(status)});
  });
  std::vector<pollfd> fds;
  std::vector<Connection*> polled;
  while (!ended_) {
    fds.clear();
    polled.clear();
    fds.push_back({options_.wakeup.get(), POLLIN, 0});
    fds.push_back({options_.terminal_signals.get(), POLLIN, 0});
    fds.push_back({connections_.size() < kMaxConnections ? options_.listener.get() : -1, POLLIN, 0});
    for (auto& connection : connections_) {
      short events = POLLIN;
      if (!connection->unsent.empty()) events |= POLLOUT;
      fds.push_back({connection->socket.get(), events, 0});
      polled.push_back(connection.get());
    }
    auto n = base::Host(SYS_ppoll, fds.data(), fds.size(), nullptr, nullptr, 0);
    if (!n.ok()) continue;  // EINTR: a signal that somebody else handles
    for (size_t i = 0; i < polled.size(); ++i) {
      short events = fds[i + 3].revents;
      Connection& connection = *polled[i];
      if ((events & POLLOUT) != 0 && !SendPending(connection.socket.get(), connection.unsent))
        connection.closing = true;
      if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) ReadFrom(connection);
    }
    if ((fds[0].revents & POLLIN) != 0) TakeOutcomes();
    if ((fds[1].revents & POLLIN) != 0) TakeTerminalSignals();
    if ((fds[2].revents & POLLIN) != 0) AcceptAll();
    for (auto it = connections_.begin(); it != connections_.end();) {
      if (!(*it)->closing) {
        ++it;
        continue;
      }
      Close(**it);
      it = connections_.erase(it);
    }
  }
  TakeOutcomes();
  AnswerTheRest();
  Flush(1000);
  return init_status_;
}

void ControlServer::AcceptAll() {
  auto fd = base::Host(SYS_accept4, options_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (!fd.ok()) return;
  auto connection = std::make_unique<Connection>();
  connection->id = next_connection_id_++;
  connection->socket.reset(static_cast<int>(*fd));
  connections_.push_back(std::move(connection));
}

void ControlServer::ReadFrom(Connection& connection) {
  if (connection.closing) return;
  FrameReader::State state = connection.reader.Receive(connection.socket.get(), MSG_DONTWAIT);
  Frame frame;
  while (!connection.closing && connection.reader.Next(frame)) Handle(connection, std::move(frame));
  if (state == FrameReader::State::kClosed || connection.reader.broken()) connection.closing = true;
}

void ControlServer::Handle(Connection& connection, Frame frame) {
  pb::Request request;
  if (!request.ParseFromString(frame.payload)) {
    connection.closing = true;
    return;
  }
  pb::Reply reply;
  reply.set_id(request.id());
  bool deferred = false;
  absl::Status status = Dispatch(connection, request, std::move(frame.fds), reply, deferred);
  if (deferred) return;
  reply.set_code(static_cast<int32_t>(status.code()));
  if (!status.ok()) reply.set_error(std::string(status.message()));
  Send(connection, reply);
}

absl::Status ControlServer::Dispatch(Connection& connection, const pb::Request& request,
                                     std::vector<base::UniqueFd> fds, pb::Reply& reply, bool& deferred) {
  switch (request.call_case()) {
    case pb::Request::kStart:
      return ops_.Start();
    case pb::Request::kExec:
      return Exec(connection, request.exec(), std::move(fds), reply);
    case pb::Request::kWait: {
      if (connection.waits.size() >= kMaxPendingWaits) return absl::ResourceExhaustedError("too many waits");
      deferred = true;
      connection.waits.emplace(request.id(), request.wait().pid());
      if (request.wait().pid() == kInitPid) return absl::OkStatus();  // answered when Run's own wait for init ends
      ops_.WaitProcess(request.wait().pid(), [mailbox = mailbox_, connection_id = connection.id,
                                              request_id = request.id()](absl::StatusOr<int> status) {
        mailbox->Post({connection_id, request_id, std::move(status)});
      });
      return absl::OkStatus();
    }
    case pb::Request::kSignal:
      return Signal(request.signal());
    case pb::Request::kProcesses: {
      pb::ProcessesReply* list = reply.mutable_processes();
      for (const ProcessInfo& info : ops_.ListProcesses()) ProcessInfoToMessage(info, *list->add_processes());
      return absl::OkStatus();
    }
    case pb::Request::kPause:
      return ops_.Pause();
    case pb::Request::kResume:
      return ops_.Resume();
    case pb::Request::kStats:
      StatsToMessage(ops_.GetStats(), *reply.mutable_stats());
      return absl::OkStatus();
    case pb::Request::kResize:
      if (request.resize().rows() > 0xffff || request.resize().columns() > 0xffff) {
        return absl::InvalidArgumentError("terminal size out of range");
      }
      return ops_.ResizeTerminal(request.resize().pid(), static_cast<uint16_t>(request.resize().rows()),
                                 static_cast<uint16_t>(request.resize().columns()));
    case pb::Request::CALL_NOT_SET:
      break;
  }
  return absl::UnimplementedError("the sandbox does not know this request; it was started by another version");
}

absl::Status ControlServer::Exec(Connection& connection, const pb::ExecRequest& request,
                                 std::vector<base::UniqueFd> fds, pb::Reply& reply) {
  ASSIGN_OR_RETURN(ProcessSpec spec, ProcessFromMessage(request.process(), fds));
  ASSIGN_OR_RETURN(int32_t pid, ops_.CreateProcess(std::move(spec)));
  if (request.kill_on_hangup()) connection.dependents.insert(pid);
  reply.mutable_exec()->set_pid(pid);
  return absl::OkStatus();
}

absl::Status ControlServer::Signal(const pb::SignalRequest& request) {
  if (request.signo() < 0 || request.signo() > kMaxSignal) return absl::InvalidArgumentError("no such signal");
  switch (request.target()) {
    case pb::SignalRequest::PROCESS:
      if (request.pid() <= 0) return absl::InvalidArgumentError("no such process");
      return ops_.SignalProcess(request.pid(), request.signo());
    case pb::SignalRequest::GROUP:
      if (request.pid() <= 0) return absl::InvalidArgumentError("no such process group");
      return ops_.SignalGroup(request.pid(), request.signo());
    case pb::SignalRequest::ALL:
      return ops_.SignalAll(request.signo());
    case pb::SignalRequest::FOREGROUND:
      return ops_.SignalForeground(request.pid(), request.signo());
    default:
      return absl::InvalidArgumentError("no such target of a signal");
  }
}

void ControlServer::Send(Connection& connection, const pb::Reply& reply) {
  connection.unsent += EncodeFrame(reply.SerializeAsString());
  if (connection.unsent.size() > kMaxUnsentBytes || !SendPending(connection.socket.get(), connection.unsent)) {
    connection.closing = true;
  }
}

void ControlServer::Close(Connection& connection) {
  for (int32_t pid : connection.dependents) (void)ops_.SignalProcess(pid, 9 /*SIGKILL*/);
}

void ControlServer::TakeOutcomes() {
  uint64_t count;
  (void)base::Host(SYS_read, options_.wakeup.get(), &count, sizeof(count));
  std::vector<Outcome> outcomes;
  {
    base::MutexLock lock(mailbox_->mu);
    outcomes.swap(mailbox_->outcomes);
  }
  for (Outcome& outcome : outcomes) {
    if (outcome.connection_id == 0) {
      ended_ = true;
      init_status_ = outcome.status.value_or(9);
      continue;
    }
    for (auto& connection : connections_) {
      if (connection->id == outcome.connection_id) Answer(*connection, outcome.request_id, outcome.status);
    }
  }
}

void ControlServer::Answer(Connection& connection, uint64_t request_id, const absl::StatusOr<int>& status) {
  auto wait = connection.waits.lower_bound({request_id, 0});
  if (wait == connection.waits.end() || wait->first != request_id) return;
  connection.dependents.erase(wait->second);
  connection.waits.erase(wait);
  pb::Reply reply;
  reply.set_id(request_id);
  reply.set_code(static_cast<int32_t>(status.status().code()));
  if (status.ok()) {
    reply.mutable_wait()->set_wait_status(*status);
  } else {
    reply.set_error(std::string(status.status().message()));
  }
  Send(connection, reply);
}

void ControlServer::AnswerTheRest() {
  // The end of init kills every other process of its PID namespace (man 7 pid_namespaces).
  for (auto& connection : connections_) {
    while (!connection->waits.empty()) {
      auto [request_id, pid] = *connection->waits.begin();
      Answer(*connection, request_id, pid == kInitPid ? init_status_ : 9 /*killed by SIGKILL*/);
    }
  }
}

void ControlServer::TakeTerminalSignals() {
  signalfd_siginfo info;
  auto n = base::Host(SYS_read, options_.terminal_signals.get(), &info, sizeof(info));
  if (!n.ok() || *n != sizeof(info)) return;
  absl::Status status = ops_.SignalForeground(kInitPid, static_cast<int>(info.ssi_signo));
  if (!status.ok()) LOG_DEBUG("terminal signal %u: %s", info.ssi_signo, std::string(status.message()).c_str());
}

void ControlServer::Flush(int timeout_ms) {
  for (auto& connection : connections_) {
    if (connection->closing || connection->unsent.empty()) continue;
    pollfd p{connection->socket.get(), POLLOUT, 0};
    timespec limit{timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
    (void)base::Host(SYS_ppoll, &p, 1, &limit, nullptr, 0);
    SendPending(connection->socket.get(), connection->unsent);
  }
}

}  // namespace sentry::control
