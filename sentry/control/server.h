// ControlServer: the sentry's end of the control interface. It runs on the thread that calls Run (the sentry's first
// thread), sleeps in ppoll while nothing happens, and is the only caller of SandboxOps.
#ifndef SENTRY_CONTROL_SERVER_H_
#define SENTRY_CONTROL_SERVER_H_

#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "sentry/control/control.pb.h"
#include "sentry/control/framing.h"
#include "sentry/control/sandbox_ops.h"

namespace sentry::control {

class ControlServer {
 public:
  struct Options {
    base::UniqueFd listener;  // a listening stream socket; non-blocking is not needed
    // A signalfd whose signals the terminal of init would have sent; passed on to its foreground group. May be invalid.
    base::UniqueFd terminal_signals;
    // A non-blocking eventfd, made by the caller because the filter may be in place already.
    base::UniqueFd wakeup;
  };
  // Of connections beyond this, the next is not accepted before one has ended.
  static constexpr size_t kMaxConnections = 128;
  // Requests of one connection that are waiting at the same time.
  static constexpr size_t kMaxPendingWaits = 256;
  // Replies that a client does not take; more, and its connection is closed.
  static constexpr size_t kMaxUnsentBytes = 8 << 20;

  ControlServer(SandboxOps& ops, Options options);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Serves until init has ended; returns its wait status. Replies to those who wait for init are sent before.
  int Run();

 private:
  struct Connection;
  struct Outcome;  // what WaitProcess's callbacks leave for the control thread
  struct Mailbox;

  void AcceptAll();
  void ReadFrom(Connection& connection);
  void Handle(Connection& connection, Frame frame);
  absl::Status Dispatch(Connection& connection, const pb::Request& request, std::vector<base::UniqueFd> fds,
                        pb::Reply& reply, bool& deferred);
  absl::Status Exec(Connection& connection, const pb::ExecRequest& request, std::vector<base::UniqueFd> fds,
                    pb::Reply& reply);
  absl::Status Signal(const pb::SignalRequest& request);
  void Send(Connection& connection, const pb::Reply& reply);
  void Close(Connection& connection);
  void TakeOutcomes();
  void Answer(Connection& connection, uint64_t request_id, const absl::StatusOr<int>& status);
  void AnswerTheRest();
  void TakeTerminalSignals();
  void Flush(int timeout_ms);

  SandboxOps& ops_;
  Options options_;
  std::shared_ptr<Mailbox> mailbox_;  // outlives the server for callbacks that come late
  std::list<std::unique_ptr<Connection>> connections_;
  uint64_t next_connection_id_ = 1;
  bool ended_ = false;
  int init_status_ = 0;
};

}  // namespace sentry::control

#endif  // SENTRY_CONTROL_SERVER_H_
